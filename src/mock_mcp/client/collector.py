"""What a test holds: `BatchMockCollector` for async code, `SyncBatchMockCollector` for sync code.

Both collect requests into batches through the same engine. Requests issued in one turn of an event
loop leave together; those of sync threads leave together within a short debounce.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import queue
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from mock_mcp.client.encode import encode_request, is_utf8
from mock_mcp.client.engine import Engine, Settings, is_duration, resolve
from mock_mcp.client.police import ContractMode, Police
from mock_mcp.client.session import Ticket
from mock_mcp.errors import ClientClosed, ForkedClient, InvalidParams, MockMcpDisabled
from mock_mcp.runtime.shield import shielded
from mock_mcp.types import Mock

__all__ = ["BatchMockCollector", "SyncBatchMockCollector"]

THREAD_DEBOUNCE_S = 0.005
"""How long a request of sync code waits for those of other threads."""
_UNSET: Any = object()


class _Collector:
    """What both collectors share: making tickets, and remembering which are pending."""

    def __init__(self, settings: Settings, engine: Engine | None, police: Police | None) -> None:
        self._settings = settings
        self._police = police
        self._engine = engine
        self._pending: dict[str, Ticket] = {}
        self._pending_lock = threading.Lock()
        self._closed = False

    @property
    def run_id(self) -> str:
        """The id of this run."""
        return self._settings.run_id

    @property
    def enabled(self) -> bool:
        """Whether mocks can be requested: False unless ``MOCK_MCP`` is set."""
        return self._engine is not None

    @property
    def corrected(self) -> int:
        """How many batches got their answer only after one that broke the contract."""
        return self._engine.corrected if self._engine is not None else 0

    def _request(
        self,
        endpoint: str,
        method: str,
        contract: ContractMode | None,
        fields: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return the request as it travels, but for its id; a field that is None will not."""
        for text in (endpoint, method):
            if not isinstance(text, str) or not is_utf8(text):
                raise InvalidParams(f"endpoint and method must be text, not {text!a}.")
        request = {"endpoint": endpoint, "method": method, **fields}
        if self._police is not None and (chosen := self._police.contract_of(contract)):
            request["contract"] = chosen
        return request

    def _ticket(
        self, request: Mapping[str, Any], timeout_s: float | None, *, is_policed: bool = False
    ) -> tuple[Engine, Ticket]:
        engine = self._engine
        if engine is None:
            raise MockMcpDisabled(
                "Mocks are off: set the environment variable MOCK_MCP=1 (or pass enabled=True to "
                "connect) to request them from an assistant."
            )
        self._check_process()
        if self._closed:
            raise ClientClosed("The client is closed; connect again to request mocks.")
        if timeout_s is _UNSET:
            timeout_s = self._settings.timeout_s
        elif timeout_s is not None and not is_duration(timeout_s):
            raise InvalidParams(
                f"timeout_s must be a positive number of seconds or None, not {timeout_s!r:.80}."
            )
        request_id = engine.next_request_id()
        clean, json = encode_request(
            {**request, "requestId": request_id}, self._settings.limits, stacklevel=3
        )
        if self._police is not None and not is_policed:
            self._police.check(clean, stacklevel=3)
        name = f"{request['method']} {request['endpoint']}"
        ticket = Ticket(request_id, name, json, timeout_s, keep_delay=is_policed)
        with self._pending_lock:
            self._pending[request_id] = ticket
        return engine, ticket

    def _check_process(self) -> None:
        if self._engine is not None and os.getpid() != self._engine.pid:
            raise ForkedClient(
                f"This client was connected in process {self._engine.pid} and is used in its fork "
                f"{os.getpid()}; connect again in the child process."
            )

    def _settled(self, ticket: Ticket) -> None:
        with self._pending_lock:
            self._pending.pop(ticket.request_id, None)

    def _pending_now(self) -> list[Ticket]:
        self._check_process()
        with self._pending_lock:
            for ticket in list(self._pending.values()):
                if ticket.loop is not None and ticket.loop.is_closed():
                    del self._pending[ticket.request_id]  # its coroutine will never say so
            return list(self._pending.values())


class BatchMockCollector(_Collector):
    """Request mocks from async code, in any event loop and thread; made by `mock_mcp.connect`."""

    def __init__(self, settings: Settings, engine: Engine | None, police: Police | None) -> None:
        super().__init__(settings, engine, police)
        self._turns: dict[asyncio.AbstractEventLoop, list[Ticket]] = {}

    async def request_mock(
        self,
        endpoint: str,
        method: str = "GET",
        *,
        body: Any = None,
        headers: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        contract: ContractMode | None = None,
        timeout_s: float | None = _UNSET,
    ) -> Mock:
        """Ask for the answer to one HTTP request and wait for it.

        Args:
            endpoint: A path (``/user``) or a whole URL.
            method: The HTTP method.
            body: The request's body as JSON, for whoever writes the answer.
            headers: The request's headers.
            metadata: Whatever helps to write the answer: ``schema``, ``schemaUrl``,
                ``instructions``. It is passed on unmodified.
            contract: How contract violations are treated: ``enforce``, ``warn`` or ``off``; the
                client's or the project's setting when None.
            timeout_s: Seconds to wait for the answer, None for ever; the client's when not given.

        Returns:
            The mock, after its ``delay_ms``.

        Raises:
            MockMcpDisabled: ``MOCK_MCP`` is not set.
            ContractViolation: The request itself breaks the API's contract; nothing is parked.
            RequestTimeout: Nobody answered in time; the request is cancelled at the daemon too.
            BatchRefused, BatchGivenUp, BatchExpired: The daemon says why there is no answer.
            ClientClosed, RunReplaced, ForkedClient, DaemonUnreachable: The client cannot go on.
            LimitExceeded: The request is too large.
            InvalidParams: An argument cannot be used.
        """
        fields = {"body": body, "headers": headers, "metadata": metadata}
        request = self._request(endpoint, method, contract, fields)
        return await self._wait(*self._ticket(request, timeout_s))

    async def ask(self, request: Mapping[str, Any], timeout_s: float | None) -> Mock:
        """Ask with a whole request object, which the caller has policed.

        The answer comes at once and still carries its ``delay_ms``; errors are those of
        `request_mock`.
        """
        return await self._wait(*self._ticket(request, timeout_s, is_policed=True))

    async def _wait(self, engine: Engine, ticket: Ticket) -> Mock:
        ticket.loop = loop = asyncio.get_running_loop()
        ticket.waiter = loop.create_future()
        self._collect(engine, ticket, loop)
        try:
            return await ticket.waiter
        except asyncio.CancelledError:
            engine.cancel(ticket)
            raise
        finally:
            self._settled(ticket)

    async def wait_for_pending_requests(self) -> None:
        """Wait for every request that is pending now, not for those that start later.

        Raises:
            MockMcpError: The first failure among them.
        """
        loop, engine = asyncio.get_running_loop(), self._engine
        if engine is None:
            return
        # A request of this loop is waited for as its own coroutine does, which is then done first.
        pending = {
            ticket.waiter
            if ticket.waiter is not None and ticket.loop is loop
            else _watched(engine, ticket, loop)
            for ticket in self._pending_now()
        }
        for waiter in pending:  # one failure is raised here; the others are their callers' matter
            waiter.add_done_callback(lambda done: done.cancelled() or done.exception())
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            _raise_first(task.exception() for task in done if not task.cancelled())

    async def close(self) -> None:
        """Fail what is pending with `ClientClosed` and disconnect; closing twice is harmless."""
        self._closed = True
        if self._engine is not None:
            await shielded(asyncio.wrap_future(self._engine.stop()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _collect(self, engine: Engine, ticket: Ticket, loop: asyncio.AbstractEventLoop) -> None:
        """Hand the ticket over at the end of this turn of the loop, with the others of it."""
        turn = self._turns.get(loop)
        if turn is None:
            turn = self._turns[loop] = []
            loop.call_soon(self._end_turn, loop, engine)
        turn.append(ticket)

    def _end_turn(self, loop: asyncio.AbstractEventLoop, engine: Engine) -> None:
        engine.submit(self._turns.pop(loop), self._settings.debounce_s or 0.0)


class SyncBatchMockCollector(_Collector):
    """Request mocks from sync code, in any thread; made by `mock_mcp.connect_sync`."""

    def request_mock(
        self,
        endpoint: str,
        method: str = "GET",
        *,
        body: Any = None,
        headers: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        contract: ContractMode | None = None,
        timeout_s: float | None = _UNSET,
    ) -> Mock:
        """Ask for the answer to one HTTP request and wait for it.

        Arguments, result and errors are those of `BatchMockCollector.request_mock`.
        """
        fields = {"body": body, "headers": headers, "metadata": metadata}
        request = self._request(endpoint, method, contract, fields)
        return self._wait(*self._ticket(request, timeout_s))

    def ask(self, request: Mapping[str, Any], timeout_s: float | None) -> Mock:
        """Ask as `BatchMockCollector.ask` does."""
        return self._wait(*self._ticket(request, timeout_s, is_policed=True))

    def as_async(self) -> BatchMockCollector:
        """Return a collector for async code that shares this one's connection and run."""
        return BatchMockCollector(self._settings, self._engine, self._police)

    def _wait(self, engine: Engine, ticket: Ticket) -> Mock:
        debounce_s = self._settings.debounce_s
        # Not a future: Ctrl-C can leave its lock held, on which the client's thread would hang.
        answer: queue.SimpleQueue[Mock | BaseException] = queue.SimpleQueue()
        ticket.watch(answer.put)
        try:
            engine.submit([ticket], THREAD_DEBOUNCE_S if debounce_s is None else debounce_s)
            outcome = answer.get()
        except BaseException:  # Ctrl-C for one
            engine.cancel(ticket)
            raise
        finally:
            self._settled(ticket)
        if isinstance(outcome, Mock):
            return outcome
        raise outcome

    def wait_for_pending_requests(self) -> None:
        """Wait for every request that is pending now in other threads.

        Raises:
            MockMcpError: The first failure among them.
        """
        engine = self._engine
        if engine is None:
            return
        outcomes: queue.SimpleQueue[Mock | BaseException] = queue.SimpleQueue()
        pending = self._pending_now()
        for ticket in pending:
            engine.watch(ticket, outcomes.put)
        for _ in pending:
            outcome = outcomes.get()
            if not isinstance(outcome, Mock | concurrent.futures.CancelledError):
                raise outcome

    def close(self) -> None:
        """Fail what is pending with `ClientClosed` and disconnect; closing twice is harmless."""
        self._closed = True
        if self._engine is not None:
            self._engine.stop().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _watched(
    engine: Engine, ticket: Ticket, loop: asyncio.AbstractEventLoop
) -> asyncio.Future[Mock]:
    """Return a future of a loop that has the outcome of a ticket for which somebody else waits."""
    watched: asyncio.Future[Mock] = loop.create_future()

    def tell(outcome: Mock | BaseException) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(resolve, watched, outcome)

    engine.watch(ticket, tell)
    return watched


def _raise_first(errors: Iterable[BaseException | None]) -> None:
    for error in errors:
        if error is not None:
            raise error
