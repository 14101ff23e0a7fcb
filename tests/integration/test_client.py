"""The test client over a real daemon: grouping, waiting, cancelling and closing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

import mock_mcp
from mock_mcp.control.client import DaemonClient
from mock_mcp.errors import (
    BatchExpired,
    BatchGivenUp,
    BatchRefused,
    ClientClosed,
    DroppedValueWarning,
    LimitExceeded,
    RequestTimeout,
)
from mock_mcp.limits import Limits
from mock_mcp.types import Mock
from support.responder import Responder, endpoints, respond_to, until
from support.ws import HANG_S, eventually

pytestmark = pytest.mark.usefixtures("nothing_left")
on_loop = pytest.mark.asyncio
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and fork of POSIX")
NOBODY_S = 0.2
"""How long a request waits that nobody will answer."""


async def gone(responder: Responder) -> bool:
    return await responder.batches() == []


# -- Asking and answering ----------------------------------------------------------------------


@on_loop
async def test_a_mock_is_what_the_responder_provided(connect, responder):
    async with connect() as client:
        asked = asyncio.create_task(
            client.request_mock(
                "https://api.test/user?id=1",
                "POST",
                body={"name": "é"},
                headers={"x": ["1", "2"]},
                metadata={"schema": {"type": "object"}, "instructions": "one user"},
            )
        )
        claim = await responder.claim()
        assert claim.requests == [
            {
                "requestId": claim.requests[0]["requestId"],
                "endpoint": "https://api.test/user?id=1",
                "method": "POST",
                "body": {"name": "é"},
                "headers": {"x": ["1", "2"]},
                "metadata": {"schema": {"type": "object"}, "instructions": "one user"},
            }
        ]
        assert await responder.provide(claim, data={"id": 1}, status=201, headers={"a": "b"})
        mock = await asked
        assert (mock.data, mock.status, mock.headers) == ({"id": 1}, 201, {"a": "b"})


@on_loop
async def test_connect_can_be_awaited(connect, served):
    client = await connect()
    assert client.enabled
    assert (await client.request_mock("/a")).data == "/a"
    await client.close()


def test_plain_sync_code(connect_sync, served):
    with connect_sync() as client:
        assert client.enabled
        assert [client.request_mock(f"/{n}").data for n in range(5)] == [f"/{n}" for n in range(5)]


def test_anyio_on_asyncio(connect, served):
    async def main() -> dict[int, Any]:
        got: dict[int, Any] = {}

        async def ask(client: Any, number: int) -> None:
            got[number] = (await client.request_mock(f"/{number}")).data

        async with connect() as client, anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(ask, client, number)
        return got

    assert anyio.run(main, backend="asyncio") == {n: f"/{n}" for n in range(10)}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_under_the_plugin_of_anyio(connect, served, anyio_backend):
    async with connect() as client:
        assert (await client.request_mock("/a")).data == "/a"


@on_loop
async def test_sync_code_inside_an_event_loop(connect_sync, served):
    with connect_sync() as client:
        assert client.request_mock("/a").data == "/a"


@on_loop
async def test_a_large_mock_of_any_script_arrives_intact(connect, responder):
    text = "žluťoučký кůň 漢字 😀" * 20_000
    async with connect() as client:
        asked = asyncio.create_task(client.request_mock("/a"))
        await responder.provide(await responder.claim(), data={"text": text})
        assert (await asked).data == {"text": text}
        assert len(text.encode()) > 600_000


@on_loop
async def test_a_large_answer_reused_very_often_does_not_burst_its_message(
    project, cache_dir, start_daemon
):
    limits = {"frame_bytes": 65_536}
    daemon = start_daemon(**limits)
    large = "x" * 10_000
    async with (
        respond_to(daemon.info) as responder,
        mock_mcp.connect(
            project_root=project, cache_dir=cache_dir, enabled=True, limits=Limits(**limits)
        ) as client,
    ):
        first = asyncio.create_task(client.request_mock("/a"))
        await responder.provide(await responder.claim(), data=large, reuse="run")
        await first
        asked = [asyncio.create_task(client.request_mock("/a", timeout_s=10)) for _ in range(7)]
        claim = await responder.claim()
        assert len(claim.requests) == 4
        with pytest.raises(LimitExceeded, match="3 answers reused"):
            await responder.provide(claim, data=large)
        await responder.provide(claim, data="small")
        answers = [mock.data for mock in await asyncio.gather(*asked)]
        assert sorted(answers) == ["small"] * 4 + [large] * 3


@on_loop
async def test_a_run_says_who_it_is(connect, responder, project):
    file = project / "test_a.py"
    async with connect(run_id="mine", file_path=file, test_name="test_b") as client:
        assert client.run_id == "mine"
        (run,) = await responder.client.list_runs()
        assert (run.run_id, run.pid, run.cwd) == ("mine", os.getpid(), str(Path.cwd()))
        assert (run.test_meta.test_file, run.test_meta.test_name) == (str(file), "test_b")
    assert await responder.client.list_runs() == []


@on_loop
async def test_the_longest_run_id_the_daemon_takes_works(connect, served):
    async with connect(run_id="x" * 256) as client:
        mock = await client.request_mock("/a", timeout_s=5)
        assert mock.data == "/a"


# -- Grouping ----------------------------------------------------------------------------------


@on_loop
async def test_requests_of_one_turn_are_one_batch(connect, responder):
    async with connect() as client:
        asked = asyncio.gather(*(client.request_mock(f"/{n}") for n in range(50)))
        claim = await responder.claim()
        assert endpoints(claim) == [f"/{n}" for n in range(50)]
        await responder.provide(claim)
        assert [mock.data for mock in await asked] == [f"/{n}" for n in range(50)]
        assert await responder.total() == 1


@on_loop
async def test_a_batch_is_no_larger_than_allowed(connect, responder):
    async with connect(max_batch_size=20) as client:
        asked = asyncio.gather(*(client.request_mock(f"/{n}") for n in range(50)))
        sizes = []
        for _ in range(3):
            claim = await responder.claim()
            sizes.append(len(claim.requests))
            await responder.provide(claim)
        assert sizes == [20, 20, 10]
        assert [mock.data for mock in await asked] == [f"/{n}" for n in range(50)]


@on_loop
async def test_requests_of_different_turns_are_different_batches(connect, responder):
    async with connect() as client:
        first = asyncio.create_task(client.request_mock("/1"))
        claims = [await responder.claim()]
        second = asyncio.create_task(client.request_mock("/2"))
        claims.append(await responder.claim())
        assert [endpoints(claim) for claim in claims] == [["/1"], ["/2"]]
        for claim in claims:
            await responder.provide(claim)
        await asyncio.gather(first, second)


@on_loop
async def test_a_debounce_groups_several_turns(connect, responder):
    async with connect(debounce_s=0.5) as client:
        asked = []
        for n in range(5):
            asked.append(asyncio.create_task(client.request_mock(f"/{n}")))
            await asyncio.sleep(0)
        claim = await responder.claim()
        assert endpoints(claim) == [f"/{n}" for n in range(5)]
        await responder.provide(claim)
        await asyncio.gather(*asked)


@on_loop
async def test_a_full_batch_does_not_wait_for_the_debounce(connect, responder):
    async with connect(debounce_s=60, max_batch_size=2) as client:
        asked = asyncio.gather(client.request_mock("/1"), client.request_mock("/2"))
        await responder.provide(await responder.claim())
        await asked


@on_loop
async def test_a_request_cancelled_during_the_debounce_is_never_sent(connect, responder):
    async with connect(debounce_s=0.3) as client:
        dropped = asyncio.create_task(client.request_mock("/dropped"))
        kept = asyncio.create_task(client.request_mock("/kept"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        dropped.cancel()
        claim = await responder.claim()
        assert endpoints(claim) == ["/kept"]
        await responder.provide(claim)
        await kept


@on_loop
async def test_a_batch_too_large_for_a_frame_is_split(project, cache_dir, start_daemon):
    limits = {"frame_bytes": 65_536}
    daemon = start_daemon(**limits)
    async with (
        respond_to(daemon.info) as responder,
        mock_mcp.connect(
            project_root=project, cache_dir=cache_dir, enabled=True, limits=Limits(**limits)
        ) as client,
    ):
        serve = asyncio.create_task(responder.serve())
        asked = [client.request_mock(f"/{n}", body="é" * 10_000) for n in range(10)]
        assert [mock.data for mock in await asyncio.gather(*asked)] == [f"/{n}" for n in range(10)]
        assert 1 < await responder.total() < 10
        serve.cancel()
        await asyncio.wait({serve})


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Return what each of some threads made, all of them beginning together."""
    barrier = threading.Barrier(count)

    def begin(number: int) -> Any:
        barrier.wait(HANG_S)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def test_threads_of_sync_code_are_grouped(connect_sync, served):
    # The debounce is long, so that only the full batch can end it.
    with connect_sync(debounce_s=60, max_batch_size=10) as client:
        answers = in_threads(10, lambda n: client.request_mock(f"/{n}").data)
    assert answers == [f"/{n}" for n in range(10)]
    assert served.control.call("getStatus")["totalBatches"] == 1


def test_two_hundred_threads_each_get_their_own_answer(connect_sync, served):
    with connect_sync() as client:
        answers = in_threads(200, lambda n: [client.request_mock(f"/{n}/{i}").data for i in (1, 2)])
    assert answers == [[f"/{n}/1", f"/{n}/2"] for n in range(200)]


def test_event_loops_in_several_threads_share_a_client(connect, served):
    async def ask(client: Any, number: int) -> list[Any]:
        asked = (client.request_mock(f"/{number}/{i}") for i in range(10))
        return [mock.data for mock in await asyncio.gather(*asked)]

    client = asyncio.run(_awaited(connect()))
    answers = in_threads(5, lambda n: asyncio.run(ask(client, n)))
    assert answers == [[f"/{n}/{i}" for i in range(10)] for n in range(5)]
    assert served.control.call("getStatus")["totalBatches"] == 5
    asyncio.run(client.close())


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def test_two_clients_of_one_process_do_not_mix(connect_sync, served):
    with connect_sync() as one, connect_sync() as two:
        assert one.run_id != two.run_id
        answers = in_threads(20, lambda n: (one, two)[n % 2].request_mock(f"/{n}").data)
    assert answers == [f"/{n}" for n in range(20)]


# -- Stopping to wait ----------------------------------------------------------------------------


@on_loop
async def test_a_timeout_cancels_one_request_and_leaves_the_others(connect, responder):
    async with connect(timeout_s=None) as client:
        short = asyncio.create_task(client.request_mock("/short", timeout_s=NOBODY_S))
        long = asyncio.create_task(client.request_mock("/long"))
        with pytest.raises(RequestTimeout, match="GET /short") as caught:
            await short
        assert not isinstance(caught.value, OSError)  # which HTTP libraries retry
        assert "mock-mcp doctor" in caught.value.message

        async def rest() -> list[str]:
            return [endpoints(batch) for batch in await responder.batches()] == [["/long"]]

        await until(rest)
        claim = await responder.claim()
        assert endpoints(claim) == ["/long"]
        await responder.provide(claim)
        assert (await long).data == "/long"


@on_loop
async def test_a_short_timeout_after_a_long_one_is_as_short(connect, responder):
    async with connect(timeout_s=HANG_S) as client:
        long = asyncio.create_task(client.request_mock("/long"))
        claim = await responder.claim()
        for _ in range(2):  # the second time, an earlier timer has run out
            with pytest.raises(RequestTimeout, match="GET /short"):
                await asyncio.wait_for(client.request_mock("/short", timeout_s=NOBODY_S), HANG_S)
        await responder.provide(claim)
        assert (await long).data == "/long"


@on_loop
async def test_a_batch_nobody_waits_for_is_gone(connect, responder):
    async with connect() as client:
        asked = [client.request_mock(f"/{n}", timeout_s=NOBODY_S) for n in range(3)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(each) for each in outcomes} == {RequestTimeout}
        await until(lambda: gone(responder))
        assert await responder.total() == 1


@on_loop
async def test_a_cancelled_task_cancels_at_the_daemon(connect, responder):
    async with connect(timeout_s=None) as client:
        asked = asyncio.create_task(client.request_mock("/a"))
        claim = await responder.claim()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await until(lambda: gone(responder))
        assert not await responder.provide(claim)  # taken, and said to have reached nobody


@on_loop
async def test_a_mock_for_a_request_cancelled_meanwhile_is_ignored(connect, responder):
    async with connect(timeout_s=None) as client:
        gone = asyncio.create_task(client.request_mock("/gone"))
        kept = asyncio.create_task(client.request_mock("/kept"))
        claim = await responder.claim()
        gone.cancel()
        await asyncio.wait({gone})

        async def one_left() -> bool:
            return endpoints(await responder.client.get_batch(claim.batch_id)) == ["/kept"]

        await until(one_left)
        assert await responder.provide(claim)
        assert (await kept).data == "/kept"


@on_loop
async def test_a_timeout_of_the_caller_cancels(connect, responder):
    async with connect(timeout_s=None) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.request_mock("/a"), NOBODY_S)
        await until(lambda: gone(responder))


@on_loop
async def test_a_failing_task_group_cancels_its_requests(connect, responder):
    async def fail() -> None:
        await responder.claim()
        raise ValueError

    async with connect(timeout_s=None) as client:
        with pytest.raises(ExceptionGroup):  # noqa: PT012
            async with asyncio.TaskGroup() as group:
                group.create_task(client.request_mock("/a"))
                group.create_task(fail())
        await until(lambda: gone(responder))


@on_loop
@pytest.mark.parametrize("timeout_s", ["5", 0, -1, float("nan"), 10**400])
async def test_a_wrong_timeout_harms_nobody_else(connect, served, timeout_s):
    async with connect() as client:
        wrong, right = await asyncio.wait_for(
            asyncio.gather(
                client.request_mock("/wrong", timeout_s=timeout_s),
                client.request_mock("/right"),
                return_exceptions=True,
            ),
            2,
        )
        assert isinstance(wrong, mock_mcp.MockMcpError)
        assert not isinstance(wrong, RequestTimeout)
        assert "timeout_s" in str(wrong)
        assert right.data == "/right"


@on_loop
async def test_a_delay_postpones_its_own_mock_only(connect, responder):
    async with connect() as client:
        late = asyncio.create_task(client.request_mock("/late"))
        soon = asyncio.create_task(client.request_mock("/soon"))
        claim = await responder.claim()
        ids = {request["endpoint"]: request["requestId"] for request in claim.requests}
        mocks = [Mock(ids["/late"], 1, delay_ms=300), Mock(ids["/soon"], 2)]
        assert await responder.provide_mocks(claim, mocks)
        done, _ = await asyncio.wait({late, soon}, return_when=asyncio.FIRST_COMPLETED)
        assert done == {soon}
        assert (await late).data == 1


@on_loop
async def test_close_fails_a_mock_that_is_delayed(connect, responder):
    client = await connect()
    asked = asyncio.create_task(client.request_mock("/late"))
    assert await responder.provide(await responder.claim(), delay_ms=600_000)
    await client.close()
    await asyncio.wait({asked}, timeout=1)
    try:
        assert asked.done()
        assert isinstance(asked.exception(), ClientClosed)
    finally:
        asked.cancel()


# -- wait_for_pending_requests -------------------------------------------------------------------


@on_loop
async def test_waiting_covers_what_is_pending_and_not_what_starts_later(connect, responder):
    async with connect() as client:
        early = [asyncio.create_task(client.request_mock(f"/early/{n}")) for n in range(2)]
        claim = await responder.claim()
        waiting = asyncio.create_task(client.wait_for_pending_requests())
        await asyncio.sleep(0)
        late = asyncio.create_task(client.request_mock("/late"))
        late_claim = await responder.claim()
        assert not waiting.done()
        await responder.provide(claim)
        await waiting
        assert all(each.done() for each in early)
        assert not late.done()
        await responder.provide(late_claim)
        await late


@on_loop
async def test_waiting_raises_the_first_failure_at_once(connect, responder):
    async with connect(timeout_s=None) as client:
        asked = [
            asyncio.create_task(client.request_mock("/never")),
            asyncio.create_task(client.request_mock("/short", timeout_s=NOBODY_S)),
        ]
        await responder.claim()
        with pytest.raises(RequestTimeout, match="/short"):
            await client.wait_for_pending_requests()
        assert not asked[0].done()
        asked[0].cancel()
        await asyncio.wait(asked)
        assert asked[1].exception()


@on_loop
async def test_waiting_for_many_that_fail_raises_one_and_leaves_no_noise(connect, responder):
    noise: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))

    async def fail() -> None:
        async with connect() as client:
            asked = [
                asyncio.create_task(client.request_mock(f"/{n}", timeout_s=NOBODY_S))
                for n in range(4)
            ]
            await responder.claim()
            with pytest.raises(RequestTimeout):
                await client.wait_for_pending_requests()
            await asyncio.gather(*asked, return_exceptions=True)

    await fail()
    gc.collect()
    assert not noise


@on_loop
async def test_waiting_for_nothing_returns(connect, served):
    async with connect() as client:
        await client.wait_for_pending_requests()
        await client.request_mock("/a")
        await client.wait_for_pending_requests()


@on_loop
async def test_waiting_does_not_raise_what_was_cancelled(connect, responder):
    async with connect() as client:
        asked = asyncio.create_task(client.request_mock("/a"))
        await responder.claim()
        waiting = asyncio.create_task(client.wait_for_pending_requests())
        await asyncio.sleep(0)
        asked.cancel()
        await waiting


@on_loop
async def test_abandoning_the_wait_leaves_the_requests(connect, responder):
    async with connect() as client:
        asked = asyncio.create_task(client.request_mock("/a"))
        claim = await responder.claim()
        waiting = asyncio.create_task(client.wait_for_pending_requests())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        await responder.provide(claim)
        assert (await asked).data == "/a"


def test_waiting_in_sync_code(connect_sync, daemon):
    with connect_sync() as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.request_mock, "/a")
        claim = daemon.control.claim()
        mocks = [{"requestId": each["requestId"], "data": 1} for each in claim["requests"]]
        with ThreadPoolExecutor(1) as other:
            waiting = other.submit(client.wait_for_pending_requests)
            assert not waiting.done()
            daemon.control.provide(claim, mocks)
            waiting.result(HANG_S)
        assert asked.result(HANG_S).data == 1


def test_waiting_in_sync_code_raises_the_first_failure(connect_sync, daemon):
    with connect_sync() as client, ThreadPoolExecutor(2) as pool:
        never = pool.submit(client.request_mock, "/never")
        short = pool.submit(client.request_mock, "/short", timeout_s=NOBODY_S)
        daemon.control.claim()
        try:
            eventually(lambda: short.done() or client._pending)
            if not short.done():
                with pytest.raises(RequestTimeout):
                    client.wait_for_pending_requests()
        finally:
            client.close()
        assert isinstance(never.exception(HANG_S), ClientClosed)
        assert isinstance(short.exception(HANG_S), RequestTimeout)


# -- Closing ------------------------------------------------------------------------------------


@on_loop
async def test_close_fails_what_is_pending_and_the_daemon_forgets_it(connect, responder):
    client = await connect(timeout_s=None)
    asked = [asyncio.create_task(client.request_mock(f"/{n}")) for n in range(3)]
    await responder.claim()
    await client.close()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(each) for each in outcomes} == {ClientClosed}
    assert "wait_for_pending_requests" in outcomes[0].message
    assert await responder.batches() == []
    assert await responder.client.list_runs() == []
    with pytest.raises(ClientClosed, match="connect again"):
        await client.request_mock("/a")
    await client.close()
    await client.wait_for_pending_requests()


@on_loop
async def test_close_fails_what_waits_for_its_debounce(connect, daemon):
    client = await connect(debounce_s=60)
    asked = asyncio.create_task(client.request_mock("/a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(ClientClosed):
        await asked


def test_close_of_a_sync_client_frees_its_threads(connect_sync, daemon):
    client = connect_sync(timeout_s=None)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(client.request_mock, f"/{n}") for n in range(3)]
        daemon.control.claim()
        client.close()
        outcomes = [each.exception(HANG_S) for each in asked]
    assert {type(each) for each in outcomes} == {ClientClosed}
    with pytest.raises(ClientClosed):
        client.request_mock("/a")
    client.close()


@on_loop
async def test_several_closes_at_once(connect, daemon):
    client = await connect()
    await asyncio.gather(*(client.close() for _ in range(5)))


def test_requests_racing_with_close_all_end(connect_sync, served):
    client = connect_sync()
    ended = []

    def work(number: int) -> None:
        try:
            while True:
                ended.append(client.request_mock(f"/{number}").data)
        except ClientClosed:
            ended.append(ClientClosed)

    with ThreadPoolExecutor(8) as pool:
        work_done = [pool.submit(work, n) for n in range(8)]
        eventually(lambda: len(ended) > 20)
        client.close()
        for each in work_done:
            each.result(HANG_S)
    assert ended.count(ClientClosed) == 8


def test_a_loop_that_closes_with_requests_pending_leaves_no_noise(connect, daemon):
    client = asyncio.run(_awaited(connect(timeout_s=None)))

    async def leave() -> None:
        task = asyncio.create_task(client.request_mock("/a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(leave())  # cancels what is left
    daemon.control.call("waitForBatch", waitMs=0)
    eventually(lambda: not daemon.control.call("listBatches")["batches"])
    asyncio.run(client.close())


# -- What the daemon answers instead of a mock ---------------------------------------------------


@on_loop
@pytest.mark.parametrize(
    ("limits", "name"),
    [({"batch_requests": 2}, "batch_requests"), ({"parked_batches": 0}, "parked")],
)
async def test_a_refused_batch_fails_with_the_daemons_reason(start_daemon, connect, limits, name):
    start_daemon(**limits)
    async with connect() as client:
        outcomes = await asyncio.gather(
            *(client.request_mock(f"/{n}") for n in range(3)), return_exceptions=True
        )
        assert {type(each) for each in outcomes} == {BatchRefused}
        assert all(name in each.message for each in outcomes)


@on_loop
async def test_a_batch_given_up_fails_with_the_reasons(connect, responder):
    async with connect() as client:
        asked = asyncio.create_task(client.request_mock("/a"))
        for n in range(10):
            assert not asked.done()
            claim = await responder.claim()
            assert claim.attempts == n
            await responder.client.release_batch(
                "responder", claim.batch_id, claim.claim_token, f"no idea {n}"
            )
        with pytest.raises(BatchGivenUp, match="no idea 9"):
            await asked


@on_loop
async def test_a_batch_that_outlives_its_time_fails(start_daemon, connect):
    start_daemon(batch_ttl_s=0.1)
    async with connect(timeout_s=None) as client:
        with pytest.raises(BatchExpired):
            await client.request_mock("/a")


@on_loop
async def test_an_endpoint_that_is_not_text_fails_alone(connect, served):
    async with connect() as client:
        wrong, right = await asyncio.gather(
            _ignoring_warnings(client.request_mock("/\ud800")),
            client.request_mock("/right"),
            return_exceptions=True,
        )
        assert isinstance(wrong, mock_mcp.MockMcpError)
        assert right.data == "/right"


# -- Values that are not JSON --------------------------------------------------------------------


@on_loop
async def test_a_warning_points_at_the_awaiting_line(connect, served):
    async with connect() as client:
        with pytest.warns(DroppedValueWarning, match=r"body\.file") as caught:
            await client.request_mock("/a", body={"file": b"x"})
        (warning,) = caught
        assert warning.filename == __file__


def test_a_warning_points_at_the_calling_line(connect_sync, served):
    with connect_sync() as client:
        with pytest.warns(DroppedValueWarning, match=r"body\.file") as caught:
            client.request_mock("/a", body={"file": b"x"})
        (warning,) = caught
        assert warning.filename == __file__


@on_loop
@pytest.mark.parametrize("levels", [190, 197, 199, 500, 100_000])
async def test_a_deep_value_is_sent_or_refused_but_never_left_hanging(connect, served, levels):
    value: Any = 1
    for _ in range(levels):
        value = [value]
    async with connect(timeout_s=1.5) as client:
        deep, plain = await asyncio.gather(
            _ignoring_warnings(client.request_mock("/deep", metadata={"x": value})),
            client.request_mock("/plain"),
            return_exceptions=True,
        )
        assert isinstance(deep, Mock | mock_mcp.MockMcpError)
        assert not isinstance(deep, RequestTimeout)
        assert isinstance(plain, Mock)


async def _ignoring_warnings(awaitable: Awaitable[Any]) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DroppedValueWarning)
        return await awaitable


# -- The process ends ----------------------------------------------------------------------------


def test_a_process_that_closed_exits_at_once(script, daemon):
    process = script("""
        client = mock_mcp.connect_sync(**WHERE)
        def ask():
            try:
                client.request_mock("/a")
            except mock_mcp.MockMcpError as exc:
                say(exc.code)
        threading.Thread(target=ask).start()
        sys.stdin.readline()
        client.close()
    """)
    daemon.control.claim()
    process.process.stdin.write("\n")
    process.process.stdin.flush()
    assert process.end() == (0, "client-closed\n", "")


def test_a_process_that_forgot_to_close_exits_and_is_forgotten(script, daemon):
    process = script("""
        async def main():
            client = await mock_mcp.connect(**WHERE)
            task = asyncio.create_task(client.request_mock("/a"))
            await asyncio.to_thread(sys.stdin.readline)
        asyncio.run(main())
    """)
    daemon.control.claim()
    process.process.stdin.write("\n")
    process.process.stdin.flush()
    assert process.end() == (0, "", "")
    eventually(lambda: not daemon.control.call("listRuns")["runs"])


def test_a_process_with_a_daemon_thread_that_waits_exits(script, daemon):
    process = script("""
        client = mock_mcp.connect_sync(**WHERE)
        threading.Thread(target=lambda: client.request_mock("/a"), daemon=True).start()
        sys.stdin.readline()
    """)
    daemon.control.claim()
    process.process.stdin.write("\n")
    process.process.stdin.flush()
    code, _, _ = process.end()
    assert code == 0
    eventually(lambda: not daemon.control.call("listRuns")["runs"])


@POSIX
@pytest.mark.parametrize("close", ["client.close()", "pass"], ids=["closing", "forgetting"])
def test_a_process_exits_although_the_daemon_is_stopped(script, daemon_process, close):
    process = script(f"""
        client = mock_mcp.connect_sync(**WHERE)
        say("connected")
        sys.stdin.readline()
        {close}
    """)
    assert process.line() == "connected"
    os.kill(daemon_process.process.pid, signal.SIGSTOP)
    try:
        process.process.stdin.write("\n")
        process.process.stdin.flush()
        assert process.end() == (0, "", "")
    finally:
        os.kill(daemon_process.process.pid, signal.SIGCONT)


@POSIX
def test_ctrl_c_cancels_at_the_daemon(script, daemon):
    process = script("""
        client = mock_mcp.connect_sync(**WHERE)
        try:
            client.request_mock("/a")
        except KeyboardInterrupt:
            say("interrupted")
        sys.stdin.readline()  # the connection is still open
        client.close()
    """)
    daemon.control.claim()
    process.process.send_signal(signal.SIGINT)
    assert process.line() == "interrupted"
    eventually(lambda: not daemon.control.call("listBatches")["batches"])
    assert len(daemon.control.call("listRuns")["runs"]) == 1
    process.process.stdin.write("\n")
    process.process.stdin.flush()
    assert process.end() == (0, "", "")


def test_an_interrupt_anywhere_in_the_wait_leaves_the_client_usable(script, served):
    """Ctrl-C comes between any two instructions, also where a condition's lock is held."""
    process = script("""
        client = mock_mcp.connect_sync(**WHERE)
        waiting = ("threading.py", "_base.py", "queue.py")

        def interrupted_at(step):
            left = step

            def trace(frame, event, _):
                nonlocal left
                if not frame.f_code.co_filename.endswith(waiting):
                    return None
                frame.f_trace_opcodes = True
                if event == "opcode":
                    left -= 1
                    if left == 0:
                        raise KeyboardInterrupt
                return trace

            sys.settrace(trace)
            try:
                client.request_mock("/a")
            except (KeyboardInterrupt, RuntimeError):
                pass
            finally:
                sys.settrace(None)
            return left <= 0

        step = 1
        while interrupted_at(step):
            assert client.request_mock("/b").data == "/b"
            step += 1
        client.close()
        say("survived")
    """)
    assert process.end() == (0, "survived\n", "")


@POSIX
def test_ctrl_c_ends_async_code(script, daemon):
    process = script("""
        async def main():
            async with mock_mcp.connect(**WHERE) as client:
                await client.request_mock("/a")
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            say("interrupted")
    """)
    daemon.control.claim()

    def ended() -> bool:
        # Again and again: a signal just before epoll_wait is lost on asyncio.run of Python 3.11.
        process.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.process.wait(1)
        return process.process.returncode is not None

    eventually(ended)
    assert process.end() == (0, "interrupted\n", "")
    eventually(lambda: not daemon.control.call("listRuns")["runs"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_is_told_to_connect_again_and_the_parent_goes_on(script, served):
    process = script("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads, since 3.12
        client = mock_mcp.connect_sync(**WHERE)
        say(client.request_mock("/before").data)
        pid = os.fork()
        if not pid:
            try:
                client.request_mock("/child")
            except mock_mcp.MockMcpError as exc:
                say(exc.code, "connect again" in exc.message)
            client.close()
            with mock_mcp.connect_sync(**WHERE) as own:
                say(own.request_mock("/own").data)
            sys.exit(7)
        _, status = os.waitpid(pid, 0)
        say(os.waitstatus_to_exitcode(status))
        say(client.request_mock("/after").data)
        client.close()
    """)
    expected = "/before\nforked-client True\n/own\n7\n/after\n"
    assert process.end() == (0, expected, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_waiting_for_the_parents_requests_in_a_fork_does_not_hang(script, daemon):
    process = script("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        client = mock_mcp.connect_sync(**WHERE)
        threading.Thread(target=lambda: client.request_mock("/a"), daemon=True).start()
        while not client._pending:
            time.sleep(0.01)
        pid = os.fork()
        if not pid:
            signal.alarm(1)
            try:
                client.wait_for_pending_requests()
            except mock_mcp.MockMcpError as exc:
                os._exit(0 if exc.code == "forked-client" else 2)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        say(os.waitstatus_to_exitcode(status))
    """)
    assert process.line() == "0"
    assert process.end()[0] == 0


# -- Loops of all kinds ------------------------------------------------------------------------


@on_loop
async def test_a_request_of_a_loop_that_was_closed_is_not_waited_for(connect, daemon):
    async with connect(timeout_s=NOBODY_S) as client:

        def abandon() -> None:
            loop = asyncio.new_event_loop()
            task = loop.create_task(client.request_mock("/abandoned"))
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
            task._log_destroy_pending = False

        await asyncio.to_thread(abandon)
        await client.wait_for_pending_requests()


def test_a_client_under_uvloop(connect, served, monkeypatch):
    uvloop = pytest.importorskip("uvloop")
    monkeypatch.setattr("mock_mcp.client.engine.new_event_loop", uvloop.new_event_loop)
    long = "x" * 700_000  # more than one read

    async def ask() -> None:
        async with connect() as client, DaemonClient.of(served.info) as control:
            asked = [client.request_mock(f"/{n}", body=long) for n in range(3)]
            answers = await asyncio.gather(*asked)
            assert [mock.data for mock in answers] == ["/0", "/1", "/2"]
            assert (await control.get_status()).runs == 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())
