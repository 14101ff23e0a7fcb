"""Generated histories of the broker, each judged by somebody who only reads them.

A history is a random walk of test processes and responders that behave badly: they show stale and
stolen tokens, other runs' batches, wrong mocks, impossible leases, and come back at any time. The
seed is the history: a complaint names it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from mock_mcp import errors
from mock_mcp.core import broker as core
from mock_mcp.core.broker import Broker
from mock_mcp.core.effects import (
    Claimed,
    Delivered,
    Effect,
)
from mock_mcp.limits import Limits
from mock_mcp.types import Mock, MockRequest
from support.inside import inside
from support.judge import Event, judge
from support.stress import pick

BLOCKS = 8
HISTORIES = pick(300, 10_000)
STEPS = 60

LIMITS = Limits(
    parked_batches=6,
    batch_requests=3,
    claims_per_batch=3,
    lease_max_s=64.0,
    batch_ttl_s=100.0,
    grace_s=10.0,
)
RUNS = ("a", "a:1", "b")
ADAPTERS = ("R1", "R2", "R3")
IDS = ("p", "q", "r")
OURS = ("resume", "ack", "errors")
CAPABILITIES = (OURS, OURS, OURS, ("resume", "ack"), ("resume",), ("ack",), ())
LEASES = (0.5, 1.0, 4.0, 30.0, 64.0)
BAD_LEASES = (0.0, -1.0, 64.5, float("nan"), float("inf"))
STEPS_S = (0.0, 0.25, 1.0, 4.0, 10.0, 40.0)


class Walk:
    """One random walk, written down."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.broker = Broker(LIMITS)
        self.now = 1000.0
        self.history: list[Event] = []
        self.serial = 0
        self.sessions = dict.fromkeys(RUNS, 1)
        self.sockets: list[tuple[str, int]] = []
        self.issued: list[tuple[str, str, str]] = []

    def next(self) -> int:
        self.serial += 1
        return self.serial

    def pick(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def record(self, op: str, operation: Any, given: dict[str, Any]) -> Any:
        before = inside(self.broker)
        got, refusal = None, None
        try:
            got = operation()
        except errors.MockMcpError as error:
            refusal = error.code
        if isinstance(got, core.BatchState):
            got = got.id if op == "submit" else (got.id, ids_of(got.wanted))
        elif isinstance(got, core.RunState):
            got = None
        effects = tuple(self.broker.take_effects())
        changed = bool(effects) or inside(self.broker) != before
        self.history.append(Event(self.now, op, given, got, refusal, effects, changed))
        return got

    # -- What may happen ------------------------------------------------------------------------

    def step(self) -> None:
        if self.chance(0.25):
            deadline = self.broker.next_deadline()
            if deadline is not None and self.chance(0.4):
                self.now = max(self.now, deadline - self.pick(0.0, 0.125))
            else:
                self.now += self.pick(*STEPS_S)
        steps = (
            (self.expire, 1),
            (self.open, 2),
            (self.close, 1),
            (self.submit, 4),
            (self.resubmit, 1),
            (self.cancel, 1),
            (self.acknowledge, 2),
            (self.claim, 5),
            (self.act, 7),
        )
        step = self.random.choices(*zip(*steps, strict=True))[0]
        step()

    def expire(self) -> None:
        self.record("expire", lambda: self.broker.expire(self.now), {})

    def open(self) -> None:
        run = self.pick(*RUNS)
        self.sessions[run] += self.pick(0, 1, 1)
        known = [*self.broker.runs[run].batches] if run in self.broker.runs else []
        self.record_open(
            run,
            self.pick(None, self.sessions[run], self.sessions[run], self.sessions[run] - 1),
            self.pick(*CAPABILITIES),
            self.pick(None, known, known, known[1:], []),
        )

    def record_open(
        self, run: str, session: int | None, capabilities: tuple[str, ...], wanted: Any
    ) -> None:
        given = {
            "run": run,
            "connection": self.next(),
            "session": session,
            "capabilities": capabilities,
            "wanted": wanted,
        }
        self.record(
            "open",
            lambda: self.broker.open_run(
                self.now,
                run,
                given["connection"],
                capabilities=capabilities,
                session=session,
                open_batches=wanted,
            ),
            given,
        )
        self.sockets.append((run, given["connection"]))

    def close(self) -> None:
        if self.sockets:
            self.record_close(*self.pick(*self.sockets[-4:]), clean=self.chance(0.3))

    def record_close(self, run: str, connection: int, *, clean: bool) -> None:
        self.record(
            "close",
            lambda: self.broker.close_run(self.now, run, connection, clean=clean),
            {"run": run, "connection": connection, "clean": clean},
        )

    def submit(self) -> None:
        if not self.broker.runs:
            self.open()
        run = self.pick(*RUNS, *self.broker.runs, *self.broker.runs)
        ids = self.random.sample(IDS, self.random.randint(1, 3))
        if self.chance(0.05):
            ids = self.pick([], ["p", "p"], ["p", "q", "r", "s"])
        suffix = self.pick(None, None, None, "x", "y", "1:1", "1")
        other = self.pick(run, run, run, run, *RUNS)
        self.record_submit(run, ids, suffix and f"batch:{other}:{suffix}", self.pick(0, 0, 0, 1))

    def resubmit(self) -> None:
        if parked := [*self.broker.batches()]:
            batch = self.pick(*parked)
            ids = [*batch.requests]
            if self.chance(0.4):
                ids = self.random.sample(IDS, self.random.randint(1, 3))
            body = 1 if self.chance(0.2) else body_of(batch)
            self.record_submit(self.pick(batch.run_id, batch.run_id, *RUNS), ids, batch.id, body)

    def record_submit(self, run: str, ids: list[str], batch: str | None, body: int) -> None:
        json = msgspec.Raw(b'{"body":%d}' % body)
        requests = [MockRequest(rid, f"/{rid}", "GET", json) for rid in ids]
        self.record(
            "submit",
            lambda: self.broker.submit(self.now, run, requests, batch),
            {"run": run, "ids": ids, "batch": batch, "body": body},
        )

    def some_batch(self) -> tuple[str, str]:
        """Return a run and a batch: mostly one's own, and mostly alive."""
        known = [(batch.run_id, batch.id) for batch in self.broker.batches()] * 3
        known += [(self.pick(*RUNS), batch) for _, batch, _ in self.issued[-4:]]
        run, batch = self.pick(*known) if known else ("a", "batch:a:1")
        return (self.pick(*RUNS) if self.chance(0.15) else run), batch

    def cancel(self) -> None:
        run, batch = self.some_batch()
        ids = self.pick(None, ["p"], ["q", "r"], ["nobody"], [])
        self.record(
            "cancel",
            lambda: self.broker.cancel(run, batch, ids),
            {"run": run, "batch": batch, "ids": ids},
        )

    def acknowledge(self) -> None:
        run, batch = self.some_batch()
        answered = [b for b in self.broker.batches() if b.status is core.Status.FULFILLED]
        if answered and self.chance(0.7):
            run, batch = answered[0].run_id, answered[0].id
        self.record(
            "acknowledge",
            lambda: self.broker.acknowledge(run, batch),
            {"run": run, "batch": batch},
        )

    def claim(self) -> None:
        known = [batch.id for batch in self.broker.batches()]
        given = {
            "adapter": self.pick(*ADAPTERS),
            "lease": self.pick(*BAD_LEASES) if self.chance(0.05) else self.pick(*LEASES),
            "token": f"token {self.next()}",
            "run": self.pick(None, None, None, *RUNS, "nobody"),
            "batch": self.pick(*known) if known and self.chance(0.2) else None,
        }
        got = self.record(
            "claim",
            lambda: self.broker.claim(
                self.now,
                given["adapter"],
                given["lease"],
                given["token"],
                run_id=given["run"],
                batch_id=given["batch"],
            ),
            given,
        )
        if got:
            self.issued.append((given["adapter"], got[0], given["token"]))

    def act(self) -> None:
        """Do something with a claim: mostly one's own, often one that is over, or another's."""
        if not self.issued:
            self.claim()
            return
        held = [(b.claim.adapter_id, b.id, b.claim.token) for b in self.broker.batches() if b.claim]
        adapter, batch, token = self.pick(*held * 4, *self.issued[-6:])
        if self.chance(0.1):
            adapter = self.pick(*ADAPTERS)
        if self.chance(0.1):
            batch = self.pick(*self.issued)[1]
        if self.chance(0.1):
            token = self.pick(*self.issued)[2]
        who = {"adapter": adapter, "batch": batch, "token": token}
        now, broker = self.now, self.broker
        match self.pick(
            "renew",
            "release",
            "release",
            "hold",
            "unhold",
            "reject",
            "fail",
            "provide",
            "provide",
            "provide",
        ):
            case "renew":
                lease = self.pick(None, *LEASES, *BAD_LEASES[:1])
                self.record(
                    "renew",
                    lambda: broker.renew(now, adapter, batch, token, lease),
                    {**who, "lease": lease},
                )
            case "release":
                self.record("release", lambda: broker.release(now, adapter, batch, token), who)
            case "unhold":
                self.record(
                    "unhold",
                    lambda: broker.unhold(now, batch, token),
                    {"batch": batch, "token": token},
                )
            case "reject":
                self.record(
                    "reject", lambda: broker.reject(now, adapter, batch, token, "wrong"), who
                )
            case "fail":
                error = errors.UnusableContract("it cannot be read")
                self.record("fail", lambda: broker.fail(now, adapter, batch, token, error), who)
            case op:
                mocks = self.mocks(batch)
                method = broker.hold if op == "hold" else broker.provide
                self.record(
                    op,
                    lambda: method(now, adapter, batch, token, mocks) and None,
                    {**who, "mocks": mocks},
                )

    def mocks(self, batch_id: str) -> list[Mock]:
        live = self.broker.is_live(batch_id)
        batch = self.broker.batch(batch_id) if live else None
        ids = ids_of(batch.wanted) if batch else ["p"]
        match self.pick("right", "right", "right", "right", "late", "few", "many", "twice"):
            case "late":
                ids += batch.cancelled if batch else ()
            case "few":
                ids = ids[1:]
            case "many":
                ids.append("nobody")
            case "twice":
                ids += ids[:1]
        self.random.shuffle(ids)
        return [  # no two mocks are alike
            Mock(rid, [rid, self.next()], reuse="run" if self.chance(0.2) else None) for rid in ids
        ]

    def end(self) -> None:
        """Let every test process go."""
        for run in [*self.broker.runs.values()]:
            if run.connection_id is not None:
                self.record_close(run.id, run.connection_id, clean=True)
        self.now += LIMITS.grace_s
        self.expire()


def ids_of(requests: Iterable[MockRequest]) -> list[str]:
    return [request.request_id for request in requests]


def body_of(batch: core.BatchState) -> int:
    return int(msgspec.json.decode(next(iter(batch.requests.values())).json)["body"])


def walk(seed: int) -> list[Event]:
    walk = Walk(seed)
    walk.record_open("a", 1, OURS, None)
    for _ in range(STEPS):
        walk.step()
    walk.end()
    return walk.history


@pytest.mark.parametrize("block", range(BLOCKS))
def test_the_judge_has_no_complaint(block: int, measured: Callable[..., None]) -> None:
    seeds = range(block, HISTORIES, BLOCKS)
    for seed in seeds:
        assert judge(walk(seed), LIMITS) == [], f"seed {seed}"
    measured(histories=len(seeds))


def test_the_histories_are_worth_judging() -> None:
    """Every operation succeeds and is refused, and every announcement is made, in a few walks."""
    events = [event for seed in range(100) for event in walk(seed)]
    announced = {type(effect) for event in events for effect in event.effects}
    assert announced == set(Effect.__subclasses__())
    actions = {"renew", "release", "hold", "reject", "fail", "provide"}
    for op in actions:
        refusals = {event.refusal for event in events if event.op == op}
        assert {None, "unknown-batch", "claim-mismatch", "not-claimed", "lease-ended"} <= refusals
    assert "run-replaced" in {event.refusal for event in events if event.op == "open"}


# -- The judge is not blind ---------------------------------------------------------------------


def complaints(history: list[Event]) -> str:
    return "\n".join(judge(history, LIMITS))


def first(history: list[Event], op: str, effect: type) -> tuple[int, Effect]:
    return next(
        (index, found)
        for index, event in enumerate(history)
        if event.op == op
        for found in event.effects
        if type(found) is effect
    )


@pytest.fixture(scope="module")
def honest() -> list[Event]:
    return next(
        history
        for history in map(walk, range(1000))
        if any(event.op == "provide" and event.effects for event in history)
    )


def test_a_result_to_another_run_is_noticed(honest: list[Event]) -> None:
    index, sent = first(honest, "provide", Delivered)
    told = [*honest]
    told[index] = told[index]._replace(effects=(msgspec.structs.replace(sent, run_id="b2"),))
    assert "another run" in complaints(told)


def test_other_data_is_noticed(honest: list[Event]) -> None:
    index, sent = first(honest, "provide", Delivered)
    other = tuple(msgspec.structs.replace(mock, data="other") for mock in sent.mocks)
    told = [*honest]
    told[index] = told[index]._replace(effects=(msgspec.structs.replace(sent, mocks=other),))
    assert "not what was provided" in complaints(told)


def test_a_token_that_was_never_issued_is_noticed(honest: list[Event]) -> None:
    index, _ = first(honest, "provide", Delivered)
    told = [*honest]
    told[index] = told[index]._replace(given={**told[index].given, "token": "made up"})
    assert "not the live one" in complaints(told)


def test_a_claim_that_is_left_out_is_noticed(honest: list[Event]) -> None:
    index, _ = first(honest, "claim", Claimed)
    assert complaints(honest[:index] + honest[index + 1 :])


def test_a_delivery_that_happens_twice_is_noticed(honest: list[Event]) -> None:
    index, sent = first(honest, "provide", Delivered)
    told = [*honest]
    told[index] = told[index]._replace(effects=(sent, sent))
    assert "announced twice" in complaints(told)


def test_a_refusal_that_changes_something_is_noticed() -> None:
    refused = Event(
        1.0, "renew", {"adapter": "R1", "batch": "b", "token": "t", "lease": None}, None, "x"
    )
    assert "a refusal changed the state" in complaints([refused])
