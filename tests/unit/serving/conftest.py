"""Daemons without processes or sockets: the real broker behind the methods of `DaemonClient`."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest_asyncio

from mock_mcp.core.broker import BatchState, Broker
from mock_mcp.errors import ContractViolation, DaemonUnreachable, LimitExceeded, Unauthorized
from mock_mcp.limits import Limits
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.project import Project
from mock_mcp.serving.claims import Claims
from mock_mcp.serving.router import Router
from mock_mcp.serving.times import Times
from mock_mcp.types import (
    BatchInfo,
    Claim,
    ClaimInfo,
    DaemonInfo,
    DaemonStatus,
    Mock,
    MockRequest,
    Provided,
    RunInfo,
    TestMeta,
    Violation,
    Waiting,
)
from mock_mcp.wire.json import check_depth, encode

TIMES = Times(
    refresh_s=0.02, patience_s=0.2, impatience_s=0.05, reclaim_s=0.3, retry_s=0.01, close_s=1.0
)


class FakeDaemon:
    """One daemon: a broker on a clock that tests turn, and switches for what can go wrong."""

    def __init__(self, cache: CacheDirectory, root: Path) -> None:
        root.mkdir(exist_ok=True)
        self.cache = cache
        self.project = Project.resolve(root)
        self.starts = itertools.count(1)
        self.tokens = itertools.count(1)
        self.now = 0.0
        self.down = False
        self.stuck = False
        self.wrong: set[str] = set()  # ids of requests whose mocks the contract gate refuses
        self.largest = Limits().body_bytes
        self.on_claim: Callable[[], None] = lambda: None
        self.calls: list[str] = []
        self.provided: list[dict[str, Any]] = []
        self.restart()

    def restart(self) -> None:
        """Begin again with nothing, as a process that was killed does."""
        self.broker = Broker()
        self.changed = asyncio.Event()
        start = next(self.starts)
        self.info = DaemonInfo(
            self.project.id,
            str(self.project.root),
            self.cache.ipc_path(self.project.id),
            f"{self.project.root.name}-{start}",
            start,
            "",
            "0",
        )
        self.cache.write(self.info)

    def submit(
        self, run_id: str, *requests: dict[str, Any], batch_id: str | None = None
    ) -> BatchState:
        if run_id not in self.broker.runs:
            self.broker.open_run(self.now, run_id, 1, capabilities=("ack", "resume"))
        parsed = [
            MockRequest(
                r["requestId"], r["endpoint"], r["method"], msgspec.Raw(msgspec.json.encode(r))
            )
            for r in requests
        ]
        batch = self.broker.submit(self.now, run_id, parsed, batch_id)
        self.changed.set()
        return batch


class FakeClient:
    """What `DaemonClient` does, for one start of one `FakeDaemon`."""

    def __init__(self, daemon: FakeDaemon, info: DaemonInfo) -> None:
        self.daemon = daemon
        self.info = info
        self.closed = False

    async def close(self) -> None:
        self.closed = True

    async def _enter(self, call: str) -> Broker:
        self.daemon.calls.append(call)
        await asyncio.sleep(0)
        if self.daemon.down:
            raise DaemonUnreachable("No daemon listens.")
        while self.daemon.stuck:
            await asyncio.sleep(0.01)
        if self.info.token != self.daemon.info.token:
            raise Unauthorized("The daemon does not know this token.")
        self.daemon.broker.expire(self.daemon.now)
        return self.daemon.broker

    async def get_status(self) -> DaemonStatus:
        broker = await self._enter("getStatus")
        root, pid = self.info.project_root, self.info.pid
        return DaemonStatus(
            "0", self.info.project_id, root, pid, 0, len(broker.runs), broker.pending, 0, 0
        )

    async def list_runs(self) -> list[RunInfo]:
        broker = await self._enter("listRuns")
        meta = TestMeta("test_users.py", "test_get")
        return [RunInfo(run, 1, "/", "", 0, 0, meta) for run in broker.runs]

    async def claim_next_batch(
        self,
        adapter_id: str,
        *,
        run_id: str | None = None,
        lease_ms: float | None = None,
        batch_id: str | None = None,
    ) -> Claim | None:
        broker = await self._enter("claimNextBatch")
        token = f"{self.info.token}-{next(self.daemon.tokens)}"
        batch = broker.claim(
            self.daemon.now,
            adapter_id,
            (lease_ms or 30_000) / 1000,
            token,
            run_id=run_id,
            batch_id=batch_id,
        )
        if batch is None:
            return None
        self.daemon.on_claim()
        return Claim(
            batch.id, batch.run_id, _requests(batch), token, 0, batch.attempts, [*batch.history]
        )

    async def get_batch(self, batch_id: str) -> BatchInfo:
        broker = await self._enter("getBatch")
        batch = broker.batch(batch_id)
        claim = ClaimInfo(batch.claim.adapter_id, 0) if batch.claim else None
        return BatchInfo(batch.id, batch.run_id, _requests(batch), batch.status.value, 0, claim)

    async def provide_batch(
        self, adapter_id: str, batch_id: str, claim_token: str, mocks: Sequence[Mock]
    ) -> Provided:
        broker = await self._enter("provideBatch")
        text = encode({"params": {"mocks": mocks}})
        check_depth(text, Limits().depth)
        if len(text) > self.daemon.largest:
            raise LimitExceeded("The body is larger (limit body_bytes); send a smaller one.")
        broker.hold(self.daemon.now, adapter_id, batch_id, claim_token, mocks)
        broker.unhold(self.daemon.now, batch_id, claim_token)
        if bad := [mock.request_id for mock in mocks if mock.data in self.daemon.wrong]:
            violations = [Violation(rid, "/body", "type", "a user", "wrong", "") for rid in bad]
            good = [mock.request_id for mock in mocks if mock.request_id not in bad]
            raise ContractViolation("The mocks break the contract.", violations, good)
        broker.provide(self.daemon.now, adapter_id, batch_id, claim_token, mocks)
        self.daemon.provided.append({mock.request_id: mock.data for mock in mocks})
        return Provided(ok=True, message="Delivered.", delivered=True)

    async def release_batch(
        self, adapter_id: str, batch_id: str, claim_token: str, reason: str | None = None
    ) -> None:
        broker = await self._enter("releaseBatch")
        broker.release(self.daemon.now, adapter_id, batch_id, claim_token, reason)

    async def renew_claim(
        self, adapter_id: str, batch_id: str, claim_token: str, lease_ms: float | None = None
    ) -> int:
        broker = await self._enter("renewClaim")
        lease_s = None if lease_ms is None else lease_ms / 1000
        return int(broker.renew(self.daemon.now, adapter_id, batch_id, claim_token, lease_s) * 1000)

    async def wait_for_batch(self, wait_ms: float, *, run_id: str | None = None) -> Waiting:
        deadline = time.monotonic() + wait_ms / 1000
        while True:
            broker = await self._enter("waitForBatch")
            pending, oldest = broker.claimable(run_id)
            left_s = deadline - time.monotonic()
            if pending or left_s <= 0:
                return Waiting(pending, None if oldest is None else int(oldest * 1000))
            self.daemon.changed.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self.daemon.changed.wait()
            except TimeoutError:
                pass


def _requests(batch: BatchState) -> list[dict[str, Any]]:
    return [msgspec.json.decode(bytes(request.json)) for request in batch.wanted]


def request(request_id: str, **more: Any) -> dict[str, Any]:
    """Return one request as a test sends it."""
    return {"requestId": request_id, "endpoint": "/user", "method": "GET", **more}


class World:
    """A cache directory, the daemons in it, and one or more adapters' claims."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cache = CacheDirectory(path / "c")
        self.fakes: dict[str, FakeDaemon] = {}
        self.claims: list[Claims] = []

    request = staticmethod(request)

    def daemon(self, name: str) -> FakeDaemon:
        fake = FakeDaemon(self.cache, self.path / name)
        self.fakes[fake.project.id] = fake
        return fake

    def router(
        self, own: FakeDaemon | None = None, times: Times = TIMES, *, only_own: bool = False
    ) -> Router:
        return Router(
            self.cache,
            own.project if own else None,
            only_own=only_own,
            times=times,
            connect=lambda info: FakeClient(self.fakes[info.project_id], info),  # type: ignore[arg-type,return-value]
        )

    def adapter(
        self, adapter_id: str = "a", own: FakeDaemon | None = None, times: Times = TIMES
    ) -> Claims:
        claims = Claims(self.router(own, times), adapter_id)
        self.claims.append(claims)
        return claims


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> Any:
    world = World(tmp_path)
    yield world
    for claims in world.claims:
        await claims.close()
