"""One mocked test: every call it makes is policed, then replayed or obtained, then staged.

A `Scope` is the exchange that the interceptors ask, and what the pytest fixture hands out. For each
call, in this order: a hand-written answer (`Scope.add_response`), the recording, and, if the mode
allows, a new answer from the source. Recorded and new answers are both checked against the
contract. What was obtained is staged, and written only when the test passes.

What went wrong below the code under test (a contract violation, a missing recording, a blocked
connection) is also kept in `Scope.failures`: the code may swallow the exception, the test must not.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import msgspec

from mock_mcp.client.police import ContractMode, OpenApi, Police
from mock_mcp.errors import ConfigurationError, ContractViolation, MockMcpDisabled, MockMcpError
from mock_mcp.exchange import (
    Decision,
    FailureKind,
    HostRules,
    HttpRequest,
    HttpResponse,
    NetworkBlocked,
    Origin,
    TransportFailure,
)
from mock_mcp.recordings.format import (
    RecordedInteraction,
    RecordedRequest,
    RecordedResponse,
)
from mock_mcp.recordings.match import DEFAULT_MATCH, BeforeMatch, Matching, RequestMatcher
from mock_mcp.recordings.miss import RecordingMiss, explain_miss
from mock_mcp.recordings.paths import Place
from mock_mcp.recordings.redact import Redaction
from mock_mcp.recordings.store import BeforeRecord, RecordingFile
from mock_mcp.runtime.project import Project
from mock_mcp.types import Mock

if TYPE_CHECKING:
    from mock_mcp.client.collector import BatchMockCollector, SyncBatchMockCollector

__all__ = ["MODES", "SOURCES", "Call", "Mode", "Scope", "ScopeSettings", "Source", "UnusedResponse"]

Mode = Literal["none", "once", "new_episodes", "all", "rewrite"]
MODES: tuple[Mode, ...] = ("none", "once", "new_episodes", "all", "rewrite")
Source = Literal["ai", "example"]
SOURCES: tuple[Source, ...] = ("ai", "example")

_FOR_ASSISTANT = Redaction(request_headers=["*"])


class UnusedResponse(MockMcpError):
    """A hand-written answer was never asked for."""

    code = "unused-response"


class ScopeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the calls of one test are treated; the pytest options and the marker fill it in.

    Attributes:
        mode: Whether to replay or obtain (DESIGN section 8).
        source: Where new answers come from.
        timeout_s: Seconds a call waits for the assistant.
        instructions: What the assistant is told about the test's data.
        openapi: Documents beside the project's.
        contract: How violations are treated; the project's setting when None.
        match, ignore, before_match: When a call is a recorded one; see `Matching`.
        before_record: Hooks on what is recorded.
        redact: More names of secret fields; None switches redaction off.
        hosts, passthrough: Which hosts are mocked, and which may be reached; see `HostRules`.
    """

    mode: Mode = "none"
    source: Source = "ai"
    timeout_s: float | None = 600.0
    instructions: str | None = None
    openapi: tuple[OpenApi, ...] = ()
    contract: ContractMode | None = None
    match: tuple[str | RequestMatcher, ...] = DEFAULT_MATCH
    ignore: tuple[str, ...] = ()
    before_match: BeforeMatch | None = None
    before_record: tuple[BeforeRecord, ...] = ()
    redact: tuple[str, ...] | None = ()
    hosts: tuple[str, ...] | None = None
    passthrough: tuple[str, ...] = ()


@dataclass(slots=True)
class Call:
    """One call that the code under test made.

    ``status``, ``data`` and ``source`` (``ai``, ``example``, ``hand``, ``recording``) are those of
    its answer; None until it has one.
    """

    method: str
    url: str
    headers: Mapping[str, str | list[str]]
    body: Any
    number: int = 0
    status: int | None = None
    data: Any = None
    source: str | None = None
    wire: dict[str, Any] = field(default_factory=dict, repr=False)
    recorded: RecordedRequest = field(default=RecordedRequest("", ""), repr=False)
    replaces: RecordedInteraction | None = field(default=None, repr=False)


@dataclass(slots=True)
class _HandWritten:
    """Answers that the test itself gives to a call."""

    method: str
    url: re.Pattern[str]
    answers: list[Any]
    respond: Callable[[Call], Any] | None
    status: int
    headers: Mapping[str, str | Sequence[str]] | None
    delay_ms: float | None
    error: FailureKind | None
    repeat: bool
    optional: bool
    contract: ContractMode | None
    uses: int = 0

    def matches(self, call: Call) -> bool:
        if self.method not in (call.method.upper(), "*"):
            return False
        if not self.repeat and self.uses >= len(self.answers):
            return False
        path = urlsplit(call.url)._replace(scheme="", netloc="").geturl()
        bare = path.partition("?")[0]
        whole = call.url.partition("?")[0]
        return any(self.url.fullmatch(text) for text in (call.url, whole, path, bare))

    def next(self, call: Call) -> Any:
        answer = self.answers[min(self.uses, len(self.answers) - 1)]
        self.uses += 1
        return self.respond(call) if self.respond is not None else answer


class Client:
    """The client that obtains answers from an assistant, connected when it is first needed.

    Args:
        settings: Arguments of `mock_mcp.connect_sync`.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._sync: SyncBatchMockCollector | None = None
        self._async: BatchMockCollector | None = None
        self._pid = os.getpid()

    def sync(self) -> SyncBatchMockCollector:
        """Return the collector for sync code, connecting if nobody has."""
        from mock_mcp.client.connect import connect_sync

        with self._lock:
            if self._sync is None or self._pid != os.getpid():
                self._sync, self._pid = connect_sync(enabled=True, **self._settings), os.getpid()
                self._async = self._sync.as_async()
            return self._sync

    async def asynchronous(self) -> BatchMockCollector:
        """Return the collector for async code, which shares the other one's connection."""
        if self._async is None or self._pid != os.getpid():
            import asyncio

            await asyncio.to_thread(self.sync)
        assert self._async is not None
        return self._async

    @property
    def project_root(self) -> Any:
        """The project whose daemon is asked."""
        return self._settings.get("project_root")

    @property
    def run_id(self) -> str | None:
        """The run's id; None while nothing was asked."""
        return self._sync.run_id if self._sync is not None else None

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            if self._sync is not None and self._pid == os.getpid():
                self._sync.close()
            self._sync = self._async = None


class Scope:
    """The calls of one test, or of one fixture that several tests share.

    Args:
        place: The recording's file and test id; None records and replays nothing.
        settings: How calls are treated.
        project: The project, for its contract settings.
        client: Who asks the assistant; None when nobody may be asked.
        repair: The command that obtains what is missing, for error messages.
        test: What the assistant is told of the test: ``testFile``, ``testName``, ``doc``.
        cache_dir: The directory that holds ``mock-mcp/``.
    """

    def __init__(
        self,
        place: Place | None,
        settings: ScopeSettings,
        *,
        project: Project,
        client: Client | None = None,
        repair: str = "",
        test: Mapping[str, Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.settings = settings
        self.calls: list[Call] = []
        self.failures: list[MockMcpError] = []
        self.instructions = settings.instructions
        self.waiting: dict[int, Call] = {}
        self._project = project
        self._cache_dir = cache_dir
        self._police = Police(
            project, cache_dir=cache_dir, openapi=settings.openapi, mode=settings.contract
        )
        self._hosts = HostRules(settings.hosts, passthrough=settings.passthrough)
        self._client = client
        self._repair = repair
        self._test = {name: value for name, value in (test or {}).items() if value}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._hand: list[_HandWritten] = []
        self.file: RecordingFile | None = None
        self._may_obtain = settings.mode != "none"
        if place is not None:
            redact = settings.redact
            self.file = RecordingFile(
                place.path,
                place.test,
                matching=Matching(settings.match, settings.ignore, settings.before_match),
                redaction=Redaction(names=redact or (), enabled=redact is not None),
                before_record=settings.before_record,
            )
            if settings.mode == "once" and self.file.exists():
                self._may_obtain = False

    # -- What the test may do ----------------------------------------------------------------

    def openapi(self, *documents: OpenApi) -> None:
        """Register OpenAPI documents for the calls to come, beside those there are."""
        self._police = Police(
            self._project,
            cache_dir=self._cache_dir,
            openapi=(*documents, *self.settings.openapi),
            mode=self.settings.contract,
        )

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
            url: A whole URL, a path with or without query (any host), with ``*`` for any
                characters; or a compiled pattern that must match all of one of these.
            data: The body, in the forms of DESIGN section 6; or a function that takes the `Call`
                and returns it.
            status: The status.
            headers: The headers.
            delay_ms: How long the answer takes; longer than the client's read timeout is one.
            sequence: Bodies of successive calls, in place of ``data``.
            error: How the call fails instead: ``refused``, ``unresolved``, ``connect_timeout``,
                ``read_timeout`` or ``reset``.
            repeat: Whether it answers again and again (the last of a sequence does).
            optional: Whether the test may end without asking for it.
            contract: How its violations of the contract are treated; the scope's setting when None.

        Raises:
            ConfigurationError: ``error`` is not one of these.
        """
        if isinstance(url, str):
            url = re.compile(".*".join(re.escape(part) for part in url.split("*")))
        try:
            kind = None if error is None else FailureKind(error)
        except ValueError:
            known = ", ".join(FailureKind)
            raise ConfigurationError(f"error must be one of {known}, not {error!r}.") from None
        respond = data if callable(data) else None
        answers = [None if respond else data] if sequence is None else list(sequence)
        if not answers:
            raise ConfigurationError("sequence is empty; give at least one body.")
        self._hand.append(
            _HandWritten(
                method.upper(),
                url,
                answers,
                respond,
                status,
                headers,
                delay_ms,
                kind,
                repeat,
                optional,
                contract,
            )
        )

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
        if self._client is not None and self._client.run_id is not None:
            self._client.sync().wait_for_pending_requests()

    async def wait_for_pending_requests_async(self) -> None:
        """Wait as `wait_for_pending_requests` does, from async code."""
        if self._client is not None and self._client.run_id is not None:
            await (await self._client.asynchronous()).wait_for_pending_requests()

    # -- What the interceptors ask (mock_mcp.exchange.Exchange) ------------------------------------

    def decide(self, origin: Origin) -> Decision:
        """Return what happens to a call to ``origin``."""
        return self._hosts.decide(origin)

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Return the answer to an intercepted call."""
        call = self._begin_http(request)
        mock = self._answer(call)
        if mock is None:
            mock = self._accept(call, self._ask(call))
        return self._respond(request, mock)

    async def handle_async(self, request: HttpRequest) -> HttpResponse:
        """Return the answer to an intercepted call, from async code."""
        call = self._begin_http(request)
        mock = self._answer(call)
        if mock is None:
            mock = self._accept(call, await self._ask_async(call))
        return self._respond(request, mock)

    def blocked(self, error: NetworkBlocked) -> None:
        """Note a refused connection: the code under test may hide it."""
        self.failures.append(error)

    # -- The end -----------------------------------------------------------------------------

    def verify(self) -> None:
        """Raise what the code under test swallowed, or a hand-written answer nobody asked for.

        Raises:
            MockMcpError: The first failure; `UnusedResponse`.
        """
        if self.failures:
            raise self.failures[0]
        for answer in self._hand:
            if not answer.uses and not answer.optional:
                raise UnusedResponse(
                    f"add_response({answer.method!r}, {answer.url.pattern!r}) was never asked for; "
                    "remove it, or pass optional=True."
                )

    def finish(self, *, passed: bool, prune: bool = False) -> str | None:
        """Write the recording if the test passed; return what `RecordingFile.promote` did."""
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
        with self._noted():
            self._police.check(call.wire, stacklevel=6)
        return call

    def _answer(self, call: Call) -> Mock | None:
        """Return the answer that is known: by hand, recorded, or an example; None: ask for it."""
        for hand in self._hand:
            if hand.matches(call):
                return self._by_hand(hand, call)
        with self._noted():
            answer = self._replay(call)
            if answer is not None:
                return answer
            if not self._may_obtain:
                raise self._miss(call)
            if self.settings.source == "example":
                return self._accept(call, self._sample(call), "example")
            if self._client is None:
                raise MockMcpDisabled(
                    f"{call.method} {call.url} has no recording, and nobody may be asked: set "
                    "MOCK_MCP=1 to ask an assistant."
                )
        return None

    def _by_hand(self, hand: _HandWritten, call: Call) -> Mock:
        with self._lock:
            data = hand.next(call)
        call.source = "hand"
        if hand.error is not None:
            raise TransportFailure(hand.error)
        if isinstance(data, Mock):
            mock = data
        else:
            headers: Any = hand.headers
            mock = Mock(call.wire["requestId"], data, hand.status, headers, hand.delay_ms)
        with self._noted():
            self._check(call, mock, hand.contract)
        return self._answered(call, mock, "hand")

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
        data = None if response.body is msgspec.UNSET else response.body
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
                self._repair,
                details=violation.message.splitlines()[1:],
            ) from None
        return self._answered(call, mock, "recording")

    def _accept(self, call: Call, mock: Mock, source: Literal["ai", "example"] = "ai") -> Mock:
        """Check a new answer, stage it, and return it."""
        with self._noted():
            checked_by, operation, media_type = self._check(call, mock, None)
        headers = dict(mock.headers or {})
        if media_type is not None and not any(k.lower() == "content-type" for k in headers):
            headers["content-type"] = media_type
        status = 200 if mock.status is None else mock.status
        bodiless = call.method.upper() == "HEAD" or status in (204, 205, 304)
        mock = msgspec.structs.replace(mock, status=status, headers=headers)
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

    def _respond(self, request: HttpRequest, mock: Mock) -> HttpResponse:
        with self._noted():
            return HttpResponse.from_mock(
                request,
                mock.data,
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
        """
        if mode == "off":
            return None, None, None
        sources = self._police.contracts_for(call.wire)
        if sources is None:
            return None, None, None
        contracts, project_mode = sources
        verdict = contracts.check_mock(call.wire, mock)
        chosen = mode or project_mode
        if verdict.violations and chosen != "off":
            self._police.report(
                f"The answer to {call.method} {call.url}", verdict.violations, chosen, stacklevel=6
            )
        if mock.headers and any(name.lower() == "content-type" for name in mock.headers):
            return verdict.contract_hash, verdict.operation, None
        return verdict.contract_hash, verdict.operation, verdict.media_type

    def _sample(self, call: Call) -> Mock:
        from mock_mcp.contract.expected import sample_mock

        sources = self._police.contracts_for(call.wire)
        if sources is None:
            raise ConfigurationError(
                f"{call.method} {call.url} cannot be answered from a contract: none is registered. "
                'Name one in pyproject.toml: [tool.mock-mcp] openapi = ["openapi.json"].'
            )
        # The same call of the same test always gets the same sample.
        seed = self.file.test if self.file is not None else ""
        return sample_mock(sources[0], call.wire, seed=seed)

    def _miss(self, call: Call) -> MockMcpError:
        if self.file is None:
            return MockMcpDisabled(
                f"{call.method} {call.url} has no answer: add_response gives one, and "
                "MOCK_MCP=1 asks an assistant."
            )
        return explain_miss(self.file, call.recorded, self._repair)

    # -- The assistant -----------------------------------------------------------------------

    def _ask(self, call: Call) -> Mock:
        assert self._client is not None
        with self._noted(), self._shown_waiting(call):
            return self._client.sync().ask(self._fields(call), self.settings.timeout_s)

    async def _ask_async(self, call: Call) -> Mock:
        assert self._client is not None
        with self._noted(), self._shown_waiting(call):
            client = await self._client.asynchronous()
            return await client.ask(self._fields(call), self.settings.timeout_s)

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

    def _shown_waiting(self, call: Call) -> _Waiting:
        return _Waiting(self, call)

    def _noted(self) -> _Noted:
        return _Noted(self.failures)


class _Waiting:
    """Keep a call in `Scope.waiting` while the assistant writes its answer."""

    def __init__(self, scope: Scope, call: Call) -> None:
        self._scope = scope
        self._call = call

    def __enter__(self) -> None:
        self._scope.waiting[self._call.number] = self._call

    def __exit__(self, *exc: object) -> None:
        self._scope.waiting.pop(self._call.number, None)


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


def _given(body: Any) -> Any:
    return msgspec.UNSET if body is None else body
