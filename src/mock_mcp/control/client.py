"""`DaemonClient`: the only client of the control channel (DESIGN section 4).

One method per JSON-RPC method, over kept-alive HTTP/1.1 connections to the daemon's socket. A call
that waits occupies one connection; others go over further ones. A connection is never shared
between calls that overlap, so an answer cannot reach the wrong caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from functools import cache
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import httptools
import msgspec

from mock_mcp.errors import (
    ContractViolation,
    DaemonUnreachable,
    InternalError,
    Unauthorized,
    VersionMismatch,
    error_from_rpc,
)
from mock_mcp.runtime.ipc import connect_ipc
from mock_mcp.runtime.receiving import ReceivingProtocol
from mock_mcp.types import (
    BatchInfo,
    Claim,
    DaemonEvent,
    DaemonInfo,
    DaemonStatus,
    Mock,
    Provided,
    RunInfo,
    Violation,
    Waiting,
)
from mock_mcp.wire import control as wire
from mock_mcp.wire.channel import PROTOCOL
from mock_mcp.wire.control import BatchStatus
from mock_mcp.wire.json import encode

__all__ = ["DaemonClient"]

T = TypeVar("T")
IDLE_CONNECTIONS = 4
"""Connections kept for the next call; a burst opens more and closes them again."""


class Health(msgspec.Struct, frozen=True, rename="camel"):
    """The answer of ``GET /health``; ``protocol`` is None for another implementation."""

    ok: bool
    pid: int
    version: str
    project_id: str
    protocol: int | None = None


class _RpcError(msgspec.Struct):
    code: int
    message: str
    data: Any = None


class _Answer(msgspec.Struct, Generic[T]):
    result: T | msgspec.UnsetType = msgspec.UNSET
    error: _RpcError | None = None


class _Runs(msgspec.Struct):
    runs: list[RunInfo]


class _Batches(msgspec.Struct):
    batches: list[BatchInfo]


class _Events(msgspec.Struct):
    events: list[DaemonEvent]
    last: int


class _Lease(msgspec.Struct, rename="camel"):
    lease_until: int


_CLAIM_OR_NONE: Any = Claim | None


class _Connection(ReceivingProtocol):
    """One HTTP/1.1 connection with at most one exchange under way."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._body: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its classes

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(DaemonUnreachable("The daemon closed the connection."))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(InternalError(f"The daemon's answer is no HTTP: {exc}"))
            self.close()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), body))

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send one request; return the status and body of its response."""
        if self._transport is None:
            raise DaemonUnreachable("The daemon closed the connection.")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            self._answer = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class DaemonClient:
    """Call one daemon's control channel from one event loop.

    Args:
        ipc_path: The daemon's socket path or pipe name.
        token: The daemon's token, from its registry.
        timeout_s: Seconds a call may take, beyond what it waits for by itself.
        logger: Where calls are logged (debug).

    Every method raises `DaemonUnreachable` when the daemon is down or too slow, `Unauthorized` when
    the token is another daemon's, `VersionMismatch` when the daemon is another implementation or
    speaks another revision, and the typed error of DESIGN section 4 that the daemon answered with.
    """

    def __init__(
        self,
        ipc_path: str,
        token: str,
        *,
        timeout_s: float = 10.0,
        logger: logging.Logger | None = None,
    ) -> None:
        self.ipc_path = ipc_path
        self.timeout_s = timeout_s
        self._token = token
        self._logger = logger or logging.getLogger(__name__)
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._next_id = 0
        self._checked = False
        self._closed = False

    @classmethod
    def of(
        cls, info: DaemonInfo, *, timeout_s: float = 10.0, logger: logging.Logger | None = None
    ) -> Self:
        """Make a client of the daemon that a registry describes."""
        return cls(info.ipc_path, info.token, timeout_s=timeout_s, logger=logger)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the kept connections; calls under way end with `DaemonUnreachable`."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in (*idle, *self._busy):
            connection.close()

    async def health(self) -> Health:
        """Ask ``GET /health``, which needs no token and is not checked for its revision."""
        status, body = await self._exchange(
            b"GET /health HTTP/1.1\r\nHost: mock-mcp\r\n\r\n", self.timeout_s
        )
        if status != 200:
            with contextlib.suppress(InternalError):
                refused: _Answer[Any] = _decode(body, _Answer, Any)
                if refused.error:
                    raise _error(refused.error)
            raise VersionMismatch(
                f"GET /health answered HTTP {status}: this is no mock-mcp daemon."
            )
        found: Health = _decode(body, Health)
        return found

    async def get_status(self) -> DaemonStatus:
        """Return the daemon's identity and counts."""
        return await self._call(wire.GetStatus(), DaemonStatus)

    async def list_runs(self) -> list[RunInfo]:
        """Return the connected runs."""
        return (await self._call(wire.ListRuns(), _Runs)).runs

    async def claim_next_batch(
        self,
        adapter_id: str,
        *,
        run_id: str | None = None,
        lease_ms: float | None = None,
        batch_id: str | None = None,
        wait_ms: float | None = None,
    ) -> Claim | None:
        """Claim the oldest claimable batch (of a run, or with an id); None when there is none.

        With ``wait_ms``, wait for one that long.
        """
        params = wire.ClaimNextBatch(adapter_id, run_id, lease_ms, batch_id, wait_ms)
        extra_s = (wait_ms or 0) / 1000
        claim: Claim | None = await self._call(params, _CLAIM_OR_NONE, extra_s=extra_s)
        return claim

    async def get_batch(self, batch_id: str) -> BatchInfo:
        """Return one batch without claiming it."""
        return await self._call(wire.GetBatch(batch_id), BatchInfo)

    async def list_batches(
        self, *, run_id: str | None = None, status: BatchStatus | None = None, brief: bool = False
    ) -> list[BatchInfo]:
        """Return batches (``pending``, ``claimed`` or ``fulfilled``) without claiming any.

        With ``brief`` the requests have only their id, endpoint and method.
        """
        params = wire.ListBatches(run_id, status, brief)
        return (await self._call(params, _Batches)).batches

    async def list_events(
        self, after: int = 0, *, wait_ms: float = 0
    ) -> tuple[list[DaemonEvent], int]:
        """Return what happened after the event ``after``, and the number of the last event.

        Waits for it at most ``wait_ms``. Only the latest events are kept.
        """
        params = wire.ListEvents(after, wait_ms)
        found = await self._call(params, _Events, extra_s=wait_ms / 1000)
        return found.events, found.last

    async def log_shown(
        self, adapter_id: str, batch_ids: Sequence[str], tool: str, text: str
    ) -> None:
        """Have the batch log say what a model is about to read of these batches."""
        params = wire.LogShown(adapter_id, list(batch_ids), tool, text)
        await self._call(params, dict[str, Any])

    async def provide_batch(
        self,
        adapter_id: str,
        batch_id: str,
        claim_token: str,
        mocks: Sequence[Mock],
    ) -> Provided:
        """Answer a claimed batch with exactly one mock per request."""
        params = wire.ProvideBatch(adapter_id, batch_id, claim_token, list(mocks))
        return await self._call(params, Provided)

    async def release_batch(
        self, adapter_id: str, batch_id: str, claim_token: str, reason: str | None = None
    ) -> None:
        """Give a claimed batch back to its place."""
        params = wire.ReleaseBatch(adapter_id, batch_id, claim_token, reason)
        await self._call(params, dict[str, Any])

    async def renew_claim(
        self, adapter_id: str, batch_id: str, claim_token: str, lease_ms: float | None = None
    ) -> int:
        """Restart a lease; return when it ends, in Unix milliseconds."""
        params = wire.RenewClaim(adapter_id, batch_id, claim_token, lease_ms)
        return (await self._call(params, _Lease)).lease_until

    async def wait_for_batch(self, wait_ms: float, *, run_id: str | None = None) -> Waiting:
        """Wait until something is claimable, at most ``wait_ms``; claim nothing."""
        params = wire.WaitForBatch(wait_ms, run_id)
        return await self._call(params, Waiting, extra_s=wait_ms / 1000)

    async def shutdown(self) -> None:
        """Ask the daemon to stop; it answers first."""
        await self._call(wire.Shutdown(), dict[str, Any])

    # -- Inside ----------------------------------------------------------------------------

    async def _call(self, params: wire.Params, result_type: type[T], *, extra_s: float = 0) -> T:
        if not self._checked:
            await self._check_protocol()
        self._next_id += 1
        method = wire.METHOD_OF[type(params)]
        body = encode({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        head = (
            f"POST /control HTTP/1.1\r\nHost: mock-mcp\r\nContent-Type: application/json\r\n"
            f"{wire.TOKEN_HEADER}: {self._token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._logger.debug("calling %s", method)
        status, text = await self._exchange(head.encode("ascii") + body, self.timeout_s + extra_s)
        if status == 401:
            raise Unauthorized(
                "The daemon does not know this token: it was restarted, or the registry is stale. "
                "Find it again."
            )
        answer: _Answer[T] = _decode(text, _Answer, result_type)
        if answer.error is not None:
            raise _error(answer.error)
        if answer.result is msgspec.UNSET:
            raise InternalError("The daemon's answer has neither a result nor an error.")
        return answer.result

    async def _check_protocol(self) -> None:
        health = await self.health()
        if health.protocol != PROTOCOL:
            theirs = "none" if health.protocol is None else health.protocol
            raise VersionMismatch(
                f"The daemon (version {health.version}, pid {health.pid}) speaks protocol revision "
                f"{theirs}, this client {PROTOCOL}. Stop that daemon with the tool that started it "
                "(`mock-mcp stop`), or install matching versions."
            )
        self._checked = True

    async def _exchange(self, request: bytes, timeout_s: float) -> tuple[int, bytes]:
        if self._closed:
            raise DaemonUnreachable("This client is closed.")
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._connection()
                self._busy.add(connection)
                try:
                    answer = await connection.exchange(request)
                except BaseException:
                    connection.close()  # an unfinished exchange cannot be followed by another
                    raise
                finally:
                    self._busy.discard(connection)
        except TimeoutError:
            raise DaemonUnreachable(
                f"The daemon did not answer within {timeout_s:g} s; it is stopped or overloaded."
            ) from None
        if connection.usable and not self._closed and len(self._idle) < IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return await connect_ipc(_Connection, self.ipc_path)


@cache
def _decoder(type_: Any, *of: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_[of] if of else type_)


def _decode(text: bytes, type_: Any, *of: Any) -> Any:
    """Decode an answer as a type, or as a generic type of others."""
    try:
        return _decoder(type_, *of).decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InternalError(f"The daemon's answer was not understood: {exc}") from None


def _error(error: _RpcError) -> Exception:
    data = error.data if isinstance(error.data, dict) else {}
    if error.code == ContractViolation.rpc_code:
        violations = msgspec.convert(data.get("violations", []), list[Violation])
        return ContractViolation(error.message, violations, data.get("accepted", ()))
    return error_from_rpc(error.code, error.message, data.get("code"))
