"""One mocked test: every call it makes is policed, then replayed or obtained, then staged.

A `Scope` is the exchange that the interceptors ask, and what the pytest fixture hands out. For each
call, in this order: a hand-written answer (`Scope.add_response`), the recording, and, if the mode
allows, a new answer from the source. Recorded and new answers are both checked against the
contract. What was obtained is staged, and written only when the test passes. What the real API
answers (`mock_mcp.scope.live`) is delivered even if it breaks the contract: then the test fails.

What went wrong below the code under test (a contract violation, a missing recording, a blocked
connection) is also kept in `Scope.failures`: the code may swallow the exception, the test must not.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec

from mock_mcp.browser import Lull, PageCallFailed, UrlMatch, route
from mock_mcp.client.police import ContractMode, OpenApi, Police
from mock_mcp.errors import (
    ConfigurationError,
    ContractViolation,
    ContractWarning,
    MockMcpDisabled,
    MockMcpError,
)
from mock_mcp.exchange import (
    Decision,
    FailureKind,
    HostRules,
    HttpRequest,
    HttpResponse,
    NetworkBlocked,
    Origin,
    Send,
    SendAsync,
    TransportFailure,
    decode_body,
)
from mock_mcp.recordings.format import (
    RecordedInteraction,
    RecordedRequest,
    RecordedResponse,
)
from mock_mcp.recordings.match import Matching
from mock_mcp.recordings.miss import (
    RecordingMiss,
    Repair,
    explain_miss,
    repair_command,
    source_of,
)
from mock_mcp.recordings.paths import Place
from mock_mcp.recordings.redact import Redaction
from mock_mcp.recordings.store import Promoted, RecordingFile
from mock_mcp.runtime.loops import in_asyncio, in_thread
from mock_mcp.runtime.project import Project
from mock_mcp.scope.call import Call
from mock_mcp.scope.client import LazyClient
from mock_mcp.scope.hand import HandWritten
from mock_mcp.scope.live import LiveAnswers
from mock_mcp.scope.settings import ScopeSettings
from mock_mcp.types import Mock

__all__ = ["Polices", "Scope"]

_FOR_ASSISTANT = Redaction(request_headers=["*"])
_WARNED_FRAMES = 6
"""Frames between the check that warns and the HTTP library's call."""


@lru_cache(maxsize=16)
def _redaction(names: tuple[str, ...] | None, response_headers: tuple[str, ...]) -> Redaction:
    """Return the redaction of settings; without names of secret fields, even (), it is off."""
    return Redaction(
        names=names or (), response_headers=response_headers, enabled=names is not None
    )


_shared_matching = lru_cache(maxsize=16)(Matching)


def _matching(settings: ScopeSettings) -> Matching:
    """Return the matching of settings; tests that share theirs share it, as they do redactions."""
    values = settings.match, settings.ignore, settings.before_match
    try:
        hash(values)
    except TypeError:  # a hook of the test's own need not be hashable
        return Matching(*values)
    return _shared_matching(*values)


class Polices:
    """Make one `Police` for all scopes with the same documents: contracts are read once.

    Args:
        project: The project, for its contract settings.
        cache_dir: The directory that holds ``mock-mcp/``.
    """

    def __init__(
        self, project: Project, *, cache_dir: str | os.PathLike[str] | None = None
    ) -> None:
        self._project = project
        self._cache_dir = cache_dir
        self._made: dict[str, Police] = {}

    def get(self, openapi: Sequence[OpenApi], mode: ContractMode | None) -> Police:
        """Return who judges by these documents beside the project's.

        Raises:
            ConfigurationError: A document is not there, or the mode is unknown.
        """
        key = repr((openapi, mode))
        if key not in self._made:
            self._made[key] = Police(
                self._project, cache_dir=self._cache_dir, openapi=openapi, mode=mode
            )
        return self._made[key]


class Scope:
    """The calls of one test, or of one fixture that several tests share.

    Args:
        place: The recording's file and test id; None records and replays nothing.
        settings: How calls are treated.
        polices: Who judges by the project's contracts; scopes of one process share it.
        client: Who asks the assistant; None when nobody may be asked.
        writer: Where the assistant's answers come from, for the recording: ``example`` when it is a
            responder that takes them from the contract.
        repair: Returns the command that obtains what is missing from a source, for error messages.
        test: What the assistant is told of the test: ``testFile``, ``testName``, ``doc``.

    Raises:
        ConfigurationError: A setting names a document that is not there, or means nothing.
    """

    def __init__(
        self,
        place: Place | None,
        settings: ScopeSettings,
        *,
        polices: Polices,
        client: LazyClient | None = None,
        writer: Literal["ai", "example"] = "ai",
        repair: Repair = repair_command,
        test: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings = settings
        self.calls: list[Call] = []
        self.failures: list[MockMcpError] = []
        self.instructions = settings.instructions
        self.file: RecordingFile | None = None
        self._polices = polices
        self._documents = settings.openapi
        self._police = polices.get(self._documents, settings.contract)
        self._hosts = HostRules(settings.hosts, passthrough=settings.passthrough)
        self._client = client
        self._writer: Literal["ai", "example"] = writer
        self._repair = repair
        self._test = {name: value for name, value in (test or {}).items() if value}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._noted = _Noted(self.failures)
        self._asking = _Asking(self.failures)
        self._hand: list[HandWritten] = []
        self._lull = Lull()
        self._is_finished = False
        self._may_obtain = settings.mode != "none"
        if place is not None:
            self.file = RecordingFile(
                place.path,
                place.test,
                matching=_matching(settings),
                redaction=_redaction(settings.redact, settings.response_headers),
                before_record=settings.before_record,
            )
            if settings.mode == "once" and self.file.exists():
                self._may_obtain = False
        self.live = LiveAnswers(self.file, self._noted)

    # -- What the test may do ----------------------------------------------------------------

    def openapi(self, *documents: OpenApi) -> None:
        """Register OpenAPI documents for the calls to come, beside those there are.

        Raises:
            ConfigurationError: A document is not there.
        """
        documents = (*documents, *self._documents)
        self._police = self._polices.get(documents, self.settings.contract)
        self._documents = documents

    def add_response(
        self,
        method: str,
        url: str | re.Pattern[str],
        data: Any = None,
        *,
        status: int = 200,
        headers: Mapping[str, str | Sequence[str]] | None = None,
        delay_ms: float | None = None,
        sequence: Iterable[Any] | None = None,
        error: FailureKind | str | None = None,
        repeat: bool = False,
        optional: bool = False,
        contract: ContractMode | None = None,
    ) -> None:
        """Answer a call by hand; asked before the recording, and not recorded.

        Args:
            method: The method, or ``*`` for any.
            url: A whole URL, or a path (any host), with ``*`` for any characters; without a query
                it is for any, with one for this query in any order. Or a compiled pattern that must
                match all of one of these.
            data: The body, in the forms of DESIGN section 6; bytes, which are sent as they are; or
                a function that takes the `Call` and returns it.
            status: The status.
            headers: The headers.
            delay_ms: How long the answer takes; longer than the client's read timeout is one.
            sequence: Bodies (or functions) of successive calls, in place of ``data``.
            error: How the call fails instead: ``refused``, ``unresolved``, ``connect_timeout``,
                ``read_timeout`` or ``reset``.
            repeat: Whether it answers again and again (the last of a sequence does).
            optional: Whether the test may end without asking for it.
            contract: How its violations of the contract are treated; the scope's setting when None.

        Raises:
            ConfigurationError: An argument means nothing, or two contradict each other.
        """
        answer = HandWritten(
            method,
            url,
            data,
            status=status,
            headers=headers,
            delay_ms=delay_ms,
            sequence=sequence,
            error=error,
            repeat=repeat,
            optional=optional,
            contract=contract,
        )
        with self._lock:
            self._hand.append(answer)

    def route(self, page: Any, url: UrlMatch) -> Any:
        """Answer the requests of a Playwright page whose URL matches, as those of HTTP libraries.

        Whatever the page makes of it, a request that cannot be answered fails the test.

        Args:
            page: A ``Page`` or ``BrowserContext``, of the sync or the async API.
            url: As ``page.route`` takes it: a glob (``**/api/**``), a pattern or a function. It
                decides alone, whatever ``hosts`` says, but hosts of ``passthrough`` are let
                through.

        Returns:
            What Playwright's own ``route`` does: an awaitable under the async API.

        Raises:
            TypeError: ``page`` is neither.
        """
        return route(page, url, self)

    def request_mock(
        self,
        endpoint: str,
        method: str = "GET",
        *,
        body: Any = None,
        headers: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Mock:
        """Ask for the answer to a call that no HTTP library makes; replayed and recorded too."""
        call = self._begin(endpoint, method, headers or {}, _given(body), metadata)
        answer = self._answer(call)
        return answer if answer is not None else self._accept(call, self._ask(call))

    async def request_mock_async(
        self,
        endpoint: str,
        method: str = "GET",
        *,
        body: Any = None,
        headers: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Mock:
        """Ask as `request_mock` does, from async code."""
        call = self._begin(endpoint, method, headers or {}, _given(body), metadata)
        answer = self._answer(call)
        return answer if answer is not None else self._accept(call, await self._ask_async(call))

    def wait_for_pending_requests(self) -> None:
        """Wait for every answer that is pending now in other threads; raise the first failure."""
        if self._client is not None and self._client.is_connected:
            self._client.sync().wait_for_pending_requests()

    async def wait_for_pending_requests_async(self) -> None:
        """Wait as `wait_for_pending_requests` does, from async code."""
        if not in_asyncio():
            await in_thread(self.wait_for_pending_requests)
        elif self._client is not None and self._client.is_connected:
            await (await self._client.asynchronous()).wait_for_pending_requests()

    # -- What the interceptors ask (mock_mcp.exchange.Exchange) ------------------------------------

    def decide(self, origin: Origin) -> Decision:
        """Return what happens to a call to ``origin``."""
        return self._hosts.decide(origin)

    def handle(self, request: HttpRequest, send: Send | None = None) -> HttpResponse:
        """Return the answer to an intercepted call."""
        call = self._begin_http(request)
        mock = self._answer(call)
        if mock is None and send is not None and self.settings.source == "live":
            with self.live.sending(call):
                response = send()
            return self.live.take(call, response, self._police)
        if mock is None:
            mock = self._accept(call, self._ask(call))
        return self._respond(request, call, mock)

    async def handle_async(
        self, request: HttpRequest, send: SendAsync | None = None
    ) -> HttpResponse:
        """Return the answer to an intercepted call, from async code."""
        return await self._handle(request, self._ask_async, send)

    def blocked(self, error: NetworkBlocked) -> None:
        """Note a refused connection: the code under test may hide it."""
        self.failures.append(error)

    # -- What the routes of pages ask (mock_mcp.browser.PageExchange) -----------------------------

    def passes(self, origin: Origin) -> bool:
        """Return whether a routed request goes its way: by ``passthrough``, or after the test."""
        return self._is_finished or self._hosts.passes(origin)

    async def handle_page(self, request: HttpRequest, send: SendAsync) -> HttpResponse:
        """Return the answer to a request of a page, which lets no error out."""
        try:
            with self._noted:
                return await self._handle(request, self._ask_for_page, send)
        except MockMcpError:
            raise
        except Exception as error:
            self.page_failed(request, error)
            raise

    def page_failed(self, request: HttpRequest, error: Exception) -> None:
        """Note an error that the page does not let out."""
        failure = PageCallFailed(
            f"{request.method} {request.url}, a request of the page, got no answer: "
            f"{type(error).__name__}: {error}"
        )
        failure.__cause__ = error
        self.failures.append(failure)

    # -- The end -----------------------------------------------------------------------------

    def verify(self) -> None:
        """Raise what the code under test swallowed, or a hand-written answer nobody asked for.

        Raises:
            MockMcpError: The first failure; `UnusedResponse`.
        """
        if self.failures:
            raise self.failures[0]
        for answer in self._hand:
            answer.check_used()

    def finish(self, *, passed: bool, prune: bool = False) -> Promoted | None:
        """Write the recording if the test passed; return what `RecordingFile.promote` did."""
        self._is_finished = True
        if self.file is None:
            return None
        if not passed:
            self.file.discard()
            return None
        mode = self.settings.mode
        if mode in ("all", "rewrite"):
            return self.file.promote("none") if self.file.staged or mode == "rewrite" else None
        if not self.file.staged and not prune:
            return None
        return self.file.promote("used" if prune else "all")

    # -- One call ----------------------------------------------------------------------------

    async def _handle(
        self,
        request: HttpRequest,
        ask: Callable[[Call], Awaitable[Mock]],
        send: SendAsync | None = None,
    ) -> HttpResponse:
        call = self._begin_http(request)
        mock = self._answer(call)
        if mock is None and send is not None and self.settings.source == "live":
            with self.live.sending(call):
                response = await send()
            return self.live.take(call, response, self._police)
        if mock is None:
            mock = self._accept(call, await ask(call))
        return self._respond(request, call, mock)

    def _begin_http(self, request: HttpRequest) -> Call:
        body = request.body_value() if request.body else msgspec.UNSET
        return self._begin(request.url, request.method, request.header_map(), body, None)

    def _begin(
        self,
        url: str,
        method: str,
        headers: Mapping[str, Any],
        body: Any,
        metadata: Mapping[str, Any] | None,
    ) -> Call:
        """Note a call and check it against its contract."""
        shown = None if body is msgspec.UNSET else body
        call = Call(method, url, headers, shown, next(self._numbers))
        call.recorded = RecordedRequest(method, url, dict(headers), body)
        call.wire = {"requestId": f"c{call.number}", "endpoint": url, "method": method}
        call.wire["headers"] = headers
        if shown is not None:
            call.wire["body"] = shown
        if metadata is not None:
            call.wire["metadata"] = metadata
        if contract := self._police.contract_of(None):
            call.wire["contract"] = contract
        with self._lock:
            self.calls.append(call)
        with self._noted:
            self._police.check(call.wire, stacklevel=_WARNED_FRAMES)
        return call

    def _answer(self, call: Call) -> Mock | None:
        """Return the answer that is known: by hand, recorded, or an example; None: ask for it."""
        for hand in self._hand:
            if (take := hand.take(call)) is not None:
                call.source = "hand"
                mock = msgspec.structs.replace(take(), request_id=call.wire["requestId"])
                with self._noted:
                    *_, media_type = self._check(call, _as_value(mock), hand.contract)
                return self._answered(call, _with_type(mock, media_type), "hand")
        with self._noted:
            answer = self._replay(call)
            if answer is not None:
                return answer
            if not self._may_obtain:
                raise self._miss(call)
            if self.settings.source == "example":
                return self._accept(call, self._sample(call), "example")
            if self._client is None and self.settings.source == "ai":
                raise MockMcpDisabled(
                    f"{call.method} {call.url} has no recording, and nobody may be asked: set "
                    "MOCK_MCP=1 to ask an assistant."
                )
        return None

    def _replay(self, call: Call) -> Mock | None:
        """Return the recorded answer if it still fits the contract."""
        if self.file is None or self.settings.mode in ("all", "rewrite"):
            return None
        found = self.file.find(call.recorded)
        if found is None:
            return None
        if found.error is not None:
            call.source = "recording"
            raise TransportFailure(found.error.kind, found.error.message)
        assert found.response is not None
        response = found.response
        call.is_bodiless = response.body is msgspec.UNSET
        data = None if call.is_bodiless else response.body
        mock = Mock(
            call.wire["requestId"], data, response.status, response.headers, response.delay_ms
        )
        try:
            self._check(call, mock, None)
        except ContractViolation as violation:
            if self._may_obtain:  # the new answer takes the place of the one that no longer fits
                call.replaces = found
                return None
            raise RecordingMiss(
                self.file.redaction.request(call.recorded),
                self.file.path,
                "contract-changed",
                self._repair(source_of([found], self.settings.source)),
                details=violation.message.splitlines()[1:],
            ) from None
        return self._answered(call, mock, "recording")

    def _accept(
        self, call: Call, mock: Mock, source: Literal["ai", "example"] | None = None
    ) -> Mock:
        """Check a new answer, of the assistant unless a source is named, stage and return it."""
        source = source or self._writer
        with self._noted:
            checked_by, operation, media_type = self._check(call, mock, None)
        status = 200 if mock.status is None else mock.status
        bodiless = call.method.upper() == "HEAD" or status in (204, 205, 304)
        mock = msgspec.structs.replace(_with_type(mock, media_type), status=status)
        headers = dict(mock.headers or {})
        if self.file is not None:
            body = msgspec.UNSET if bodiless else mock.data
            self.file.stage(
                RecordedInteraction(
                    call.recorded,
                    source,
                    RecordedResponse(status, headers, body, mock.delay_ms),
                    contract=checked_by,
                    operation=operation,
                ),
                order=call.number,
                replaces=call.replaces,
            )
        return self._answered(call, mock, source)

    def _answered(self, call: Call, mock: Mock, source: str) -> Mock:
        call.status, call.data = mock.status or 200, mock.data
        call.source = source
        return mock

    def _respond(self, request: HttpRequest, call: Call, mock: Mock) -> HttpResponse:
        with self._noted:
            return HttpResponse.from_mock(
                request,
                msgspec.UNSET if call.is_bodiless else mock.data,
                status=mock.status,
                headers=mock.headers,
                delay_s=(mock.delay_ms or 0) / 1000,
            )

    # -- Contract ----------------------------------------------------------------------------

    def _check(
        self, call: Call, mock: Mock, mode: ContractMode | None
    ) -> tuple[str | None, str | None, str | None]:
        """Check an answer; return the contract's hash, the operation, and its media type.

        Raises:
            ContractViolation: It breaks the contract, and the mode is ``enforce``.
            MockMcpError: The contract cannot judge it, and the mode is ``enforce``.
        """
        if mode == "off":
            return None, None, None
        sources = self._police.contracts_for(call.wire)
        if sources is None:
            return None, None, None
        contracts, project_mode = sources
        verdict = contracts.check_mock(call.wire, mock)
        chosen = mode or project_mode
        if verdict.error is not None:  # nobody judged it
            if chosen == "enforce":
                raise verdict.error
            message = f"The answer to {call.method} {call.url} was not checked: {verdict.error}"
            warnings.warn(message, ContractWarning, stacklevel=_WARNED_FRAMES)
        if verdict.violations:
            self._police.report(
                f"The answer to {call.method} {call.url}",
                verdict.violations,
                chosen,
                stacklevel=_WARNED_FRAMES,
            )
        if mock.headers and any(name.lower() == "content-type" for name in mock.headers):
            return verdict.contract_hash, verdict.operation, None
        return verdict.contract_hash, verdict.operation, verdict.media_type

    def _sample(self, call: Call) -> Mock:
        from mock_mcp.contract.expected import sample_mock

        sources = self._police.contracts_for(call.wire)
        if sources is None:
            reason = (
                "none is registered. Name one in pyproject.toml: [tool.mock-mcp] openapi = "
                '["openapi.json"].'
            )
            if self._police.has_contract(call.wire):
                reason = 'contract is "off"; with "warn" it is used, and nothing enforced.'
            raise ConfigurationError(
                f"{call.method} {call.url} cannot be answered from a contract: {reason}"
            )
        # The same call of the same test always gets the same sample.
        seed = self.file.test if self.file is not None else ""
        return sample_mock(sources[0], call.wire, seed=seed)

    def _miss(self, call: Call) -> MockMcpError:
        details = [reason for hand in self._hand if (reason := hand.explain(call)) is not None]
        if self.file is None:
            told = (
                f"{call.method} {call.url} has no answer: add_response gives one, and MOCK_MCP=1 "
                "asks an assistant."
            )
            return MockMcpDisabled("\n".join([told, *details]))
        recorded = (item.interaction for item in self.file.recorded())
        repair = self._repair(source_of(recorded, self.settings.source))
        return explain_miss(self.file, call.recorded, repair, details=details)

    # -- The assistant -----------------------------------------------------------------------

    def _ask(self, call: Call) -> Mock:
        with self._noted, self._asking:
            return self._assistant(call).sync().ask(self._fields(call), self.settings.timeout_s)

    async def _ask_async(self, call: Call) -> Mock:
        if not in_asyncio():
            return await in_thread(self._ask, call)
        with self._noted, self._asking:
            client = await self._assistant(call).asynchronous()
            return await client.ask(self._fields(call), self.settings.timeout_s)

    def _assistant(self, call: Call) -> LazyClient:
        if self._client is None:
            raise ConfigurationError(
                f"{call.method} {call.url} cannot be really called: no HTTP library that mock-mcp "
                "intercepts made it. Answer it from another source (mode new_episodes keeps the "
                "rest), or by hand (add_response)."
            )
        return self._client

    async def _ask_for_page(self, call: Call) -> Mock:
        """Ask together with the other requests of a page load."""
        with self._noted:  # connected first, all go on in the same turn after the lull
            await self._assistant(call).asynchronous()
        await self._lull.wait()
        return await self._ask_async(call)

    def _fields(self, call: Call) -> dict[str, Any]:
        """Return the request as the assistant reads it: no secrets, the test's context."""
        clean = _FOR_ASSISTANT.request(call.recorded)
        fields = dict(call.wire)
        fields["endpoint"], fields["headers"] = clean.url, clean.headers
        if clean.body is not msgspec.UNSET:
            fields["body"] = clean.body
        metadata = dict(fields.get("metadata") or {})
        if self.instructions and "instructions" not in metadata:
            metadata["instructions"] = self.instructions
        if self._test:
            metadata["test"] = self._test
        if metadata:
            fields["metadata"] = metadata
        return fields


class _Noted:
    """Keep this project's errors, which the code under test may swallow, for `Scope.verify`."""

    def __init__(self, failures: list[MockMcpError]) -> None:
        self._failures = failures

    def __enter__(self) -> None:
        pass

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, TransportFailure) or exc in self._failures:
            return
        if isinstance(exc, MockMcpError):
            self._failures.append(exc)


class _Asking:
    """Ask nobody again after an answer that did not come: the test has failed by then.

    Code that tries again would wait for the whole timeout each time.
    """

    def __init__(self, failures: list[MockMcpError]) -> None:
        self._failures = failures
        self._failed: MockMcpError | None = None

    def __enter__(self) -> None:
        if self._failed is not None and self._failed in self._failures:
            raise self._failed

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, MockMcpError):
            self._failed = exc


def _with_type(mock: Mock, media_type: str | None) -> Mock:
    """Return an answer with the contract's content type, unless it has one."""
    headers = dict(mock.headers or {})
    if media_type is None or any(name.lower() == "content-type" for name in headers):
        return mock
    return msgspec.structs.replace(mock, headers={**headers, "content-type": media_type})


def _as_value(mock: Mock) -> Mock:
    """Return an answer whose body, if it is bytes, is the value that they mean."""
    if not isinstance(mock.data, bytes | bytearray | memoryview):
        return mock
    headers = (mock.headers or {}).items()
    given = next((value for name, value in headers if name.lower() == "content-type"), None)
    kind = given if isinstance(given, str) else "application/json"
    return msgspec.structs.replace(mock, data=decode_body(bytes(mock.data), kind))


def _given(body: Any) -> Any:
    return msgspec.UNSET if body is None else body
