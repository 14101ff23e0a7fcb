from __future__ import annotations

import asyncio
import time

import pytest

from mock_mcp.errors import DaemonUnreachable, UnknownBatch
from mock_mcp.serving.times import Times

pytestmark = pytest.mark.asyncio


async def test_daemons_are_found_own_first_and_clients_kept(world):
    world.daemon("p1"), world.daemon("p2")
    own = world.daemon("own")
    router = world.router(own)
    found = await router.daemons()
    assert [router.is_own(daemon) for daemon in found] == [True, False, False]
    world.daemon("p3")
    again = await router.daemons(fresh=True)
    assert len(again) == 4
    assert {id(daemon) for daemon in found} <= {id(daemon) for daemon in again}


async def test_a_directory_that_did_not_change_is_not_read_again(world, monkeypatch):
    world.daemon("p1")
    router = world.router(times=Times(refresh_s=1000))
    await router.daemons()
    monkeypatch.setattr(world.cache, "read", lambda project_id: pytest.fail("read again"))
    assert len(await router.daemons()) == 1


async def test_a_new_registry_is_noticed_at_once(world):
    router = world.router(times=Times(refresh_s=1000))
    assert await router.daemons() == []
    world.daemon("p1")
    assert len(await router.daemons()) == 1


async def test_a_restarted_daemon_gets_a_new_client_and_the_old_one_is_closed(world):
    fake = world.daemon("p1")
    router = world.router()
    (before,) = await router.daemons()
    fake.restart()
    after = await router.daemon(fake.project.id)
    assert before.client.closed
    assert not after.client.closed
    assert after.info.token != before.info.token


async def test_a_daemon_without_a_registry_is_unreachable(world):
    with pytest.raises(DaemonUnreachable):
        await world.router().daemon("0" * 16)


async def test_garbage_and_unsafe_registries_are_skipped_and_said_once(world, caplog):
    world.daemon("p1")
    (world.cache.path / f"{'1' * 16}.json").write_text("garbage")
    (world.cache.path / f"{'2' * 16}.json").symlink_to("/etc/passwd")
    router = world.router()
    for _ in range(2):
        assert len(await router.daemons(fresh=True)) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_all_daemons_are_asked_at_once(world):
    fakes = [world.daemon(f"p{n}") for n in range(5)]
    for fake in fakes:
        fake.stuck = True
    router = world.router(times=Times(patience_s=30))
    asking = asyncio.create_task(router.ask(lambda client: client.get_status()))
    while not all(fake.calls for fake in fakes):
        await asyncio.sleep(0.001)
    for fake in fakes:
        fake.stuck = False
    assert len(await asking) == 5


async def test_a_slow_daemon_is_named_and_then_given_little_time(world):
    slow, good = world.daemon("p1"), world.daemon("p2")
    slow.stuck = True
    router = world.router(times=Times(patience_s=0.3, impatience_s=0.01))
    answers = await router.ask(lambda client: client.get_status())
    assert [answer.daemon.info.token for answer in answers if answer.error] == [slow.info.token]
    started = time.monotonic()
    await router.ask(lambda client: client.get_status())
    assert time.monotonic() - started < 0.3
    slow.stuck = False
    answers = await router.ask(lambda client: client.get_status())
    assert [answer.error for answer in answers] == [None, None]
    assert good.calls.count("getStatus") == 3


async def test_a_dead_daemon_is_left_out(world):
    world.daemon("p1").down = True
    world.daemon("p2")
    assert len(await world.router().ask(lambda client: client.get_status())) == 1


async def test_a_batch_is_found_whoever_has_it(world):
    world.daemon("p1")
    fake = world.daemon("p2")
    batch_id = fake.submit("run", world.request("r")).id
    daemon, batch = await world.router().find(batch_id)
    assert (daemon.info, batch.batch_id) == (fake.info, batch_id)


async def test_a_batch_nobody_has_is_unknown_and_silent_daemons_are_named(world):
    world.daemon("p1")
    slow = world.daemon("p2")
    slow.stuck = True
    with pytest.raises(UnknownBatch, match=r"not found.*could not be asked: .*p2"):
        await world.router().find("batch:x:1")
    slow.stuck = False


async def test_a_batch_nobody_has_is_said_to_be_unknown_once(world):
    world.daemon("p1")
    world.daemon("p2")
    with pytest.raises(UnknownBatch) as unknown:
        await world.router().find("batch:x:1")
    assert str(unknown.value).count("not found") == 1


async def test_a_wait_that_finds_nothing_ends_with_its_time(world):
    world.daemon("p1")
    assert await world.router().wait(None, time.monotonic() + 0.05) == []


async def test_a_dead_daemon_does_not_make_a_wait_spin(world):
    dead = world.daemon("p1")
    dead.down = True
    await world.router(times=Times(refresh_s=0.05)).wait(None, time.monotonic() + 0.2)
    assert len(dead.calls) <= 6


async def test_other_projects_can_be_left_alone(world):
    own, other = world.daemon("own"), world.daemon("p1")
    other.submit("run", world.request("r"))
    router = world.router(own, only_own=True)
    assert [daemon.info for daemon in await router.daemons()] == [own.info]
    assert await router.claimable(None) == []
    assert other.calls == []
