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
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mock_mcp.browser import PageCallFailed, UrlMatch, route
from mock_mcp.client.police import ContractMode, OpenApi
from mock_mcp.errors import (
    ConfigurationError,
    ContractViolation,
    ForkedClient,
    LimitExceeded,
    MockMcpDisabled,
    MockMcpError,
)
from mock_mcp.exchange import (
    Decision,
    FailureKind,
    HttpRequest,
    HttpResponse,
    NetworkBlocked,
    Origin,
    Send,
    SendAsync,
    TransportFailure,
    decode_body,
)
from mock_mcp.limits import SAMPLES
from mock_mcp.real_files import on_real_files
from mock_mcp.recordings.format import (
    RecordedInteraction,
    RecordedRequest,
    RecordedResponse,
)
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
from mock_mcp.scope.assistant import Assistant
from mock_mcp.scope.call import Call
from mock_mcp.scope.client import LazyClient
from mock_mcp.scope.failures import Noted
from mock_mcp.scope.hand import HandWritten
from mock_mcp.scope.live import LiveAnswers
from mock_mcp.scope.ruling import rule
from mock_mcp.scope.settings import ScopeSettings
from mock_mcp.scope.shared import Polices, rules_of
from mock_mcp.sequential import listed
from mock_mcp.types import Mock

__all__ = ["Scope"]


class Scope:
    """The calls of one test, or of one fixture that several tests share.

    Args:
        place: The recording's file and test id; None records and replays nothing.
        settings: How calls are treated.
        polices: Who judges by the project's contracts; scopes of one process share it.
        client: Who asks the assistant; None when nobody may be asked.
        repair: Returns the command that obtains what is missing from a source, for error messages.
        test: What the assistant is told of the test: ``testFile``, ``testName``, ``doc``.
        draft: Where scopes of the same place leave for one another, in a run of several processes,
            what they obtain (`publish`); answers of the real API are not shared.

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
        repair: Repair = repair_command,
        test: Mapping[str, Any] | None = None,
        draft: Path | None = None,
    ) -> None:
        rules = rules_of(settings)
        self.settings = settings
        self.calls: list[Call] = []
        self.failures: list[MockMcpError] = []
        self.instructions = settings.instructions
        self.file: RecordingFile | None = None
        self.live: LiveAnswers | None = None
        self._polices = polices
        self._documents = settings.openapi
        self._police = polices.get(self._documents, settings.contract)
        self._hosts = rules.hosts
        self._redaction = rules.redaction
        self._assistant: Assistant | None = None
        self._repair = repair
        self._numbers = itertools.count()
        self._noted = Noted(self.failures)
        self._hand: list[HandWritten] = []
        self._samples: Counter[tuple[str, str]] = Counter()
        self._is_finished = False
        self._process = os.getpid()
        self._may_obtain = settings.mode != "none"
        if place is not None:
            self.file = RecordingFile(
                place.file,
                place.test,
                matching=rules.matching,
                redaction=self._redaction,
                before_record=settings.before_record,
            )
            if settings.mode == "once" and self.file.exists():
                self._may_obtain = False
        if client is not None:
            self._assistant = Assistant(
                client,
                settings.timeout_s,
                test or {},
                self.failures,
                redaction=self._redaction if settings.redact is not None else Redaction(),
                match=rules.matching.request_headers,
            )
        self._draft: RecordingFile | None = None
        if self._may_obtain and settings.source == "live":
            self.live = LiveAnswers(self.file, self._noted)
        elif self._may_obtain and place is not None and draft is not None:
            self._draft = RecordingFile(
                draft, place.test, matching=rules.matching, redaction=self._redaction
            )

    @property
    def shares(self) -> bool:
        """Whether it obtains answers that other scopes of the same place may want."""
        return self._draft is not None

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
        with self._noted:
            call = self._begin(endpoint, method, dict(headers or {}), _given(body), metadata)
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
        with self._noted:
            call = self._begin(endpoint, method, dict(headers or {}), _given(body), metadata)
            answer = self._answer(call)
            return answer if answer is not None else self._accept(call, await self._ask_async(call))

    def wait_for_pending_requests(self) -> None:
        """Wait for every answer that is pending now in other threads; raise the first failure."""
        if self._assistant is not None:
            self._assistant.wait()

    async def wait_for_pending_requests_async(self) -> None:
        """Wait as `wait_for_pending_requests` does, from async code."""
        if self._assistant is not None:
            await self._assistant.wait_async()

    # -- What the interceptors ask (mock_mcp.exchange.Exchange) ------------------------------------

    def decide(self, origin: Origin) -> Decision:
        """Return what happens to a call to ``origin``."""
        return self._hosts.decide(origin)

    def handle(self, request: HttpRequest, send: Send | None = None) -> HttpResponse:
        """Return the answer to an intercepted call."""
        with self._noted:
            call = self._begin_http(request)
            mock = self._answer(call)
            if mock is None and send is not None and self.live is not None:
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
        with self._noted:
            return await self._handle(request, self._ask_async, send)

    def blocked(self, error: NetworkBlocked) -> None:
        """Note a refused connection: the code under test may hide it."""
        self._noted.keep(error)

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
            f"{request.method} {self._redaction.url(request.url)}, a request of the page, got no "
            "answer: "
            f"{type(error).__name__}: {error}"
        )
        failure.__cause__ = error
        self._noted.keep(failure)

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

    def publish(self) -> None:
        """Leave what was obtained so far to the scopes that share the draft.

        Raises:
            RecordingError: It cannot be written.
        """
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.promote()

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
        if mock is None and send is not None and self.live is not None:
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
        headers: dict[str, Any],
        body: Any,
        metadata: Mapping[str, Any] | None,
    ) -> Call:
        """Note a call and check it against its contract."""
        number = next(self._numbers)
        shown = None if body is msgspec.UNSET else body
        wire = {"requestId": f"c{number}", "endpoint": url, "method": method, "headers": headers}
        if shown is not None:
            wire["body"] = shown
        if metadata is not None:
            wire["metadata"] = metadata
        if contract := self._police.contract_of(None):
            wire["contract"] = contract
        recorded = RecordedRequest(method, url, headers, body)
        name = f"{method} {self._redaction.url(url)}"
        call = Call(method, url, headers, shown, number, wire, recorded, name)
        self.calls.append(call)
        ruling = call.ruling = rule(self._police, wire, name)
        if ruling is not None:
            ruling.check_request()
        return call

    def _answer(self, call: Call) -> Mock | None:
        """Return the answer that is known: by hand, recorded, or an example; None: ask for it."""
        for hand in self._hand:
            if (take := hand.take(call)) is not None:
                call.source = "hand"
                mock = msgspec.structs.replace(take(), request_id=call.wire["requestId"])
                media_type = None
                if call.ruling is not None and hand.contract != "off":
                    verdict = call.ruling.check_answer(
                        _as_value(mock),
                        hand.contract,
                        advice='If it is meant to, say so: contract="off" in add_response.',
                    )
                    media_type = verdict.media_type
                return self._answered(call, _with_type(mock, media_type), "hand")
        answer = self._replay(call)
        if answer is not None:
            return answer
        if not self._may_obtain:
            raise self._miss(call)
        if self.file is not None and os.getpid() != self._process:  # what it stages is lost
            raise ForkedClient(
                f"{call.name} comes from a forked child process, whose answers cannot be recorded. "
                "Make the call in the test's own process (a thread will do), where it is recorded; "
                "a child that the test forks then replays it. Or answer it by hand (add_response) "
                "before the fork."
            )
        if self._draft is not None and (found := self._draft.find(call.recorded)) is not None:
            source = "example" if found.source == "example" else None
            mock = msgspec.structs.replace(_recorded_mock(call, found), source=source)
            return self._accept(call, mock, is_drafted=True)
        if self.settings.source == "example":
            return self._accept(call, self._sample(call))
        if self._assistant is None and self.settings.source == "ai":
            raise MockMcpDisabled(
                f"{call.name} has no recording, and nobody may be asked: set "
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
        mock = _recorded_mock(call, found)
        try:
            if call.ruling is not None:  # of this very moment: the request's is the answer's
                call.ruling.check_answer(mock)
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

    def _accept(self, call: Call, mock: Mock, *, is_drafted: bool = False) -> Mock:
        """Check a new answer, stage and return it."""
        source = mock.source or "ai"
        if source == "example":
            self._count_sample(call)
        ruling = rule(self._police, call.wire, call.name)
        verdict = None if ruling is None else ruling.check_answer(mock)
        status = 200 if mock.status is None else mock.status
        bodiless = call.method.upper() == "HEAD" or status in (204, 205, 304)
        media_type = None if verdict is None else verdict.media_type
        mock = _with_type(mock, media_type)
        data = listed(mock.data, _content_type(mock))
        mock = msgspec.structs.replace(mock, data=data, status=status)
        headers = dict(mock.headers or {})
        if self.file is not None:
            body = msgspec.UNSET if bodiless else mock.data
            staged = self.file.stage(
                RecordedInteraction(
                    call.recorded,
                    source,
                    RecordedResponse(status, headers, body, mock.delay_ms),
                    contract=None if verdict is None else verdict.contract_hash,
                    operation=None if verdict is None else verdict.operation,
                ),
                order=call.number,
                replaces=call.replaces,
            )
            if self._draft is not None and staged is not None and not is_drafted:
                self._draft.stage(staged, order=call.number)
        return self._answered(call, mock, source)

    def _count_sample(self, call: Call) -> None:
        url = call.url.partition("?")[0]
        self._samples[call.method, url] += 1
        if self._samples[call.method, url] > SAMPLES:
            raise LimitExceeded(
                f"{call.method} {url} got {SAMPLES} answers from the contract in one test "
                "(SAMPLES). Code that follows pages, or asks until something is done, may never "
                "hear the end from a sample: give the answers by hand (add_response)."
            )

    def _answered(self, call: Call, mock: Mock, source: str) -> Mock:
        call.status, call.data = mock.status or 200, mock.data
        call.source = source
        return mock

    def _respond(self, request: HttpRequest, call: Call, mock: Mock) -> HttpResponse:
        return HttpResponse.from_mock(
            request,
            msgspec.UNSET if call.is_bodiless else mock.data,
            status=mock.status,
            headers=mock.headers,
            delay_s=(mock.delay_ms or 0) / 1000,
        )

    # -- Obtaining ---------------------------------------------------------------------------

    def _ask(self, call: Call) -> Mock:
        return self._asked(call).ask(call, self.instructions)

    async def _ask_async(self, call: Call) -> Mock:
        return await self._asked(call).ask_async(call, self.instructions)

    async def _ask_for_page(self, call: Call) -> Mock:
        return await self._asked(call).ask_for_page(call, self.instructions)

    def _asked(self, call: Call) -> Assistant:
        if self._assistant is None:
            raise ConfigurationError(
                f"{call.name} cannot be really called: no HTTP library that mock-mcp "
                "intercepts made it. Answer it from another source (mode new_episodes keeps the "
                "rest), or by hand (add_response)."
            )
        return self._assistant

    @on_real_files
    def _sample(self, call: Call) -> Mock:
        from mock_mcp.contract.expected import sample_mock

        if call.ruling is None:
            reason = (
                "none is registered. Name one in pyproject.toml: [tool.mock-mcp] openapi = "
                '["openapi.json"].'
            )
            if self._police.has_contract(call.wire):
                reason = 'contract is "off"; with "warn" it is used, and nothing enforced.'
            raise ConfigurationError(f"{call.name} cannot be answered from a contract: {reason}")
        # The same call of the same test always gets the same sample.
        seed = self.file.test if self.file is not None else ""
        mock = sample_mock(call.ruling.contracts, call.wire, seed=seed)
        return msgspec.structs.replace(mock, source="example")

    def _miss(self, call: Call) -> MockMcpError:
        details = [reason for hand in self._hand if (reason := hand.explain(call)) is not None]
        if self.file is None:
            told = (
                f"{call.name} has no answer: add_response gives one, and MOCK_MCP=1 "
                "asks an assistant."
            )
            return MockMcpDisabled("\n".join([told, *details]))
        recorded = (item.interaction for item in self.file.recorded())
        repair = self._repair(source_of(recorded, self.settings.source))
        return explain_miss(self.file, call.recorded, repair, details=details)


def _recorded_mock(call: Call, found: RecordedInteraction) -> Mock:
    """Return a recorded answer as the answer to this call."""
    response = found.response
    assert response is not None
    call.is_bodiless = response.body is msgspec.UNSET
    return Mock(
        call.wire["requestId"],
        None if call.is_bodiless else response.body,
        response.status,
        response.headers,
        response.delay_ms,
    )


def _with_type(mock: Mock, media_type: str | None) -> Mock:
    """Return an answer with the contract's content type, unless it has one."""
    headers = dict(mock.headers or {})
    if media_type is None or any(name.lower() == "content-type" for name in headers):
        return mock
    return msgspec.structs.replace(mock, headers={**headers, "content-type": media_type})


def _content_type(mock: Mock) -> str:
    headers = (mock.headers or {}).items()
    given = next((value for name, value in headers if name.lower() == "content-type"), None)
    return given if isinstance(given, str) else "application/json"


def _as_value(mock: Mock) -> Mock:
    """Return an answer whose body, if it is bytes, is the value that they mean."""
    if not isinstance(mock.data, bytes | bytearray | memoryview):
        return mock
    data = decode_body(bytes(mock.data), _content_type(mock))
    return msgspec.structs.replace(mock, data=data)


def _given(body: Any) -> Any:
    return msgspec.UNSET if body is None else body
