"""What a responder must know to answer a request, and the answer nobody has to write.

`expected` says what the contract wants as the successful answer to one request; `sample_mock`
makes such an answer from the contract alone. Both look at the same source that the gate judges by.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from mock_mcp.contract.agree import agree
from mock_mcp.contract.binary import binary_sample
from mock_mcp.contract.bodies import header as header_of
from mock_mcp.contract.gate import Contracts, Source, asks_for
from mock_mcp.contract.items import DONE, Scope, described
from mock_mcp.contract.last_page import end_pages
from mock_mcp.contract.operation import JSON, Media, Operation, Parameter, ResponseContract
from mock_mcp.contract.request import asks_to_stream, read_parameter
from mock_mcp.contract.sample import CannotSample, sample
from mock_mcp.contract.schema import CompiledSchema
from mock_mcp.contract.stream import Stream
from mock_mcp.errors import InvalidParams
from mock_mcp.media_types import is_json
from mock_mcp.sequential import EVENT_STREAM, is_sequential, join
from mock_mcp.types import Mock

__all__ = ["Expected", "expected", "sample_mock"]


@dataclass(frozen=True)
class Expected:
    """The successful answer that a contract wants.

    Attributes:
        operation: Method and path template; None where only a schema is known.
        summary: The operation's summary, if the document gives one.
        status: The status to answer with.
        statuses: Every declared status (``200``, ``4XX``, ``default``); empty without an operation.
        media_type: The media type of the body; None when there is no body.
        compiled: The body's schema; None when nothing is declared.
        given_examples: The document's examples, valid or not.
        scope: What the schema describes of a body that is a sequence of items, such as
            server-sent events; None where it describes the body.
    """

    operation: str | None
    summary: str | None
    status: int
    statuses: tuple[str, ...]
    media_type: str | None
    compiled: CompiledSchema | None
    given_examples: tuple[Any, ...] = ()
    scope: Scope | None = None

    @property
    def schema(self) -> dict[str, Any] | None:
        """The body's closed JSON Schema."""
        return None if self.compiled is None else self.compiled.schema

    @cached_property
    def stream(self) -> Stream | None:
        """What is said of the body if it is a sequence of items, each of which is judged."""
        if self.media_type is None or self.compiled is None or self.scope is None:
            return None
        return Stream(self.media_type, self.compiled, self.scope, self.given_examples)

    @cached_property
    def examples(self) -> tuple[Any, ...]:
        """The examples that satisfy the schema; many published ones do not."""
        compiled = self.compiled
        if compiled is None:
            return ()
        given = self.given_examples if self.stream is None else self.stream.shown()
        return tuple(value for value in given if compiled.is_valid(value))


def expected(
    contracts: Contracts,
    request: Mapping[str, Any],
    *,
    status: int | None = None,
    source: Source | None = None,
) -> Expected | None:
    """Return what the contract wants as the answer to a request, None when no contract applies.

    Args:
        contracts: The contract sources.
        request: The wire object.
        status: The status of the answer; that of success when None.
        source: What `Contracts.resolve` has just said of the request.

    Raises:
        ContractDocumentError: The response's schema cannot be used.
        InvalidParams: The contract declares nothing for this status; the message says for which.
    """
    source = source or contracts.resolve(request)
    if source.match is not None:
        return _of_operation(contracts, source.match.operation, status, request)
    if source.schema is not None and source.document is not None:
        if status is not None and not 200 <= status <= 299:
            raise InvalidParams(f"Only successful answers have a schema, not those with {status}.")
        compiled = contracts.schemas.get(source.document, source.schema, "response")
        media_type = _type_of_lone(request)
        scope = described(media_type, compiled)
        kind = JSON if scope is None else media_type
        return Expected(None, None, status or 200, (), kind, compiled, scope=scope)
    return None


def sample_mock(contracts: Contracts, request: Mapping[str, Any], *, seed: int | str) -> Mock:
    """Return a valid answer made from the contract: a valid example, else generated data.

    It has the values that the call has for its properties, and is the last page of its list, as far
    as that is valid (`agree`, `end_pages`).

    Args:
        contracts: The contract sources.
        request: The wire object.
        seed: Decides every draw; the same seed and request give the same answer.

    Raises:
        CannotSample: No contract applies, or none of its values could be made.
        ContractDocumentError: The response's schema cannot be used.
    """
    call = f"{request['method']} {request['endpoint']}"
    name = call.partition("?")[0]  # a query may hold secrets
    source = contracts.resolve(request)
    wanted = expected(contracts, request, source=source)
    if wanted is None:
        reason = source.reason or "no contract applies"
        repair = ' Name one in pyproject.toml: [tool.mock-mcp] openapi = ["openapi.json"].'
        raise CannotSample(
            f"{name} cannot be answered from a contract: {reason.removesuffix('.')}."
            f"{'' if source.error or source.skipped else repair}"
        )
    seed = f"{seed}/{call}"
    match = source.match
    response = None if match is None else match.operation.response(wanted.status)
    headers = {} if response is None else _required_headers(contracts, response, seed)
    data: Any = None
    if wanted.media_type is not None and request["method"].upper() != "HEAD":
        if wanted.stream is not None:
            kind = wanted.media_type
            ends = match is not None and _ends(contracts, match.operation)
            items = wanted.stream.sample(seed, ends=ends)
            if match is not None:
                wanted.stream.agree(items, request, match)
            data = join(items, kind)
        else:
            kind, data = _body(wanted, wanted.media_type, seed)
            if wanted.compiled is not None and match is not None:
                agree(data, request, match, wanted.compiled.is_valid)
        if not is_json(kind) and "*" not in kind:
            headers["content-type"] = kind
    status = None if wanted.status == 200 else wanted.status
    mock = Mock(request["requestId"], data, status, headers or None)
    verdict = contracts.check_mock(request, mock, source)
    if verdict.violations:
        raise CannotSample(f"{name}: no valid answer was found; {verdict.violations[0].hint}")
    return mock


def _body(wanted: Expected, media_type: str, seed: str) -> tuple[str, Any]:
    """Return the type of a body, and the body."""
    binary = binary_sample(media_type)
    if binary is not None:
        return binary
    if wanted.compiled is None:
        return media_type, {} if is_json(media_type) or "*" in media_type else ""
    is_valid = wanted.compiled.is_valid
    data = sample(
        wanted.compiled.schema, seed=seed, examples=wanted.given_examples, is_valid=is_valid
    )
    data = copy.deepcopy(data)  # it may be an example of the document
    end_pages(data, is_valid)
    return media_type, data


def _ends(contracts: Contracts, operation: Operation) -> bool:
    """Say whether an operation tells that ``[DONE]`` ends its streams."""
    schemas = [media.schema for media in operation.request_media if media.schema is not None]
    get = contracts.schemas.get
    told = [get(operation.document, schema, "request").schema for schema in schemas]
    return DONE.encode() in msgspec.json.encode([operation.node, told])


def _required_headers(
    contracts: Contracts, response: ResponseContract, seed: str
) -> dict[str, str | list[str]]:
    """Return a valid value for each header that an answer must have."""
    headers: dict[str, str | list[str]] = {}
    for header in response.headers:
        if not header.required:
            continue
        name = header.name.lower()
        headers[name] = "sample"
        if header.schema is not None:
            compiled = contracts.schemas.get(response.operation.document, header.schema, "response")

            def is_valid(
                value: Any, header: Parameter = header, compiled: CompiledSchema = compiled
            ) -> bool:
                return compiled.is_valid(read_parameter(_as_text(value, header), header, compiled))

            value = sample(compiled.schema, seed=f"{seed}/{header.name}", is_valid=is_valid)
            headers[name] = _as_text(value, header)
    return headers


def _as_text(value: Any, header: Parameter) -> str:
    """Return the value of a header as it is written: as JSON, or in style ``simple``."""
    if header.media_type is not None and is_json(header.media_type):
        return json.dumps(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict) and header.explode:
        return ",".join(f"{name}={_as_text(part, header)}" for name, part in value.items())
    if isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    if isinstance(value, list):
        return ",".join(_as_text(item, header) for item in value)
    return str(value)


def _media_for(response: ResponseContract, request: Mapping[str, Any]) -> Media | None:
    """Return the media to answer with: a stream where the request asks for one."""
    preferred = response.preferred
    streams = [media for media in response.media if is_sequential(media.name)]
    if not streams or preferred is None:
        return preferred
    accepted = next((media for media in streams if asks_for(request, media.name)), None)
    if asks_to_stream(request):  # whatever is accepted
        return accepted or streams[0]
    return preferred if accepted is None or asks_for(request, preferred.name) else accepted


def _type_of_lone(request: Mapping[str, Any]) -> str:
    """Return the media type to answer with where only a schema is known."""
    headers = request.get("headers")
    accept = header_of(headers, "accept") if isinstance(headers, Mapping) else None
    accepted = [part.partition(";")[0].strip() for part in (accept or "").split(",")]
    stream = next((kind for kind in accepted if is_sequential(kind)), None)
    if asks_to_stream(request):
        return stream or EVENT_STREAM
    return JSON if stream is None or asks_for(request, JSON) else stream


def _of_operation(
    contracts: Contracts, operation: Operation, wanted: int | None, request: Mapping[str, Any]
) -> Expected:
    statuses = tuple(operation.responses)
    summary = operation.node.get("summary")
    summary = summary if isinstance(summary, str) else None
    if wanted is None:
        response = next(iter((*operation.successes, *operation.responses.values())), None)
    else:
        response = operation.response(wanted)
    if response is None and wanted is not None:
        declared = ", ".join(statuses) or "none"
        raise InvalidParams(f"{operation.label} declares no {wanted}; declared: {declared}.")
    if response is None:
        return Expected(operation.label, summary, 200, statuses, None, None)
    key = response.key.replace("X", "0")  # of a range, the first
    status = wanted or (int(key) if key.isdigit() else 200)
    media = _media_for(response, request)
    if media is None:
        return Expected(operation.label, summary, status, statuses, None, None)
    compiled = None
    if media.schema is not None:
        compiled = contracts.schemas.get(operation.document, media.schema, "response")
    return Expected(
        operation.label,
        summary,
        status,
        statuses,
        media.name,
        compiled,
        response.examples_of(media),
        described(media.name, compiled, is_item_schema=media.is_item_schema),
    )
