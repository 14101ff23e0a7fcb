"""Exactly one daemon of a project, whoever starts it, is killed, hangs or is just leaving."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.daemon import server
from mock_mcp.errors import DaemonUnreachable, MockMcpError
from mock_mcp.limits import Limits
from mock_mcp.serving.claims import Claims
from mock_mcp.types import Mock
from support.daemons import ServedDaemon
from support.http import ControlClient
from support.nursery import Nursery
from support.place import Place, ended, kill
from support.stress import pick
from support.ws import HANG_S, eventually

RACERS = pick(8, 32)
RACES = pick(2, 30)
KILLED_STARTERS = pick(6, 200)
STOPPED_S = pick(1.0, 30.0)
KILLED_DAEMONS = pick(3, 100)
LEAVING_ROUNDS = pick(8, 1000)

STARTER = """
import time
from mock_mcp.runtime.launch import ensure_daemon_running

def child(project, cache, go, die_at=None):
    lines = itertools.count(1)

    def trace(frame, event, argument):
        if "mock_mcp" not in frame.f_code.co_filename:
            return None
        if event == "line" and next(lines) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    while go and not os.path.exists(go):  # everybody starts at once
        time.sleep(0.001)
    if die_at is not None:
        sys.settrace(trace)
    info = ensure_daemon_running(project, cache_dir=cache, timeout_s=60)
    sys.settrace(None)
    say(started=info.pid, token=info.token, lines=next(lines) - 1)
"""
"""Start the daemon; ``die_at`` is the line of this project's code at which to be killed."""


def one_serves(place: Place) -> int:
    """Return the pid of the only daemon, which serves."""
    info = place.start()
    assert place.pid() == info.pid
    eventually(lambda: place.daemons() == [info.pid])  # a loser may be on its way out
    assert ControlClient(info.ipc_path, info.token).health()["pid"] == info.pid
    return info.pid


def end(place: Place, pid: int, *, tidy: bool) -> None:
    """Kill the daemon; its files are removed, or left in the way of the next."""
    place.kill_daemon(pid)
    for path in place.cache.path.glob(f"{place.project.id}.*") if tidy else ():
        path.unlink()


def test_many_processes_start_it_at_once(
    place: Place, short_dir: Path, measured: Callable[..., None]
) -> None:
    took_s: list[float] = []
    gate = Path(tempfile.mkdtemp(prefix="g", dir=short_dir)) / "open"
    with Nursery(place.cache_dir, STARTER) as nursery:
        for number in range(RACES):
            racers = [
                nursery.fork(project=str(place.root), cache=str(place.cache_dir), go=str(gate))
                for _ in range(RACERS)
            ]
            began = time.monotonic()
            gate.touch()
            found = [racer.hear("started") for racer in racers]
            took_s.append(time.monotonic() - began)
            gate.unlink()
            assert len({(each["started"], each["token"]) for each in found}) == 1, found
            assert one_serves(place) == found[0]["started"]
            end(place, found[0]["started"], tidy=number % 2 == 0)
    measured(races=len(took_s), processes=RACERS, daemons_each=1, longest_s=max(took_s))


def test_a_starter_is_killed_anywhere(
    place: Place, rng: random.Random, measured: Callable[..., None]
) -> None:
    """At every so many lines of its code; the next start succeeds, with the same daemon or one."""
    took_s: list[float] = []
    left = 0
    where = {"project": str(place.root), "cache": str(place.cache_dir), "go": ""}
    with Nursery(place.cache_dir, STARTER) as nursery:
        started = nursery.fork(**where, die_at=-1).hear("started")
        lines = started["lines"]
        assert lines > 100
        end(place, started["started"], tidy=True)
        for number in range(KILLED_STARTERS):
            die_at = 1 + number * lines // KILLED_STARTERS + rng.randrange(lines // KILLED_STARTERS)
            starter = nursery.fork(**where, die_at=die_at)
            eventually(lambda pid=starter.pid: ended(pid))
            left += bool(place.daemons())
            began = time.monotonic()
            pid = one_serves(place)
            took_s.append(time.monotonic() - began)
            end(place, pid, tidy=number % 2 == 0)
    assert left > 0
    measured(
        kills=len(took_s), of_lines=lines, left_a_daemon=left, longest_next_start_s=max(took_s)
    )


DYING_DAEMON = """
import itertools, os, signal, sys
if "daemon" in sys.argv:
    order, lines = os.environ["DIE_AT"], itertools.count(1)
    at = int(open(order).read() or 0) if os.path.exists(order) else 0
    count = os.open(order + ".lines", os.O_CREAT | os.O_WRONLY)
    def trace(frame, event, argument):
        name = frame.f_code.co_filename
        if frame.f_code.co_name == "serve":  # its starter knows that it is ready
            sys.settrace(None)
        if "mock_mcp/runtime" not in name and "mock_mcp/daemon" not in name:
            return None
        if event == "line":
            number = next(lines)
            os.pwrite(count, str(number).encode(), 0)
            if number == at:
                os.unlink(order)  # the next one lives
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
"""


def test_a_daemon_is_killed_anywhere_in_its_start(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: Callable[..., None]
) -> None:
    """The very start that saw it die starts another one."""
    (tmp_path / "sitecustomize.py").write_text(DYING_DAEMON)
    order = tmp_path / "order"
    path = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), path])))
    monkeypatch.setenv("DIE_AT", str(order))
    end(place, one_serves(place), tidy=True)
    lines = int((tmp_path / "order.lines").read_text())
    died = 0
    for number in range(KILLED_DAEMONS):
        order.write_text(str(1 + number * lines // KILLED_DAEMONS))
        pid = one_serves(place)
        died += not order.exists()
        end(place, pid, tidy=False)
    assert died
    measured(kills=died, of_lines=lines)


@pytest.mark.asyncio
async def test_slow_is_not_dead(place: Place, measured: Callable[..., None]) -> None:
    pid = place.start().pid
    inode = place.socket.stat().st_ino
    async with place.connect() as client, place.adapter("a") as claims:
        asked = [asyncio.create_task(client.request_mock("/before"))]
        found = await claims.claim_next(wait_s=HANG_S)
        assert found is not None
        kill(pid, signal.SIGSTOP)
        try:
            asked.append(asyncio.create_task(client.request_mock("/meanwhile")))
            asked.append(asyncio.create_task(connect_and_ask(place, "/newcomer")))
            starting = asyncio.create_task(asyncio.to_thread(place.start, timeout_s=60))
            with pytest.raises(DaemonUnreachable, match="connect_timeout_s"):
                await place.connect(connect_timeout_s=0.5)
            await asyncio.sleep(STOPPED_S)
            assert place.daemons() == [pid]
            assert place.socket.stat().st_ino == inode
            assert not any(task.done() for task in asked)
        finally:
            kill(pid, signal.SIGCONT)
        resumed = time.monotonic()
        for _ in asked:
            mocks = [Mock(each["requestId"], each["endpoint"]) for each in found.claim.requests]
            await claims.provide(found.claim.batch_id, found.claim.claim_token, mocks)
            if not all(task.done() for task in asked):
                found = await claims.claim_next(wait_s=1) or found
        answers = [mock.data for mock in await asyncio.gather(*asked)]
        assert answers == ["/before", "/meanwhile", "/newcomer"]
        assert (await starting).pid == pid
    assert place.daemons() == [pid]
    measured(stopped_s=STOPPED_S, all_answered_after_s=time.monotonic() - resumed)


async def connect_and_ask(place: Place, endpoint: str) -> Any:
    async with place.connect(connect_timeout_s=60) as client:
        return await client.request_mock(endpoint)


@pytest.mark.asyncio
async def test_who_connects_as_the_daemon_leaves_notices_nothing(
    place: Place,
    rng: random.Random,
    monkeypatch: pytest.MonkeyPatch,
    measured: Callable[..., None],
) -> None:
    monkeypatch.setattr(server, "_HOUSEKEEPING_S", 0.001)
    same = 0
    async with place.adapter("a", own=False) as claims:
        serving = asyncio.create_task(serve(claims))
        for number in range(LEAVING_ROUNDS):
            limits = Limits(idle_s=0.005)
            leaving = await asyncio.to_thread(ServedDaemon, place.root, place.cache_dir, limits)
            try:
                await asyncio.sleep(rng.uniform(0, 0.008))
                async with place.connect() as client:
                    assert (await client.request_mock(f"/{number}")).data == f"/{number}"
                    pid = place.pid()
                assert pid is not None
                if pid == os.getpid():
                    same += 1
                else:
                    await asyncio.to_thread(place.kill_daemon, pid)
            finally:
                await asyncio.to_thread(leaving.close)
        serving.cancel()
        await asyncio.wait({serving})
    measured(rounds=LEAVING_ROUNDS, answered_by_the_same_daemon=same, errors=0)


async def serve(claims: Claims) -> None:
    """Answer everything with its endpoint, whichever daemon it waits at."""
    while True:
        with contextlib.suppress(MockMcpError):  # that daemon has just left
            if found := await claims.claim_next(wait_s=HANG_S):
                mocks = [Mock(each["requestId"], each["endpoint"]) for each in found.claim.requests]
                await claims.provide(found.claim.batch_id, found.claim.claim_token, mocks)
