"""What may be written down: headers by allow-list, secrets replaced, before writing and matching.

A call is cleaned by the same code when it is recorded and when it is looked for, so a request with
a new token still finds its recording. Cleaning twice changes nothing. Secrets are found by the name
of their field (header, query parameter, form field, key at any depth of a body), compared without
case, hyphens and underscores, and exactly: ``token`` is one, ``max_tokens`` is not.

Requests come from the code under test and are always cleaned. Of the answers only those of the real
API are: what an assistant, an example or a person wrote for the test holds no secret, and replacing
its ``access_token`` would make replay differ from the run that passed, or break the contract.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, Self
from urllib.parse import unquote_plus

import msgspec

from mock_mcp.recordings.format import (
    Headers,
    RecordedInteraction,
    RecordedRequest,
    RecordedResponse,
)
from mock_mcp.sequential import is_event, is_sequential, join, split
from mock_mcp.wire.json import encode
from mock_mcp.words import plain

__all__ = [
    "PLACEHOLDER",
    "REQUEST_HEADERS",
    "RESPONSE_HEADERS",
    "SECRETS",
    "Redaction",
    "is_secret",
]

PLACEHOLDER = "REDACTED"

REQUEST_HEADERS = ("content-type",)
"""Request headers that are recorded: what a reader needs to understand the body."""

RESPONSE_HEADERS = (
    "accept-ranges",
    "access-control-expose-headers",
    "allow",
    "cache-control",
    "content-disposition",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "etag",
    "last-modified",
    "link",
    "location",
    "retry-after",
    "set-cookie",
    "vary",
    "www-authenticate",
)
"""Headers of live answers that are recorded: what client code acts on, no noise.

A ``content-length`` comes this far only of the answer to a HEAD.
"""

SECRETS = (
    *("authorization", "proxy-authorization", "cookie", "set-cookie"),
    *("token", "access-token", "auth-token", "bearer-token", "csrf-token", "device-token"),
    *("id-token", "oauth-token", "private-token", "refresh-token", "security-token"),
    *("session-token", "xsrf-token", "x-access-token", "x-auth-token", "x-csrf-token"),
    *("x-xsrf-token", "x-vault-token", "x-amz-security-token", "job-token", "bot-token"),
    *("api-key", "x-api-key", "api-token", "x-api-token", "x-goog-api-key", "x-functions-key"),
    *("ocp-apim-subscription-key", "subscription-key", "dd-api-key", "dd-application-key"),
    *("access-key", "access-key-id", "aws-access-key-id", "aws-secret-access-key"),
    *("secret", "secret-key", "secret-access-key", "client-secret", "private-key"),
    *("signing-secret", "webhook-secret", "sig", "x-amz-signature", "x-amz-credential"),
    *("x-goog-signature", "x-goog-credential", "x-hub-signature", "x-hub-signature-256"),
    *("password", "passwd", "pwd", "passphrase", "current-password", "new-password"),
    *("old-password", "password-confirmation", "confirm-password", "credentials"),
    *("assertion", "client-assertion", "code-verifier", "session-id", "sessionid"),
)
"""Names of fields whose values are secrets; case, hyphens and underscores do not matter."""

_SIGNATURE = "signature"
"""A secret in a query, which it lets in; in a body it is data as any other."""
_USERINFO = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")
_PARAMETER = re.compile(r"(?P<lead>^|[?&])(?P<name>[^=&?#\s<>\"]+)=(?P<value>[^&#\s<>\"]*)")
_ELEMENT = re.compile(
    r"(?P<tag><(?:[\w.-]+:)?(?P<name>[\w.-]+)(?:\s[^<>]*)?>)(?P<value>[^<]+)(?=</)"
)
_BOUNDARY = re.compile(r";\s*boundary=(?:\"[^\"]*\"|[^;\s]*)", re.IGNORECASE)
_SECRETS = frozenset(map(plain, SECRETS))


def is_secret(name: str) -> bool:
    """Tell whether a field of this name holds a secret, by the names known without settings."""
    return plain(name) in _SECRETS


class Redaction:
    """Decide what of a call is written, and clean it.

    Args:
        names: More names of fields that hold secrets.
        keep: Names out of `SECRETS` that are harmless here.
        request_headers: More request headers to record; ``*`` matches any characters.
        response_headers: More headers of live answers to record.
        enabled: False leaves values as they are; the header lists still apply.
    """

    def __init__(
        self,
        *,
        names: Iterable[str] = (),
        keep: Iterable[str] = (),
        request_headers: Iterable[str] = (),
        response_headers: Iterable[str] = (),
        enabled: bool = True,
    ) -> None:
        secrets = {plain(name) for name in (*SECRETS, *names)} - {plain(name) for name in keep}
        self._secrets = frozenset(secrets) if enabled else frozenset()
        self._recorded = (*REQUEST_HEADERS, *request_headers)
        self._request_headers = _allowed(self._recorded)
        self._answered = (*RESPONSE_HEADERS, *response_headers)
        self._response_headers = _allowed(self._answered)

    def recording(self, request_headers: Iterable[str]) -> Self:
        """Return the same redaction that records more request headers."""
        wanted = tuple(request_headers)
        if all(self._request_headers(name.lower()) for name in wanted):
            return self
        names = (*self._recorded, *wanted)
        more = copy.copy(self)
        more._recorded = names  # noqa: SLF001 - of this class
        more._request_headers = _allowed(names)  # noqa: SLF001 - of this class
        return more

    def request(self, request: RecordedRequest) -> RecordedRequest:
        """Return a request as it is recorded and matched."""
        return RecordedRequest(
            request.method.upper(),
            self.url(request.url),
            self._headers(request.headers, self._request_headers),
            self._body(request.body, request.headers),
        )

    def interaction(
        self, interaction: RecordedInteraction, response_headers: Iterable[str] = ()
    ) -> RecordedInteraction:
        """Return an interaction as it is recorded.

        Args:
            interaction: As it happened.
            response_headers: More headers of a live answer to record.
        """
        response = interaction.response
        if response is not None:
            live = interaction.source == "live"
            response = self._live(response, response_headers) if live else _lower(response)
        replace = msgspec.structs.replace
        return replace(interaction, request=self.request(interaction.request), response=response)

    def _live(self, response: RecordedResponse, more: Iterable[str]) -> RecordedResponse:
        names = tuple(more)
        allowed = _allowed((*self._answered, *names)) if names else self._response_headers
        return msgspec.structs.replace(
            response,
            headers=self._headers(response.headers, allowed),
            body=self._body(response.body, response.headers),
        )

    def _secret(self, name: str) -> bool:
        return plain(name) in self._secrets

    def url(self, url: str) -> str:
        """Return a URL without the secrets in its user info and query, and without fragment."""
        url = url.partition("#")[0]
        if not self._secrets:
            return url
        if "@" in url:
            url = _USERINFO.sub(rf"\1{PLACEHOLDER}@", url)
        head, mark, query = url.partition("?")
        return head + self._parameters(mark + query) if query else url

    # -- Places -------------------------------------------------------------------------------

    def _headers(self, headers: Headers, allowed: Callable[[str], bool]) -> Headers:
        return {
            name: self._header(name, value)
            for raw_name, value in headers.items()
            if allowed(name := raw_name.lower())
        }

    def _header(self, name: str, value: str | list[str]) -> str | list[str]:
        if isinstance(value, list):
            return [str(self._header(name, item)) for item in value]
        if name == "content-type":
            return _BOUNDARY.sub("", value)
        if not self._secret(name):
            return self._parameters(value)
        if name == "set-cookie":  # the first pair is the cookie, its attributes are kept
            cookie, mark, attributes = value.partition(";")
            return _crumbled(cookie) + mark + attributes
        if name == "cookie":
            return ";".join(map(_crumbled, value.split(";")))
        return PLACEHOLDER

    def _parameters(self, text: str) -> str:
        """Replace the secrets among the ``name=value`` pairs of queries inside a text."""
        if "=" not in text or not self._secrets:
            return text

        def cleaned(pair: re.Match[str]) -> str:
            name = pair["name"]
            said = unquote_plus(name) if "%" in name or "+" in name else name
            if pair["value"] and (self._secret(said) or plain(said) == _SIGNATURE):
                return f"{pair['lead']}{name}={PLACEHOLDER}"
            return pair[0]

        return _PARAMETER.sub(cleaned, text)

    # -- Bodies -------------------------------------------------------------------------------

    def _body(self, body: Any, headers: Headers) -> Any:
        if body is msgspec.UNSET or not self._secrets:
            return body
        if isinstance(body, str | list) and is_sequential(kind := _content_type(headers)):
            return self._items(body, kind)
        if isinstance(body, str):
            return self._text(body)
        if isinstance(body, dict) and len(body) == 1:
            parts = body.get("$multipart")
            if isinstance(parts, list):
                return {"$multipart": [self._part(part) for part in parts]}
        return self._value(body)

    def _text(self, text: str) -> str:
        """Clean a body that is text: XML, and JSON and forms without a telling content type."""
        first = text.lstrip("\ufeff \t\r\n")[:1]
        if first == "<":
            text = _ELEMENT.sub(self._element, text)
        elif first in ("{", "["):
            try:
                value = msgspec.json.decode(text)
                cleaned = self._value(value)
                return text if cleaned is value else encode(cleaned).decode()
            except (ValueError, RecursionError):
                return text
        return self._parameters(text)

    def _element(self, element: re.Match[str]) -> str:
        """Replace the text of an XML element whose name is that of a secret."""
        is_shown = element["value"].isspace() or not self._secret(element["name"])
        return element[0] if is_shown else element["tag"] + PLACEHOLDER

    def _items(self, body: str | list[Any], kind: str) -> str | list[Any]:
        """Clean a sequential body: the same object when it has no secrets."""
        cleaned: list[Any] = []
        is_clean = True
        for item in split(body, kind) if isinstance(body, str) else body:
            parts = split(item, kind) if isinstance(item, str) else [item]
            values = [self._item(part) for part in parts]
            is_clean = is_clean and values == parts
            cleaned += [item] if values == parts else values
        if is_clean:
            return body
        return join(cleaned, kind) if isinstance(body, str) else cleaned

    def _item(self, item: Any) -> Any:
        if isinstance(item, str):
            return self._text(item)
        if is_event(item) and isinstance(data := item["data"], str):
            return {**item, "data": self._text(data)}
        return self._value(item)

    def _part(self, part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        if self._secret(str(part.get("name", ""))):
            kept = {name: value for name, value in part.items() if name != "$base64"}
            return {**kept, "data": PLACEHOLDER}
        return self._value(part)

    def _value(self, value: Any) -> Any:
        """Return a JSON value without its secrets: the same object when it has none."""
        if isinstance(value, str):
            return self._parameters(value) if "?" in value else value
        if isinstance(value, list):
            items = [self._value(item) for item in value]
            return items if any(map(_differs, items, value)) else value
        if isinstance(value, dict):
            fields = {
                name: _hidden(inner) if self._secret(str(name)) else self._value(inner)
                for name, inner in value.items()
            }
            return fields if any(map(_differs, fields.values(), value.values())) else value
        return value


def _content_type(headers: Headers) -> str:
    found = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    return found if isinstance(found, str) else found[0]


def _crumbled(pair: str) -> str:
    """Return a cookie pair without its value; what has no name is all value."""
    name, mark, _ = pair.partition("=")
    return f"{name}={PLACEHOLDER}" if mark else PLACEHOLDER


def _hidden(value: Any) -> Any:
    """Replace every text and number; what is empty, null or a boolean tells nothing."""
    if isinstance(value, dict):
        return {name: _hidden(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_hidden(item) for item in value]
    if value is None or isinstance(value, bool) or value == "":
        return value
    return value if value == PLACEHOLDER else PLACEHOLDER


def _differs(one: Any, other: Any) -> bool:
    return one is not other


def _lower(response: RecordedResponse) -> RecordedResponse:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return msgspec.structs.replace(response, headers=headers)


def _allowed(names: Iterable[str]) -> Callable[[str], bool]:
    """Return a test for lower-case header names; ``*`` in a name stands for any characters."""
    lower = [name.lower() for name in names]
    exact = frozenset(name for name in lower if "*" not in name)
    patterns = [name for name in lower if "*" in name]
    if not patterns:
        return exact.__contains__
    return lambda name: name in exact or any(fnmatchcase(name, pattern) for pattern in patterns)
