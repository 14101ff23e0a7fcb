"""The broker: every edge, every refusal, every promise of DESIGN sections 3 and 5.

Time is a number that the tests pass in. A refusal is checked with `refuses`, which also asserts
that nothing changed, private state included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from mock_mcp.core.broker import (
    ENDED_BATCHES,
    HISTORY_ENTRIES,
    REASON_CHARS,
    BatchState,
    Broker,
    Status,
)
from mock_mcp.core.effects import (
    Acknowledged,
    Cancelled,
    Claimed,
    Delivered,
    Effect,
    Expired,
    Failed,
    Rejected,
    Released,
    Replaced,
    RunEnded,
    Submitted,
)
from mock_mcp.errors import (
    BatchExpired,
    BatchGivenUp,
    ClaimMismatch,
    InvalidParams,
    LeaseEnded,
    LimitExceeded,
    MockMcpError,
    MocksMismatch,
    NotClaimed,
    RunReplaced,
    UnknownBatch,
    UnknownRun,
    UnusableContract,
)
from mock_mcp.limits import Limits
from mock_mcp.types import HistoryEntry, Mock, MockRequest, TestMeta

OURS = ("resume", "ack", "errors")
"""What this project's client can do; the 0.5 client can do none of it."""

TTL, GRACE, LEASE = 1800.0, 10.0, 30.0


# -- Help -----------------------------------------------------------------------------------------


def requests(*ids: str) -> list[MockRequest]:
    return [MockRequest(rid, f"https://api.test/{rid}", "GET", msgspec.Raw(b"{}")) for rid in ids]


def mocks(*ids: str, data: Any = None) -> list[Mock]:
    return [Mock(rid, data) for rid in ids]


def connected(*run_ids: str, capabilities: tuple[str, ...] = OURS, **limits: Any) -> Broker:
    """Return a broker to which each run is connected, the first as connection 1, at time 0."""
    broker = Broker(Limits(**limits))
    for number, run_id in enumerate(run_ids or ("r",), start=1):
        broker.open_run(0.0, run_id, number, capabilities=capabilities)
    return broker


def with_claim(capabilities: tuple[str, ...] = OURS, **limits: Any) -> Broker:
    """Return a broker where A holds ``batch:r:1`` (requests p, q) from 0 to 30 with token "t"."""
    broker = connected("r", capabilities=capabilities, **limits)
    broker.submit(0.0, "r", requests("p", "q"))
    broker.claim(0.0, "A", LEASE, "t")
    broker.take_effects()
    return broker


def answered(capabilities: tuple[str, ...] = OURS, **limits: Any) -> Broker:
    """Return `with_claim` after A's answer at time 1."""
    broker = with_claim(capabilities, **limits)
    broker.provide(1.0, "A", "batch:r:1", "t", mocks("p", "q"))
    broker.take_effects()
    return broker


def claim_id(broker: Broker, now: float, adapter_id: str, token: str, **which: Any) -> str | None:
    batch = broker.claim(now, adapter_id, LEASE, token, **which)
    return batch.id if batch else None


def claim_and_release(broker: Broker, now: float, adapter_id: str, token: str, **which: Any) -> str:
    batch = broker.claim(now, adapter_id, LEASE, token, **which)
    assert batch
    broker.release(now, adapter_id, batch.id, token)
    return batch.id


def order(broker: Broker, now: float = 0.0, adapter_id: str = "Z", **which: Any) -> list[str]:
    """Claim until nothing is claimable; return the ids in the order they were offered."""
    ids: list[str] = []
    while batch_id := claim_id(broker, now, adapter_id, f"order {len(ids)}", **which):
        ids.append(batch_id)
    return ids


def snapshot(value: Any) -> Any:
    """Return a comparable deep copy of everything reachable, private state included."""
    if isinstance(value, dict):
        return [(snapshot(key), snapshot(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [snapshot(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    names = getattr(value, "__slots__", None) or getattr(value, "__dict__", ())
    if isinstance(value, msgspec.Struct) or not type(value).__module__.startswith("mock_mcp.core"):
        return value
    return [(name, snapshot(getattr(value, name))) for name in names]


@contextmanager
def refuses(broker: Broker, error: type[MockMcpError], match: str | None = None) -> Iterator[None]:
    """Assert that the block is refused with exactly this class and changes nothing."""
    before = snapshot(broker)
    with pytest.raises(error, match=match) as caught:
        yield
    assert type(caught.value) is error
    assert snapshot(broker) == before


def failures(effects: list[Effect]) -> list[MockMcpError]:
    return [effect.error for effect in effects if isinstance(effect, Failed)]


def is_empty(broker: Broker) -> bool:
    """Say whether nothing is left of any batch but the memory of ended ones."""
    queues = [broker._queue, *(run.queue for run in broker.runs.values())]
    return (
        not broker._batches
        and not len(broker._leases)
        and not len(broker._ttls)
        and not any(queue._groups or queue.size for queue in queues)
        and not any(run.batches for run in broker.runs.values())
        and broker.pending == broker.claimed == 0
    )


def test_the_snapshot_sees_private_state():
    broker = with_claim()
    before = snapshot(broker)
    claim = broker.batch("batch:r:1").claim
    assert claim
    claim.checks += 1
    assert snapshot(broker) != before


# -- Runs -----------------------------------------------------------------------------------------


def test_a_run_is_known_from_hello_to_close():
    broker = Broker()
    meta = TestMeta("tests/test_a.py", "test_x")
    broker.open_run(5.0, "r", 1, pid=7, cwd="/here", test_meta=meta, capabilities=OURS, session=1)
    run = broker.run("r")
    assert (run.id, run.pid, run.cwd, run.test_meta) == ("r", 7, "/here", meta)
    assert (run.started_at, run.last_seen, run.session, run.connection_id) == (5.0, 5.0, 1, 1)
    broker.seen(8.0, "r")
    assert (run.started_at, run.last_seen) == (5.0, 8.0)
    broker.close_run(9.0, "r", 1, clean=True)
    assert broker.take_effects() == [RunEnded("r", "")]
    with refuses(broker, UnknownRun, "not found"):
        broker.run("r")


def test_a_sign_of_life_of_an_unknown_run_changes_nothing():
    broker = Broker()
    broker.seen(1.0, "nobody")
    assert not broker.runs


@pytest.mark.parametrize("capabilities", [OURS, ("resume",), ("ack", "errors"), ()])
def test_a_clean_close_purges_the_run_at_once(capabilities):
    broker = connected("r", "other", capabilities=capabilities)
    broker.submit(0.0, "r", requests("p"))
    kept = broker.submit(0.0, "other", requests("p"))
    broker.take_effects()
    broker.close_run(1.0, "r", 1, clean=True)
    assert broker.take_effects() == [
        Cancelled("r", "batch:r:1", ("p",), whole=True),
        RunEnded("r", ""),
    ]
    assert list(broker.runs) == ["other"]
    assert list(broker.batches()) == [kept]
    assert broker.pending == 1


@pytest.mark.parametrize("capabilities", [("ack", "errors"), ()])
def test_an_abnormal_close_purges_a_run_that_cannot_resume(capabilities):
    broker = with_claim(capabilities)
    broker.close_run(1.0, "r", 1, clean=False)
    assert not broker.runs
    assert is_empty(broker)
    assert broker.next_deadline() is None


def test_after_an_abnormal_close_the_run_and_its_batches_wait_for_the_grace_period():
    broker = with_claim()
    broker.submit(0.0, "r", requests("s"))
    broker.take_effects()
    broker.close_run(1.0, "r", 1, clean=False)
    assert broker.next_deadline() == 1.0 + GRACE
    broker.expire(1.0 + GRACE - 0.001)
    assert broker.take_effects() == []
    assert (broker.pending, broker.claimed) == (1, 1)
    broker.expire(1.0 + GRACE)
    assert not broker.runs
    assert is_empty(broker)
    assert RunEnded("r", "") in broker.take_effects()
    assert broker.next_deadline() is None


def test_a_batch_is_claimable_and_answerable_while_its_run_reconnects():
    broker = connected()
    broker.submit(0.0, "r", requests("p"))
    broker.close_run(1.0, "r", 1, clean=False)
    assert claim_id(broker, 2.0, "A", "t") == "batch:r:1"
    broker.provide(3.0, "A", "batch:r:1", "t", mocks("p"))
    broker.open_run(4.0, "r", 2, capabilities=OURS, open_batches=["batch:r:1"])
    broker.take_effects()
    broker.submit(4.0, "r", requests("p"), "batch:r:1")
    assert broker.take_effects() == [Delivered("r", "batch:r:1", "A", tuple(mocks("p")))]


def test_a_reconnect_within_the_grace_period_ends_it():
    broker = with_claim()
    broker.close_run(1.0, "r", 1, clean=False)
    broker.open_run(5.0, "r", 2, capabilities=OURS)
    broker.expire(20.0)
    assert broker.run("r").connection_id == 2
    assert broker.claimed == 1
    assert broker.take_effects() == []


def test_a_reconnect_after_the_grace_period_begins_a_new_run_even_if_no_timer_fired():
    broker = with_claim()
    broker.close_run(1.0, "r", 1, clean=False)
    run = broker.open_run(12.0, "r", 2, capabilities=OURS)
    assert run.started_at == 12.0
    assert is_empty(broker)
    assert broker.take_effects()[-1] == RunEnded("r", "")


def test_a_session_of_a_run_whose_grace_period_is_over_does_not_refuse_a_new_one():
    broker = Broker()
    broker.open_run(0.0, "r", 1, capabilities=OURS, session=5)
    broker.close_run(1.0, "r", 1, clean=False)
    assert broker.open_run(12.0, "r", 2, capabilities=OURS, session=1).started_at == 12.0


def test_each_abnormal_close_starts_the_grace_period_again():
    broker = connected()
    broker.close_run(1.0, "r", 1, clean=False)
    broker.open_run(5.0, "r", 2, capabilities=OURS)
    broker.close_run(6.0, "r", 2, clean=False)
    assert broker.next_deadline() == 6.0 + GRACE


def test_resuming_without_open_batches_keeps_them_all():
    broker = with_claim()
    broker.submit(0.0, "r", requests("s"))
    broker.open_run(1.0, "r", 2, capabilities=OURS)
    assert [batch.id for batch in broker.batches("r")] == ["batch:r:1", "batch:r:2"]


def test_resuming_drops_the_batches_that_open_batches_does_not_name():
    broker = connected("r", "other")
    for _ in range(3):
        broker.submit(0.0, "r", requests("p"))
    broker.submit(0.0, "other", requests("p"))
    claim_id(broker, 0.0, "A", "t")
    broker.take_effects()
    broker.open_run(1.0, "r", 9, capabilities=OURS, open_batches=["batch:r:2", "batch:other:1"])
    assert [batch.id for batch in broker.batches()] == ["batch:r:2", "batch:other:1"]
    assert broker.take_effects() == [
        Replaced("r", "", 1),
        Cancelled("r", "batch:r:1", ("p",), whole=True),
        Cancelled("r", "batch:r:3", ("p",), whole=True),
    ]
    assert (broker.pending, broker.claimed) == (2, 0)


def test_resuming_with_an_empty_open_batches_drops_them_all():
    broker = with_claim()
    broker.open_run(1.0, "r", 2, capabilities=OURS, open_batches=[])
    assert is_empty(broker)


@pytest.mark.parametrize("open_batches", [None, ["batch:r:1"]])
def test_a_takeover_without_resume_purges_the_older_batches(open_batches):
    broker = with_claim()
    broker.open_run(1.0, "r", 2, capabilities=("ack",), open_batches=open_batches)
    assert is_empty(broker)
    assert broker.take_effects() == [
        Replaced("r", "", 1),
        Cancelled("r", "batch:r:1", ("p", "q"), whole=True),
    ]


def test_a_takeover_keeps_counting_batch_ids():
    broker = with_claim(capabilities=())
    broker.open_run(1.0, "r", 2)
    assert broker.submit(1.0, "r", requests("p")).id == "batch:r:2"


def test_the_close_of_an_older_socket_never_touches_the_newer_session():
    broker = with_claim()
    broker.open_run(1.0, "r", 2, capabilities=OURS, session=2)
    before = snapshot(broker)
    for clean in (True, False):
        broker.close_run(2.0, "r", 1, clean=clean)
    assert snapshot(broker) == before


def test_the_close_of_an_unknown_run_changes_nothing():
    broker = Broker()
    broker.close_run(1.0, "nobody", 1, clean=True)
    assert broker.take_effects() == []


@pytest.mark.parametrize(
    ("live", "new", "refused"),
    [(2, 1, True), (2, 2, False), (2, 3, False), (None, 1, False), (2, None, False)],
)
def test_a_session_lower_than_the_live_one_is_refused(live, new, refused):
    broker = Broker()
    broker.open_run(0.0, "r", 1, capabilities=OURS, session=live)
    broker.submit(0.0, "r", requests("p"))
    broker.take_effects()
    if refused:
        with refuses(broker, RunReplaced):
            broker.open_run(1.0, "r", 2, capabilities=(), session=new)
    else:
        broker.open_run(1.0, "r", 2, capabilities=OURS, session=new)
        assert broker.run("r").connection_id == 2
        assert broker.take_effects() == [Replaced("r", "", 1)]


def test_a_late_older_session_is_refused_while_the_newer_one_reconnects():
    broker = Broker()
    broker.open_run(0.0, "r", 1, capabilities=OURS, session=2)
    broker.close_run(1.0, "r", 1, clean=False)
    with refuses(broker, RunReplaced):
        broker.open_run(2.0, "r", 2, capabilities=OURS, session=1)


# -- Submitting -----------------------------------------------------------------------------------


def test_a_submitted_batch_is_parked_in_its_run():
    broker = connected()
    batch = broker.submit(3.0, "r", requests("p", "q"))
    assert (batch.id, batch.run_id, batch.status) == ("batch:r:1", "r", Status.PENDING)
    assert (batch.created_at, list(batch.requests)) == (3.0, ["p", "q"])
    assert (batch.attempts, batch.history, batch.claim, batch.lease_deadline) == (0, (), None, None)
    assert [type(effect) for effect in broker.take_effects()] == [Submitted]
    assert broker.next_deadline() == 3.0 + TTL


def test_the_daemon_numbers_the_batches_of_a_run():
    broker = connected("r", "s")
    ids = [broker.submit(0.0, run_id, requests("p")).id for run_id in ("r", "r", "s", "r")]
    assert ids == ["batch:r:1", "batch:r:2", "batch:s:1", "batch:r:3"]


def test_the_daemon_does_not_make_an_id_that_a_client_has_taken():
    broker = connected()
    broker.submit(0.0, "r", requests("p"), "batch:r:1")
    broker.submit(0.0, "r", requests("p"), "batch:r:2")
    assert broker.submit(0.0, "r", requests("p")).id == "batch:r:3"


@pytest.mark.parametrize("suffix", ["1", "7", "x", "01", "é"])
def test_a_client_may_name_its_own_batch(suffix):
    broker = connected()
    assert broker.submit(0.0, "r", requests("p"), f"batch:r:{suffix}").id == f"batch:r:{suffix}"


@pytest.mark.parametrize(
    "batch_id", ["", "1", "batch:", "batch:r", "batch:r:", "batch:rr:1", "batch:s:1", "Batch:r:1"]
)
def test_a_batch_id_must_begin_with_its_own_run(batch_id):
    broker = connected("r", "s", "rr")
    with refuses(broker, InvalidParams, "batch:r:"):
        broker.submit(0.0, "r", requests("p"), batch_id)


def test_runs_whose_ids_contain_each_other_never_share_a_batch():
    broker = connected("a", "a:1")
    own = broker.submit(0.0, "a:1", requests("p"))
    assert own.id == "batch:a:1:1"
    with refuses(broker, InvalidParams):
        broker.submit(0.0, "a", requests("p"), "batch:a:1:1")
    broker.cancel("a", "batch:a:1:1")
    broker.acknowledge("a", "batch:a:1:1")
    assert broker.batch("batch:a:1:1") is own
    assert broker.submit(0.0, "a", requests("p")).id == "batch:a:1"


@pytest.mark.parametrize("ids", [[], ["p", "p"], ["p", "q", "p"]])
def test_a_batch_needs_requests_with_different_ids(ids):
    broker = connected()
    with refuses(broker, InvalidParams):
        broker.submit(0.0, "r", requests(*ids))


def test_a_batch_of_a_run_that_is_not_connected_is_refused():
    with refuses(broker := connected("r"), UnknownRun):
        broker.submit(0.0, "nobody", requests("p"))


def test_the_number_of_requests_in_a_batch_is_limited():
    broker = connected(batch_requests=2)
    broker.submit(0.0, "r", requests("p", "q"))
    with refuses(broker, LimitExceeded, "batch_requests"):
        broker.submit(0.0, "r", requests("p", "q", "s"))


def test_the_number_of_parked_batches_is_limited():
    broker = connected("r", "s", parked_batches=2)
    broker.submit(0.0, "r", requests("p"))
    broker.submit(0.0, "s", requests("p"))
    with refuses(broker, LimitExceeded, "parked_batches"):
        broker.submit(0.0, "r", requests("p"))
    broker.submit(0.0, "r", requests("p"), "batch:r:1")  # joining needs no place
    broker.cancel("s", "batch:s:1")
    assert broker.submit(0.0, "r", requests("p")).id == "batch:r:2"


def test_claimed_and_unacknowledged_batches_count_as_parked():
    broker = with_claim(parked_batches=1)
    with refuses(broker, LimitExceeded):
        broker.submit(1.0, "r", requests("p"))
    broker = answered(parked_batches=1)
    with refuses(broker, LimitExceeded):
        broker.submit(1.0, "r", requests("p"))
    broker.acknowledge("r", "batch:r:1")
    assert broker.submit(1.0, "r", requests("p")).id == "batch:r:2"


# -- Resubmitting: joining ------------------------------------------------------------------------


def test_resubmitting_a_parked_batch_joins_it_in_its_place():
    broker = connected()
    first = broker.submit(0.0, "r", requests("p"))
    broker.submit(0.0, "r", requests("p"))
    broker.take_effects()
    assert broker.submit(5.0, "r", requests("p"), first.id) is first
    assert broker.take_effects() == []
    assert broker.next_deadline() == TTL  # joining does not buy time
    assert order(broker) == ["batch:r:1", "batch:r:2"]


def test_resubmitting_a_claimed_batch_leaves_it_with_its_holder():
    broker = with_claim()
    broker.submit(5.0, "r", requests("p", "q"), "batch:r:1")
    assert broker.take_effects() == []
    assert broker.provide(6.0, "A", "batch:r:1", "t", mocks("p", "q")) is None


def test_resubmitting_an_answered_batch_sends_its_result_again_until_it_is_acknowledged():
    broker = answered()
    result = Delivered("r", "batch:r:1", "A", tuple(mocks("p", "q")))
    for _ in range(2):
        broker.submit(5.0, "r", requests("p", "q"), "batch:r:1")
        assert broker.take_effects() == [result]
    broker.acknowledge("r", "batch:r:1")
    assert broker.take_effects() == [Acknowledged("r", "batch:r:1")]
    assert is_empty(broker)


@pytest.mark.parametrize("how", ["acknowledged", "cancelled"])
def test_resubmitting_a_batch_that_has_ended_parks_it_afresh(how):
    broker = answered()
    if how == "acknowledged":
        broker.acknowledge("r", "batch:r:1")
    else:
        broker.cancel("r", "batch:r:1")
    broker.take_effects()
    batch = broker.submit(9.0, "r", requests("p"), "batch:r:1")
    assert [type(effect) for effect in broker.take_effects()] == [Submitted]
    assert (batch.status, batch.attempts, batch.created_at) == (Status.PENDING, 0, 9.0)
    with refuses(broker, NotClaimed):  # the old answer is not an answer to the new life
        broker.provide(9.0, "A", "batch:r:1", "t", mocks("p"))


def test_requests_that_a_resubmission_no_longer_names_are_cancelled():
    broker = with_claim()
    broker.submit(5.0, "r", requests("q"), "batch:r:1")
    assert broker.take_effects() == [Cancelled("r", "batch:r:1", ("p",), whole=False)]
    broker.provide(6.0, "A", "batch:r:1", "t", mocks("p", "q"))
    assert broker.take_effects() == [Delivered("r", "batch:r:1", "A", tuple(mocks("q")))]


def test_an_answer_is_sent_again_only_for_what_is_still_wanted():
    broker = answered()
    broker.submit(5.0, "r", requests("q"), "batch:r:1")
    assert broker.take_effects() == [
        Cancelled("r", "batch:r:1", ("p",), whole=False),
        Delivered("r", "batch:r:1", "A", tuple(mocks("q"))),
    ]


def test_a_resubmission_may_name_what_it_cancelled_but_does_not_bring_it_back():
    broker = with_claim()
    broker.cancel("r", "batch:r:1", ["p"])
    broker.submit(5.0, "r", requests("p", "q"), "batch:r:1")
    assert list(broker.batch("batch:r:1").requests) == ["q"]


@pytest.mark.parametrize("ids", [["s"], ["p", "s"], ["p", "q", "s"]])
@pytest.mark.parametrize("state", ["parked", "claimed", "answered"])
def test_a_resubmission_with_other_requests_is_refused(ids, state):
    broker = connected()
    broker.submit(0.0, "r", requests("p", "q"))
    broker = {"parked": lambda: broker, "claimed": with_claim, "answered": answered}[state]()
    with refuses(broker, InvalidParams, "other requests"):
        broker.submit(5.0, "r", requests(*ids), "batch:r:1")


def test_a_request_of_the_same_id_that_asks_for_something_else_does_not_join():
    """Two clients of one run number alike; neither may get the answer of the other's request."""
    broker = connected("r")
    broker.submit(0.0, "r", requests("p"), "batch:r:1")
    broker.take_effects()
    other = [MockRequest("p", "https://api.test/p", "GET", msgspec.Raw(b'{"body":1}'))]
    with refuses(broker, InvalidParams, "other requests"):
        broker.submit(1.0, "r", other, "batch:r:1")


@pytest.mark.parametrize("state", ["claimed", "answered"])
def test_a_resubmission_of_nothing_but_cancelled_requests_is_refused(state):
    broker = {"claimed": with_claim, "answered": answered}[state]()
    broker.cancel("r", "batch:r:1", ["p"])
    broker.take_effects()
    with refuses(broker, InvalidParams):
        broker.submit(5.0, "r", requests("p"), "batch:r:1")


# -- Cancelling and acknowledging -----------------------------------------------------------------


def test_a_cancelled_batch_is_offered_to_nobody():
    broker = connected()
    broker.submit(0.0, "r", requests("p", "q"))
    broker.take_effects()
    broker.cancel("r", "batch:r:1")
    assert broker.take_effects() == [Cancelled("r", "batch:r:1", ("p", "q"), whole=True)]
    assert order(broker) == []
    assert is_empty(broker)


def test_cancelling_each_request_cancels_the_batch():
    broker = with_claim()
    broker.cancel("r", "batch:r:1", ["q", "q"])
    assert broker.batch("batch:r:1").cancelled == {"q"}
    broker.cancel("r", "batch:r:1", ["q", "p"])
    assert broker.take_effects() == [
        Cancelled("r", "batch:r:1", ("q",), whole=False),
        Cancelled("r", "batch:r:1", ("p",), whole=True),
    ]
    assert is_empty(broker)


@pytest.mark.parametrize(
    ("run_id", "batch_id", "ids"),
    [
        ("r", "batch:r:9", None),
        ("s", "batch:r:1", None),
        ("nobody", "batch:r:1", None),
        ("r", "batch:r:1", []),
        ("r", "batch:r:1", ["unknown"]),
    ],
)
def test_cancelling_what_is_not_there_or_not_ones_own_changes_nothing(run_id, batch_id, ids):
    broker = with_claim()
    broker.open_run(0.0, "s", 2)
    before = snapshot(broker)
    broker.cancel(run_id, batch_id, ids)
    assert snapshot(broker) == before


def test_mocks_for_a_batch_cancelled_while_claimed_are_accepted_and_ignored():
    broker = with_claim()
    broker.cancel("r", "batch:r:1")
    broker.take_effects()
    for _ in range(2):
        said = broker.provide(2.0, "A", "batch:r:1", "t", mocks("p", "q"))
        assert said is not None
        assert "stopped waiting" in said
    assert broker.take_effects() == []


@pytest.mark.parametrize(("adapter_id", "token"), [("A", "wrong"), ("B", "t")])
def test_only_the_holder_of_a_cancelled_batch_is_thanked(adapter_id, token):
    broker = with_claim()
    broker.cancel("r", "batch:r:1")
    broker.take_effects()
    with refuses(broker, UnknownBatch):
        broker.provide(2.0, adapter_id, "batch:r:1", token, mocks("p", "q"))


@pytest.mark.parametrize("ids", [("q",), ("p", "q")])
def test_mocks_for_cancelled_requests_are_accepted_and_not_delivered(ids):
    broker = with_claim()
    broker.cancel("r", "batch:r:1", ["p"])
    broker.take_effects()
    broker.provide(2.0, "A", "batch:r:1", "t", mocks(*ids))
    assert broker.take_effects() == [Delivered("r", "batch:r:1", "A", tuple(mocks("q")))]


def test_a_mock_for_a_cancelled_request_is_not_required_but_no_other_may_be_missing():
    broker = with_claim()
    broker.cancel("r", "batch:r:1", ["p"])
    broker.take_effects()
    with refuses(broker, MocksMismatch):
        broker.provide(2.0, "A", "batch:r:1", "t", mocks("p"))


def test_cancelling_an_answered_batch_forgets_the_result():
    broker = answered()
    broker.cancel("r", "batch:r:1")
    assert is_empty(broker)
    assert broker.provide(2.0, "A", "batch:r:1", "t", mocks("p", "q")) is None


@pytest.mark.parametrize(("run_id", "batch_id"), [("s", "batch:r:1"), ("r", "batch:r:9")])
def test_an_acknowledgement_of_what_is_not_ones_own_changes_nothing(run_id, batch_id):
    broker = answered()
    broker.open_run(1.0, "s", 2)
    before = snapshot(broker)
    broker.acknowledge(run_id, batch_id)
    assert snapshot(broker) == before


def test_an_acknowledgement_of_an_unanswered_batch_changes_nothing():
    broker = with_claim()
    before = snapshot(broker)
    broker.acknowledge("r", "batch:r:1")
    assert snapshot(broker) == before


def test_without_ack_a_result_is_done_once_written():
    broker = answered(capabilities=("resume",))
    assert is_empty(broker)
    fulfilled = broker.fulfilled("batch:r:1")
    assert fulfilled is not None
    run_id, kept, created_at = fulfilled
    assert (run_id, [request.request_id for request in kept], created_at) == ("r", ["p", "q"], 0.0)


def test_without_ack_a_result_that_nobody_was_connected_for_is_kept_for_the_reconnect():
    broker = with_claim(capabilities=("resume",))
    broker.close_run(1.0, "r", 1, clean=False)
    broker.provide(2.0, "A", "batch:r:1", "t", mocks("p", "q"))
    broker.open_run(3.0, "r", 2, capabilities=("resume",), open_batches=["batch:r:1"])
    broker.take_effects()
    broker.submit(3.0, "r", requests("p", "q"), "batch:r:1")
    assert broker.take_effects() == [Delivered("r", "batch:r:1", "A", tuple(mocks("p", "q")))]
    assert is_empty(broker)


def test_a_client_that_comes_back_without_ack_is_sent_a_kept_result_once():
    broker = answered()
    broker.open_run(3.0, "r", 2, capabilities=("resume",))
    broker.take_effects()
    broker.submit(3.0, "r", requests("p", "q"), "batch:r:1")
    assert broker.take_effects() == [Delivered("r", "batch:r:1", "A", tuple(mocks("p", "q")))]
    assert is_empty(broker)


# -- Claiming: order ------------------------------------------------------------------------------


def test_a_claim_holds_the_batch():
    broker = connected()
    broker.submit(0.0, "r", requests("p"))
    broker.take_effects()
    batch = broker.claim(5.0, "A", 2.5, "t")
    assert batch is broker.batch("batch:r:1")
    assert (batch.status, batch.lease_deadline) == (Status.CLAIMED, 7.5)
    assert (broker.pending, broker.claimed) == (0, 1)
    assert broker.take_effects() == [Claimed("r", "batch:r:1", "A")]
    assert broker.next_deadline() == 7.5


def test_a_batch_has_one_holder():
    broker = with_claim()
    assert claim_id(broker, 1.0, "B", "u") is None
    assert claim_id(broker, 1.0, "A", "u") is None
    assert claim_id(broker, 1.0, "B", "u", batch_id="batch:r:1") is None
    assert broker.take_effects() == []


def test_the_order_is_first_in_first_out_across_runs():
    broker = connected("r", "s")
    for run_id in ("r", "s", "s", "r"):
        broker.submit(0.0, run_id, requests("p"))
    assert order(broker) == ["batch:r:1", "batch:s:1", "batch:s:2", "batch:r:2"]


def test_a_claim_may_ask_for_one_run():
    broker = connected("r", "s")
    for run_id in ("r", "s", "r"):
        broker.submit(0.0, run_id, requests("p"))
    assert order(broker, run_id="r") == ["batch:r:1", "batch:r:2"]
    assert order(broker, run_id="nobody") == []
    assert order(broker) == ["batch:s:1"]


def test_a_claim_may_ask_for_one_batch():
    broker = connected("r", "s")
    for run_id in ("r", "s", "r"):
        broker.submit(0.0, run_id, requests("p"))
    assert claim_id(broker, 0.0, "A", "t", batch_id="batch:r:2", run_id="s") is None
    assert claim_id(broker, 0.0, "A", "t", batch_id="batch:r:9") is None
    assert claim_id(broker, 0.0, "A", "t", batch_id="batch:r:2", run_id="r") == "batch:r:2"
    assert order(broker) == ["batch:r:1", "batch:s:1"]


def test_an_answered_batch_is_not_claimable():
    broker = answered()
    assert claim_id(broker, 2.0, "B", "u") is None
    assert claim_id(broker, 2.0, "B", "u", batch_id="batch:r:1") is None


@pytest.mark.parametrize("how", ["release", "expiry"])
def test_a_batch_that_comes_back_goes_to_its_place(how):
    broker = connected()
    for _ in range(3):
        broker.submit(0.0, "r", requests("p"))
    broker.claim(0.0, "A", 1.0, "t")
    broker.claim(0.0, "B", 9.0, "u")
    if how == "release":
        broker.release(0.5, "A", "batch:r:1", "t")
    broker.submit(0.5, "r", requests("p"))
    assert order(broker, now=1.0) == ["batch:r:1", "batch:r:3", "batch:r:4"]


def test_a_responder_is_not_offered_what_it_released_while_others_are_claimable():
    broker = connected()
    for _ in range(3):
        broker.submit(0.0, "r", requests("p"))
    claim_and_release(broker, 0.0, "A", "t1")
    claim_and_release(broker, 0.0, "A", "t2")
    assert order(broker, adapter_id="A") == ["batch:r:3", "batch:r:1", "batch:r:2"]


def test_another_responder_is_offered_a_released_batch_in_its_place():
    broker = connected()
    for _ in range(2):
        broker.submit(0.0, "r", requests("p"))
    claim_and_release(broker, 0.0, "A", "t")
    assert order(broker, adapter_id="B") == ["batch:r:1", "batch:r:2"]


def test_what_everybody_released_is_still_offered():
    broker = connected()
    broker.submit(0.0, "r", requests("p"))
    for number, adapter_id in enumerate("ABAB"):
        assert claim_and_release(broker, 0.0, adapter_id, f"t{number}") == "batch:r:1"


@pytest.mark.parametrize(
    "releases", [["A3", "A2", "B2", "A1", "B1", "C1"], ["A1", "B1", "C1", "A2", "B2", "A3"]]
)
def test_among_what_a_responder_released_the_oldest_comes_first_whoever_else_released_it(releases):
    broker = connected()
    for _ in range(3):
        broker.submit(0.0, "r", requests("p"))
    for number, (adapter_id, batch) in enumerate(releases):
        claim_and_release(broker, 0.0, adapter_id, f"t{number}", batch_id=f"batch:r:{batch}")
    assert order(broker, adapter_id="A") == ["batch:r:1", "batch:r:2", "batch:r:3"]


def test_the_preference_holds_within_the_run_that_is_asked_for():
    broker = connected("r", "s")
    broker.submit(0.0, "r", requests("p"))
    broker.submit(0.0, "s", requests("p"))
    claim_and_release(broker, 0.0, "A", "t")
    assert claim_id(broker, 0.0, "A", "u", run_id="r") == "batch:r:1"


def test_a_responder_may_ask_by_id_for_what_it_released():
    broker = connected()
    for _ in range(2):
        broker.submit(0.0, "r", requests("p"))
    claim_and_release(broker, 0.0, "A", "t")
    assert claim_id(broker, 0.0, "A", "u", batch_id="batch:r:1") == "batch:r:1"


def test_a_responder_whose_lease_ran_out_is_offered_the_batch_again_first():
    broker = connected()
    for _ in range(2):
        broker.submit(0.0, "r", requests("p"))
    broker.claim(0.0, "A", 1.0, "t")
    assert order(broker, now=1.0, adapter_id="A") == ["batch:r:1", "batch:r:2"]


def test_claimable_counts_and_dates_what_a_claim_would_find():
    broker = connected("r", "s")
    assert broker.claimable() == (0, None)
    for now, run_id in enumerate(("r", "s", "r")):
        broker.submit(float(now), run_id, requests("p"))
    assert broker.claimable() == (3, 0.0)
    assert broker.claimable("s") == (1, 1.0)
    assert broker.claimable("nobody") == (0, None)
    claim_id(broker, 3.0, "A", "t")
    assert broker.claimable() == (2, 1.0)
    assert broker.claimable("r") == (1, 2.0)


def test_batches_are_listed_in_order_by_run_and_by_status():
    broker = connected("r", "s")
    for run_id in ("r", "s", "r"):
        broker.submit(0.0, run_id, requests("p"))
    claim_id(broker, 0.0, "A", "t")

    def ids(*args: Any) -> list[str]:
        return [batch.id for batch in broker.batches(*args)]

    assert ids() == ["batch:r:1", "batch:s:1", "batch:r:2"]
    assert ids("r") == ["batch:r:1", "batch:r:2"]
    assert ids(None, Status.PENDING) == ["batch:s:1", "batch:r:2"]
    assert ids("r", Status.CLAIMED) == ["batch:r:1"]
    assert ids(None, Status.FULFILLED) == []
    with refuses(broker, UnknownRun):
        broker.batches("nobody")


# -- The lease ------------------------------------------------------------------------------------

IMPOSSIBLE = [0.0, -0.0, -1.0, 0.0009, 600.001, 1e308, 10**400, *map(float, ("nan", "inf", "-inf"))]


@pytest.mark.parametrize("lease_s", IMPOSSIBLE, ids=lambda lease_s: str(lease_s)[:8])
def test_a_lease_outside_its_range_is_refused(lease_s):
    broker = with_claim()
    broker.submit(0.0, "r", requests("p"))
    broker.take_effects()
    with refuses(broker, InvalidParams, "600000"):
        broker.claim(1.0, "B", lease_s, "u")
    with refuses(broker, InvalidParams, "600000"):
        broker.renew(1.0, "A", "batch:r:1", "t", lease_s)


@pytest.mark.parametrize("lease_s", [1 / 1000, 0.001, 1, 600, 600_000 / 1000])
def test_a_lease_at_the_ends_of_its_range_is_granted(lease_s):
    broker = connected()
    broker.submit(0.0, "r", requests("p"))
    batch = broker.claim(1.0, "A", lease_s, "t")
    assert batch
    assert batch.lease_deadline == 1.0 + lease_s
    assert broker.renew(1.0, "A", batch.id, "t", lease_s) == 1.0 + lease_s


def test_a_renewed_lease_lasts_as_long_again():
    broker = with_claim()
    assert broker.renew(29.0, "A", "batch:r:1", "t") == 59.0
    assert broker.next_deadline() == 59.0
    broker.expire(58.999)
    assert broker.claimed == 1
    broker.expire(59.0)
    assert broker.claimed == 0


def test_a_renewal_may_change_the_length_for_good():
    broker = with_claim()
    assert broker.renew(1.0, "A", "batch:r:1", "t", 5.0) == 6.0
    assert broker.renew(2.0, "A", "batch:r:1", "t") == 7.0


def test_a_lease_ends_at_its_deadline_not_before():
    broker = with_claim()
    broker.expire(29.999)
    assert broker.take_effects() == []
    broker.expire(30.0)
    assert broker.take_effects() == [Expired("r", "batch:r:1", "A")]
    batch = broker.batch("batch:r:1")
    assert (batch.status, batch.lease_deadline) == (Status.PENDING, None)


def test_a_claim_sees_an_ended_lease_though_no_timer_fired():
    broker = with_claim()
    assert claim_id(broker, 30.0, "B", "u") == "batch:r:1"
    assert broker.take_effects() == [Expired("r", "batch:r:1", "A"), Claimed("r", "batch:r:1", "B")]


ACTIONS = {
    "renew": lambda broker, now, who, batch, token: broker.renew(now, who, batch, token),
    "release": lambda broker, now, who, batch, token: broker.release(now, who, batch, token),
    "reject": lambda broker, now, who, batch, token: broker.reject(now, who, batch, token, "bad"),
    "hold": lambda broker, now, who, batch, token: broker.hold(
        now, who, batch, token, mocks("p", "q")
    ),
    "provide": lambda broker, now, who, batch, token: broker.provide(
        now, who, batch, token, mocks("p", "q")
    ),
}
every_action = pytest.mark.parametrize("act", ACTIONS.values(), ids=ACTIONS.keys())


@every_action
@pytest.mark.parametrize("timer", [True, False], ids=["timer", "late timer"])
def test_after_its_lease_a_token_is_told_so(act, timer):
    broker = with_claim()
    if timer:
        broker.expire(30.0)
        broker.take_effects()
    with refuses(broker, LeaseEnded):
        act(broker, 30.0, "A", "batch:r:1", "t")


@every_action
def test_just_before_its_deadline_a_token_is_good(act):
    act(with_claim(), 29.999, "A", "batch:r:1", "t")


@every_action
@pytest.mark.parametrize(
    ("adapter_id", "token"), [("A", "wrong"), ("B", "t"), ("B", "wrong"), ("A", "")]
)
def test_only_the_holder_with_its_token_acts_on_a_claim(act, adapter_id, token):
    broker = with_claim()
    with refuses(broker, ClaimMismatch):
        act(broker, 1.0, adapter_id, "batch:r:1", token)


@every_action
def test_a_stale_token_does_not_act_on_the_next_holders_claim(act):
    broker = with_claim()
    claim_id(broker, 30.0, "B", "u")
    broker.take_effects()
    with refuses(broker, ClaimMismatch):
        act(broker, 31.0, "A", "batch:r:1", "t")


@every_action
def test_a_stale_token_of_the_same_responder_does_not_act_on_its_new_claim(act):
    broker = with_claim()
    claim_id(broker, 30.0, "A", "t2")
    broker.take_effects()
    with refuses(broker, ClaimMismatch):
        act(broker, 31.0, "A", "batch:r:1", "t")


@every_action
def test_an_older_stale_token_is_told_that_its_lease_ended_when_the_next_one_has_too(act):
    broker = with_claim()
    claim_id(broker, 30.0, "B", "u")
    broker.take_effects()
    with refuses(broker, LeaseEnded):
        act(broker, 99.0, "A", "batch:r:1", "t")


@every_action
def test_a_parked_batch_has_nobody_who_may_act(act):
    broker = connected()
    broker.submit(0.0, "r", requests("p", "q"))
    broker.take_effects()
    with refuses(broker, NotClaimed, "not claimed"):
        act(broker, 1.0, "A", "batch:r:1", "t")


@every_action
def test_a_released_token_is_worth_nothing(act):
    broker = with_claim()
    broker.release(1.0, "A", "batch:r:1", "t")
    broker.take_effects()
    with refuses(broker, NotClaimed):
        act(broker, 1.0, "A", "batch:r:1", "t")


@every_action
def test_an_unknown_batch_is_refused(act):
    broker = with_claim()
    with refuses(broker, UnknownBatch, "not found"):
        act(broker, 1.0, "A", "batch:r:9", "t")


@pytest.mark.parametrize("name", ["renew", "release", "reject"])
def test_an_answered_batch_is_not_acted_on(name):
    broker = answered()
    with refuses(broker, NotClaimed, "already answered"):
        ACTIONS[name](broker, 2.0, "A", "batch:r:1", "t")


@every_action
@pytest.mark.parametrize("timer", [True, False], ids=["timer", "late timer"])
def test_a_token_nobody_ever_had_is_refused_the_same_whether_the_timer_was_late(act, timer):
    broker = with_claim()
    if timer:
        broker.expire(30.0)
        broker.take_effects()
    with refuses(broker, NotClaimed):
        act(broker, 30.0, "A", "batch:r:1", "never issued")


# -- Giving back, rejections, history, giving up --------------------------------------------------


def test_a_release_is_told_to_the_next_claimant():
    broker = with_claim()
    broker.release(1.0, "A", "batch:r:1", "t", "no idea")
    assert broker.take_effects() == [Released("r", "batch:r:1", "A", "no idea")]
    batch = broker.claim(2.0, "B", LEASE, "u")
    assert batch
    assert batch.attempts == 1
    assert batch.history == (HistoryEntry("released", "A", "no idea"),)


def test_an_expiry_is_told_to_the_next_claimant():
    broker = with_claim()
    batch = broker.claim(30.0, "B", LEASE, "u")
    assert batch
    assert (batch.attempts, batch.history) == (1, (HistoryEntry("expired", "A"),))


def test_a_rejection_counts_an_attempt_renews_the_lease_and_keeps_the_claim():
    broker = with_claim()
    assert broker.reject(20.0, "A", "batch:r:1", "t", "status 999") == 50.0
    assert broker.take_effects() == [Rejected("r", "batch:r:1", "A", "status 999")]
    batch = broker.batch("batch:r:1")
    assert (batch.status, batch.attempts) == (Status.CLAIMED, 1)
    assert batch.history == (HistoryEntry("rejected", "A", "status 999"),)
    assert broker.next_deadline() == 50.0
    assert broker.provide(49.0, "A", "batch:r:1", "t", mocks("p", "q")) is None


def test_a_long_reason_is_cut():
    broker = with_claim()
    broker.release(1.0, "A", "batch:r:1", "t", "x" * 10_000)
    reason = broker.batch("batch:r:1").history[0].reason
    assert reason is not None
    assert len(reason) == REASON_CHARS
    assert reason.endswith("…")
    [effect] = broker.take_effects()
    assert isinstance(effect, Released)
    assert effect.reason == reason
    broker.claim(2.0, "A", LEASE, "u")
    broker.reject(3.0, "A", "batch:r:1", "u", "x" * 10_000)
    *_, rejected = broker.take_effects()
    assert isinstance(rejected, Rejected)
    assert rejected.reason == broker.batch("batch:r:1").history[1].reason == reason


def test_a_reason_of_the_greatest_length_is_kept_whole():
    broker = with_claim()
    broker.release(1.0, "A", "batch:r:1", "t", "x" * REASON_CHARS)
    assert broker.batch("batch:r:1").history[0].reason == "x" * REASON_CHARS


def test_the_history_is_bounded_and_keeps_the_newest():
    broker = with_claim()
    for number in range(HISTORY_ENTRIES + 5):
        broker.reject(1.0, "A", "batch:r:1", "t", f"reason {number}")
    batch = broker.batch("batch:r:1")
    assert batch.attempts == HISTORY_ENTRIES + 5
    assert len(batch.history) == HISTORY_ENTRIES
    assert batch.history[-1].reason == f"reason {HISTORY_ENTRIES + 4}"


def test_after_ten_claims_without_an_answer_a_batch_is_given_up_with_the_reasons():
    broker = connected()
    broker.submit(0.0, "r", requests("p"))
    for number in range(9):
        assert claim_and_release(broker, 0.0, "A", f"t{number}") == "batch:r:1"
    broker.release(0.0, *_claimed(broker, "A", "t9"), "too hard")
    [error] = failures(broker.take_effects())
    assert isinstance(error, BatchGivenUp)
    assert error.message.startswith("GET https://api.test/p was given up after 10 claims")
    assert "released: too hard" in error.message
    assert is_empty(broker)
    assert claim_id(broker, 0.0, "B", "u") is None
    with refuses(broker, UnknownBatch, "given-up"):
        broker.provide(0.0, "A", "batch:r:1", "t9", mocks("p"))


def _claimed(broker: Broker, adapter_id: str, token: str) -> tuple[str, str, str]:
    batch = broker.claim(0.0, adapter_id, LEASE, token)
    assert batch
    return adapter_id, batch.id, token


def test_expired_claims_count_towards_giving_up_and_the_release_is_told_first():
    broker = connected(claims_per_batch=2)
    broker.submit(0.0, "r", requests("p"))
    broker.claim(0.0, "A", 1.0, "t")
    broker.claim(1.0, "B", 1.0, "u")
    broker.take_effects()
    assert claim_id(broker, 2.0, "C", "v") is None
    expired, failed = broker.take_effects()
    assert expired == Expired("r", "batch:r:1", "B")
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, BatchGivenUp)


def test_rejections_do_not_count_towards_giving_up():
    broker = with_claim(claims_per_batch=2)
    for _ in range(5):
        broker.reject(1.0, "A", "batch:r:1", "t", "bad")
    broker.release(1.0, "A", "batch:r:1", "t")
    assert broker.pending == 1


def test_a_failed_batch_is_over_and_its_test_is_told():
    broker = with_claim()
    error = UnusableContract("api.json cannot be read")
    broker.hold(1.0, "A", "batch:r:1", "t", mocks("p", "q"))
    broker.fail(2.0, "A", "batch:r:1", "t", error)
    assert broker.take_effects() == [Failed("r", "batch:r:1", error)]
    assert (broker.claimed, broker.pending, broker.next_deadline()) == (0, 0, None)
    with refuses(broker, UnknownBatch, "unusable-contract"):
        broker.provide(3.0, "A", "batch:r:1", "t", mocks("p", "q"))


@pytest.mark.parametrize(
    ("adapter_id", "token", "now", "error"),
    [
        ("B", "t", 1.0, ClaimMismatch),
        ("A", "u", 1.0, ClaimMismatch),
        ("A", "t", LEASE, LeaseEnded),
    ],
)
def test_only_the_holder_can_fail_a_batch(adapter_id, token, now, error):
    with refuses(broker := with_claim(), error):
        broker.fail(now, adapter_id, "batch:r:1", token, UnusableContract("no"))


# -- Providing ------------------------------------------------------------------------------------


def test_an_answer_is_delivered_once_complete_and_in_the_order_of_the_requests():
    broker = with_claim()
    assert broker.provide(1.0, "A", "batch:r:1", "t", mocks("q", "p")) is None
    assert broker.take_effects() == [Delivered("r", "batch:r:1", "A", tuple(mocks("p", "q")))]
    assert broker.batch("batch:r:1").status is Status.FULFILLED
    assert (broker.pending, broker.claimed) == (0, 0)
    assert broker.next_deadline() is not None


@pytest.mark.parametrize(
    ("ids", "complaint"),
    [
        ([], "no mock for 'p', 'q'"),
        (["p"], "no mock for 'q'"),
        (["p", "q", "s"], "no such request: 's'"),
        (["p", "q", "q"], "twice"),
        (["p", "p"], "twice"),
        (["s", "u"], "no such request: 's', 'u'"),
        (["P", "q"], "no mock for 'p'"),
    ],
)
@pytest.mark.parametrize("name", ["provide", "hold"])
def test_there_must_be_exactly_one_mock_per_request(ids, complaint, name):
    broker = with_claim()
    with refuses(broker, MocksMismatch, complaint):
        getattr(broker, name)(1.0, "A", "batch:r:1", "t", mocks(*ids))


def test_a_long_list_of_missing_mocks_is_cut():
    broker = connected()
    broker.submit(0.0, "r", requests(*(str(n) for n in range(100))))
    broker.claim(0.0, "A", LEASE, "t")
    broker.take_effects()
    with refuses(broker, MocksMismatch, "and 95 more"):
        broker.provide(1.0, "A", "batch:r:1", "t", [])


def test_data_that_is_null_is_data():
    broker = with_claim()
    broker.provide(1.0, "A", "batch:r:1", "t", [Mock("p", None), Mock("q", 0, status=204)])
    [effect] = broker.take_effects()
    assert isinstance(effect, Delivered)
    assert [(mock.data, mock.status) for mock in effect.mocks] == [(None, None), (0, 204)]


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize("ids", [("p", "q"), ("p",), ()])
def test_a_repeated_provide_gets_the_same_answer_and_delivers_nothing(acknowledged, ids):
    broker = answered()
    if acknowledged:
        broker.acknowledge("r", "batch:r:1")
        broker.take_effects()
    before = snapshot(broker)
    assert broker.provide(99.0, "A", "batch:r:1", "t", mocks(*ids, data="other")) is None
    assert snapshot(broker) == before


@pytest.mark.parametrize(("adapter_id", "token"), [("A", "wrong"), ("B", "t")])
@pytest.mark.parametrize("acknowledged", [False, True])
def test_nobody_else_gets_the_answer_of_the_fulfilling_token(adapter_id, token, acknowledged):
    broker = answered()
    if acknowledged:
        broker.acknowledge("r", "batch:r:1")
        broker.take_effects()
    with refuses(broker, UnknownBatch if acknowledged else NotClaimed):
        broker.provide(2.0, adapter_id, "batch:r:1", token, mocks("p", "q"))


def test_a_repeated_provide_is_answered_after_the_run_has_ended():
    broker = answered()
    broker.close_run(2.0, "r", 1, clean=True)
    assert broker.provide(3.0, "A", "batch:r:1", "t", mocks("p", "q")) is None


def test_the_holder_of_a_batch_whose_run_ended_is_told_why():
    broker = with_claim()
    broker.close_run(2.0, "r", 1, clean=True)
    broker.take_effects()
    with refuses(broker, UnknownBatch, "process ended"):
        broker.provide(3.0, "A", "batch:r:1", "t", mocks("p", "q"))


def test_the_memory_of_ended_batches_is_bounded_and_keeps_the_newest():
    broker = connected()
    for number in range(ENDED_BATCHES + 1):
        batch = broker.submit(0.0, "r", requests("p"))
        broker.claim(0.0, "A", LEASE, f"t{number}")
        broker.provide(0.0, "A", batch.id, f"t{number}", mocks("p"))
        broker.acknowledge("r", batch.id)
    broker.take_effects()
    assert len(broker._ended) == ENDED_BATCHES
    with refuses(broker, UnknownBatch):
        broker.provide(0.0, "A", "batch:r:1", "t0", mocks("p"))
    assert broker.provide(0.0, "A", "batch:r:2", "t1", mocks("p")) is None


def test_only_an_answered_batch_counts_as_fulfilled():
    broker = with_claim()
    assert broker.fulfilled("batch:r:1") is None
    broker.cancel("r", "batch:r:1")
    assert broker.fulfilled("batch:r:1") is None
    assert broker.fulfilled("batch:r:9") is None


# -- The gate: hold, then provide or reject -------------------------------------------------------


def test_a_lease_does_not_end_while_its_data_is_checked():
    broker = with_claim()
    broker.hold(29.0, "A", "batch:r:1", "t", mocks("p", "q"))
    broker.take_effects()
    broker.expire(1000.0)
    assert broker.take_effects() == []
    assert claim_id(broker, 1000.0, "B", "u") is None
    assert broker.next_deadline() == TTL
    assert broker.provide(1000.0, "A", "batch:r:1", "t", mocks("p", "q")) is None


def test_after_a_check_that_came_to_nothing_the_lease_starts_again():
    broker = with_claim()
    broker.hold(29.0, "A", "batch:r:1", "t", mocks("p", "q"))
    broker.unhold(100.0, "batch:r:1", "t")
    assert broker.next_deadline() == 130.0
    broker.expire(130.0)
    assert broker.pending == 1


def test_the_lease_is_held_until_the_last_of_several_checks():
    broker = with_claim()
    for _ in range(2):
        broker.hold(1.0, "A", "batch:r:1", "t", mocks("p", "q"))
    broker.unhold(50.0, "batch:r:1", "t")
    assert broker.next_deadline() == TTL
    broker.renew(60.0, "A", "batch:r:1", "t")
    assert broker.next_deadline() == TTL
    broker.unhold(70.0, "batch:r:1", "t")
    assert broker.next_deadline() == 100.0


def test_a_check_that_ends_in_a_rejection_leaves_a_lease_that_ends():
    """`Broker.hold` says: follow it with `provide` or `reject`, *or* with `unhold`."""
    broker = with_claim()
    broker.hold(29.0, "A", "batch:r:1", "t", mocks("p", "q"))
    assert broker.reject(40.0, "A", "batch:r:1", "t", "bad") == 70.0
    assert broker.next_deadline() == 70.0
    assert claim_id(broker, 70.0, "B", "u") == "batch:r:1"


def test_the_end_of_a_check_whose_claim_is_gone_changes_nothing():
    broker = with_claim()
    broker.hold(1.0, "A", "batch:r:1", "t", mocks("p", "q"))
    broker.release(2.0, "A", "batch:r:1", "t")
    claim_id(broker, 3.0, "B", "u")
    before = snapshot(broker)
    broker.unhold(4.0, "batch:r:1", "t")
    broker.unhold(4.0, "batch:r:1", "u")
    broker.unhold(4.0, "batch:r:9", "t")
    assert snapshot(broker) == before


def test_a_batch_cancelled_during_the_check_is_accepted_and_ignored():
    broker = with_claim()
    broker.hold(1.0, "A", "batch:r:1", "t", mocks("p", "q"))
    broker.cancel("r", "batch:r:1")
    broker.take_effects()
    assert broker.provide(2.0, "A", "batch:r:1", "t", mocks("p", "q")) is not None
    broker.unhold(2.0, "batch:r:1", "t")
    assert is_empty(broker)


def test_the_token_is_checked_again_after_the_gate():
    broker = with_claim()
    broker.hold(1.0, "A", "batch:r:1", "t", mocks("p", "q"))
    broker.release(2.0, "A", "batch:r:1", "t")
    claim_id(broker, 2.0, "B", "u")
    broker.take_effects()
    with refuses(broker, ClaimMismatch):
        broker.provide(3.0, "A", "batch:r:1", "t", mocks("p", "q"))


# -- Time to live ---------------------------------------------------------------------------------


def test_a_batch_that_nobody_answers_dies_after_its_time_with_the_reason():
    broker = connected()
    broker.submit(5.0, "r", requests("p" * 100, "q", "s"))
    broker.take_effects()
    broker.expire(5.0 + TTL - 0.001)
    assert broker.take_effects() == []
    broker.expire(5.0 + TTL)
    [error] = failures(broker.take_effects())
    assert isinstance(error, BatchExpired)
    assert error.message.startswith("Nobody answered GET https://api.test/ppp")
    assert "p… and 2 more within 30 minutes" in error.message
    assert is_empty(broker)


def test_a_claim_does_not_find_a_batch_whose_time_is_over():
    broker = connected()
    broker.submit(0.0, "r", requests("p"))
    assert claim_id(broker, TTL, "A", "t") is None


@pytest.mark.parametrize("held", [False, True])
def test_renewing_for_ever_does_not_keep_a_batch_alive(held):
    broker = with_claim()
    if held:
        broker.hold(1.0, "A", "batch:r:1", "t", mocks("p", "q"))
    for now in range(10, int(TTL), 10):
        broker.renew(float(now), "A", "batch:r:1", "t")
    broker.expire(TTL)
    [error] = failures(broker.take_effects())
    assert isinstance(error, BatchExpired)
    assert is_empty(broker)


def test_a_result_that_is_never_acknowledged_is_forgotten_and_not_called_a_failure():
    broker = answered()
    broker.expire(2 * TTL)
    assert broker.take_effects() == []
    assert is_empty(broker)


def test_a_result_waits_for_its_reconnect_though_the_batch_was_nearly_too_old():
    """Section 3: until the acknowledgement comes the result is kept for a reconnect."""
    broker = connected()
    broker.submit(0.0, "r", requests("p"))
    broker.claim(TTL - 2, "A", LEASE, "t")
    broker.provide(TTL - 1, "A", "batch:r:1", "t", mocks("p"))
    broker.close_run(TTL - 1, "r", 1, clean=False)
    broker.open_run(TTL + 5, "r", 2, capabilities=OURS, open_batches=["batch:r:1"])
    broker.take_effects()
    broker.submit(TTL + 5, "r", requests("p"), "batch:r:1")
    assert broker.take_effects() == [Delivered("r", "batch:r:1", "A", tuple(mocks("p")))]


# -- Deadlines and effects ------------------------------------------------------------------------


def test_the_next_deadline_is_the_earliest_of_leases_graces_and_times_to_live():
    broker = connected("r", "s", batch_ttl_s=20.0)
    assert broker.next_deadline() is None
    broker.submit(1.0, "r", requests("p"))
    assert broker.next_deadline() == 21.0
    broker.close_run(2.0, "s", 2, clean=False)
    assert broker.next_deadline() == 12.0
    broker.claim(3.0, "A", 5.0, "t")
    assert broker.next_deadline() == 8.0
    broker.expire(8.0)
    assert broker.next_deadline() == 12.0
    broker.expire(12.0)
    assert broker.next_deadline() == 21.0
    broker.expire(21.0)
    assert broker.next_deadline() is None


def test_one_late_look_ends_everything_that_is_over():
    broker = connected("r", "s")
    broker.submit(0.0, "r", requests("p"))
    broker.submit(0.0, "s", requests("p"))
    broker.claim(0.0, "A", 1.0, "t")
    broker.close_run(0.0, "s", 2, clean=False)
    broker.expire(10 * TTL)
    assert is_empty(broker)
    assert list(broker.runs) == ["r"]
    assert broker.next_deadline() is None


def test_expiring_again_at_the_same_time_does_nothing():
    broker = with_claim()
    broker.expire(30.0)
    before = snapshot(broker)
    broker.expire(30.0)
    assert snapshot(broker) == before


def test_effects_are_given_once():
    broker = connected()
    broker.submit(0.0, "r", requests("p"))
    assert [type(effect) for effect in broker.take_effects()] == [Submitted]
    assert broker.take_effects() == []


# -- Cost: what is kept and looked at does not grow -----------------------------------------------


def heap_entries(broker: Broker) -> int:
    """Count every heap entry, stale ones included."""
    queues = [broker._queue, *(run.queue for run in broker.runs.values())]
    groups = [group for queue in queues for group in queue._groups.values()]
    heaps = [broker._leases, broker._ttls, broker._graces, *groups]
    return sum(len(heap._heap) for heap in heaps)


def groups_looked_at(broker: Broker) -> int:
    """Count the queue heads that a claim compares."""
    return len(broker._queue._groups)


def cycle(broker: Broker, run_id: str, number: int, end: str) -> None:
    batch = broker.claim(0.0, f"A{number % 3}", LEASE, f"t{number}", run_id=run_id)
    assert batch
    if end == "release":
        broker.release(0.0, f"A{number % 3}", batch.id, f"t{number}")
    else:
        broker.provide(0.0, f"A{number % 3}", batch.id, f"t{number}", mocks("p"))
        broker.acknowledge(run_id, batch.id)
        broker.submit(0.0, run_id, requests("p"))


@pytest.mark.parametrize("end", ["provide", "release"])
def test_ten_thousand_claims_by_run_leave_no_more_than_the_live_batches_need(end):
    broker = connected("r", "s", claims_per_batch=20_000)
    for run_id in ("s", *["r"] * 10):
        broker.submit(0.0, run_id, requests("p"))
    for number in range(10_000):
        cycle(broker, "r", number, end)
        if not number % 500:
            broker.take_effects()
    # 11 batches: a ttl, a place among all and one in its run; at most 8 sets of 3 responders each.
    assert heap_entries(broker) <= 2 * 3 * 11 + (1 + 8 + 2 * 8) * 65
    assert groups_looked_at(broker) <= 8


def test_a_claim_looks_at_one_head_however_long_the_queue_is():
    broker = connected()
    for _ in range(10_000):
        broker.submit(0.0, "r", requests("p"))
    assert groups_looked_at(broker) == 1
    for number in range(5_000):
        assert broker.claim(0.0, "A", LEASE, f"t{number}")
    assert groups_looked_at(broker) == 1


def test_renewing_one_claim_for_ever_keeps_the_heap_small():
    broker = with_claim(batch_ttl_s=1e9)
    for number in range(10_000):
        broker.renew(number / 1000, "A", "batch:r:1", "t")
    assert heap_entries(broker) <= 200


def test_a_long_day_leaves_nothing_but_the_bounded_memory():
    broker = connected()
    for number in range(3_000):
        batch: BatchState = broker.submit(0.0, "r", requests("p"))
        broker.claim(0.0, "A", LEASE, f"t{number}")
        broker.provide(0.0, "A", batch.id, f"t{number}", mocks("p"))
        broker.acknowledge("r", batch.id)
    broker.take_effects()
    assert is_empty(broker)
    assert heap_entries(broker) <= 400
    assert len(broker._ended) == ENDED_BATCHES
