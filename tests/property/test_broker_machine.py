"""The broker against a model that is too simple to be wrong.

The model keeps plain lists and scans them. It is told only what DESIGN sections 3 and 5 promise.
Each rule asks the model what must happen (the result or the refusal, and the effects), does the
same to the broker, and compares. After every step the two agree on all that can be observed, and
the broker's inside holds nothing that the model cannot account for.

Timers are late at will: time may pass without `Broker.expire` being called. Leases end all the
same; grace periods and times to live end when the broker next looks (`expire`, `claim`,
`open_run`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mock_mcp import errors
from mock_mcp.core import broker as core
from mock_mcp.core.broker import Broker
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
    Reused,
    RunEnded,
    Submitted,
)
from mock_mcp.core.heap import PriorityMap
from mock_mcp.limits import Limits
from mock_mcp.types import HistoryEntry, Mock, MockRequest
from support.inside import inside

LIMITS = Limits(
    parked_batches=6,
    batch_requests=3,
    claims_per_batch=3,
    lease_max_s=64.0,
    batch_ttl_s=100.0,
    grace_s=10.0,
    reused_answers=2,
)
RUNS = ["a", "a:1", "b"]  # a batch id of "a:1" begins with the prefix of "a" as well
RESPONDERS = ["R1", "R2", "R3"]
REQUEST_IDS = ["p", "q", "r"]
SUFFIXES = ["1", "2", "y", "x"]
OURS = ("resume", "ack", "errors")
CAPABILITIES = [OURS, OURS, OURS, ("resume", "ack"), ("resume",), ("ack",), ()]
LEASES = [0.5, 1.0, 4.0, 30.0, 64.0]
BAD_LEASES = [0.0, -1.0, 0.0005, 64.5, float("nan"), float("inf"), -float("inf")]
MOODS = ["exact", "backwards", "with cancelled", "missing", "extra", "twice"]
"""What mocks a responder sends; the first three are right."""


# -- The model ------------------------------------------------------------------------------------


@dataclass
class Grip:
    """One claim."""

    adapter: str
    token: str
    lease: float
    deadline: float
    holds: int = 0

    def over(self, now: float) -> bool:
        return self.holds == 0 and now >= self.deadline


@dataclass
class Parcel:
    """One batch. ``answer`` is (token, adapter, request ids) once it has one.

    ``reused`` are the requests with an answer that was given before for the whole run.
    """

    id: str
    run: str
    requests: list[str]
    created: float
    ttl: float
    grip: Grip | None = None
    answer: tuple[str, str, list[str]] | None = None
    cancelled: list[str] = field(default_factory=list)
    releasers: list[str] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)
    history: list[HistoryEntry] = field(default_factory=list)
    claims_ended: int = 0
    reused: list[str] = field(default_factory=list)

    @property
    def wanted(self) -> list[str]:
        return [rid for rid in self.requests if rid not in self.reused]

    @property
    def status(self) -> str:
        if self.answer:
            return "fulfilled"
        return "claimed" if self.grip else "pending"


@dataclass
class Process:
    """One run."""

    id: str
    connection: int | None = None
    session: int | None = None
    capabilities: tuple[str, ...] = ()
    grace: float | None = None
    reusable: list[str] = field(default_factory=list)  # requests, the one kept longest first


class Model:
    """Runs and batches in lists; the list of batches is in order of submission, always."""

    def __init__(self) -> None:
        self.runs: list[Process] = []
        self.parcels: list[Parcel] = []
        self.repeatable: dict[str, tuple[str, str, bool]] = {}  # id: token, adapter, was delivered
        self.effects: list[tuple[Any, ...]] = []

    def run(self, run_id: str) -> Process | None:
        return next((run for run in self.runs if run.id == run_id), None)

    def parcel(self, batch_id: str) -> Parcel | None:
        return next((parcel for parcel in self.parcels if parcel.id == batch_id), None)

    def of(self, run_id: str | None, status: str | None = None) -> list[Parcel]:
        return [
            parcel
            for parcel in self.parcels
            if run_id in (None, parcel.run) and status in (None, parcel.status)
        ]

    def offered(self, adapter: str, run_id: str | None) -> Parcel | None:
        waiting = self.of(run_id, "pending")
        fresh = [parcel for parcel in waiting if adapter not in parcel.releasers]
        return next(iter(fresh + waiting), None)

    def deadlines(self) -> list[float]:
        leases = [p.grip.deadline for p in self.parcels if p.grip and not p.grip.holds]
        graces = [run.grace for run in self.runs if run.grace is not None]
        return leases + graces + [parcel.ttl for parcel in self.parcels]

    def refusal(self, now: float, adapter: str, batch_id: str, token: str) -> tuple[type, ...]:
        """Return the errors allowed for an action with this token; none when it is the holder's."""
        parcel = self.parcel(batch_id)
        if parcel is None:
            return (errors.UnknownBatch,)
        if parcel.answer:
            return (errors.NotClaimed,)
        grip = parcel.grip
        if grip and not grip.over(now):
            holder = (grip.token, grip.adapter) == (token, adapter)
            return () if holder else (errors.ClaimMismatch,)
        expired = [*parcel.expired, grip.token] if grip else parcel.expired
        return (errors.LeaseEnded,) if token in expired else (errors.NotClaimed,)

    # Transitions: each notes the effects it must have.

    def note(self, effect: type, run: str, batch: str, *facts: Any) -> None:
        self.effects.append((effect.__name__, run, batch, *facts))

    def settle(self, now: float) -> None:
        for parcel in list(self.parcels):
            if parcel.grip and parcel.grip.over(now):
                parcel.expired.append(parcel.grip.token)
                self.note(Expired, parcel.run, parcel.id, parcel.grip.adapter)
                self.end_claim(parcel, "expired", parcel.grip.adapter, None)
        for run in list(self.runs):
            if run.grace is not None and run.grace <= now:
                self.end_run(run)
        for parcel in list(self.parcels):
            if parcel.ttl <= now:
                if not parcel.answer:
                    self.note(Failed, parcel.run, parcel.id, "batch-expired")
                self.remove(parcel)

    def end_claim(self, parcel: Parcel, outcome: str, adapter: str, reason: str | None) -> None:
        parcel.grip = None
        parcel.history.append(HistoryEntry(outcome, adapter, reason))
        parcel.claims_ended += 1
        if parcel.claims_ended == LIMITS.claims_per_batch:
            self.note(Failed, parcel.run, parcel.id, "given-up")
            self.remove(parcel)

    def remove(self, parcel: Parcel) -> None:
        self.parcels.remove(parcel)
        self.repeatable.pop(parcel.id, None)
        if parcel.answer:
            self.repeatable[parcel.id] = (*parcel.answer[:2], True)

    def end_run(self, run: Process) -> None:
        self.drop(run, keep=[])
        self.runs.remove(run)
        self.note(RunEnded, run.id, "")

    def drop(self, run: Process, keep: list[str]) -> None:
        for parcel in self.of(run.id):
            if parcel.id not in keep:
                self.note(Cancelled, run.id, parcel.id, sorted(parcel.requests), True)
                self.remove(parcel)

    def cancel(self, parcel: Parcel, ids: list[str]) -> None:
        gone = [rid for rid in parcel.requests if rid in ids]
        if not gone:
            return
        whole = gone == parcel.requests
        self.note(Cancelled, parcel.run, parcel.id, sorted(gone), whole)
        if whole:
            self.remove(parcel)
            if parcel.grip:
                self.repeatable[parcel.id] = (parcel.grip.token, parcel.grip.adapter, False)
            return
        parcel.requests = [rid for rid in parcel.requests if rid not in gone]
        parcel.cancelled += gone
        if not parcel.answer and not parcel.wanted:
            grip, parcel.grip = parcel.grip, None
            self.answer(parcel, grip.token if grip else "", grip.adapter if grip else "")

    def answer(self, parcel: Parcel, token: str, adapter: str) -> None:
        parcel.answer = (token, adapter, list(parcel.requests))
        self.deliver(parcel)

    def deliver(self, parcel: Parcel) -> None:
        """Note the result; without ``ack`` it is done once there is a connection to write it to."""
        assert parcel.answer
        _, adapter, answered = parcel.answer
        wanted = tuple(rid for rid in answered if rid in parcel.requests)
        self.note(Delivered, parcel.run, parcel.id, adapter, wanted)
        run = self.run(parcel.run)
        assert run
        if "ack" not in run.capabilities and run.connection is not None:
            self.remove(parcel)


# -- Looking at the broker ------------------------------------------------------------------------


def plain(effect: Effect) -> tuple[Any, ...]:
    """Return an effect as the model notes it."""
    head = (type(effect).__name__, effect.run_id, effect.batch_id)
    match effect:
        case Delivered():
            return (*head, effect.adapter_id, tuple(mock.request_id for mock in effect.mocks))
        case Failed():
            return (*head, effect.error.code)
        case Cancelled():
            return (*head, sorted(effect.request_ids), effect.whole)
        case Reused():
            return (*head, list(effect.request_ids))
        case Released() | Rejected():
            return (*head, effect.adapter_id, effect.reason)
        case Claimed() | Expired():
            return (*head, effect.adapter_id)
        case Replaced():
            return (*head, effect.connection_id)
        case _:
            return head


def by_subject(effects: list[tuple[Any, ...]]) -> dict[tuple[str, str], list[tuple[Any, ...]]]:
    """Group effects by batch: only the order within a batch, or a run, is promised."""
    subjects = defaultdict(list)
    for effect in effects:
        subjects[effect[1:3]].append(effect)
    return dict(subjects)


def requests(ids: list[str]) -> list[MockRequest]:
    return [MockRequest(rid, f"/{rid}", "GET", msgspec.Raw(b"{}")) for rid in ids]


# -- The machine ----------------------------------------------------------------------------------


class BrokerMachine(RuleBasedStateMachine):
    """Every operation at any time, by anybody, with right and wrong arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.broker = Broker(LIMITS)
        self.model = Model()
        self.issued: list[tuple[str, str, str]] = []
        self.sockets: list[tuple[str, int]] = [("a", 0)]
        self.serial = 0

    def next_serial(self) -> int:
        self.serial += 1
        return self.serial

    def do(self, operation: Any, refusals: tuple[type, ...] = ()) -> Any:
        """Do it to the broker; a refusal the model asks for must come and change nothing."""
        before = inside(self.broker)
        try:
            result = operation()
        except errors.MockMcpError as error:
            refused = error
        else:
            refused = None
        if refused is not None:
            assert type(refused) in refusals, f"got {refused!r}, the model says {refusals}"
            assert inside(self.broker) == before, "a refusal changed the state"
            assert not self.model.effects
            return refused
        assert not refusals, f"accepted, the model says {refusals}"
        self.compare_effects()
        return result

    def compare_effects(self) -> None:
        expected, self.model.effects = self.model.effects, []
        happened = [plain(effect) for effect in self.broker.take_effects()]
        assert by_subject(happened) == by_subject(expected)

    # -- Time -------------------------------------------------------------------------------------

    @rule(
        step=st.sampled_from([0.25, 0.5, 1.0, 1.0, 4.0, 5.0, 10.0, 40.0]),
        timer=st.booleans(),
    )
    def time_passes(self, step: float, timer: bool) -> None:
        self.now += step
        if timer:
            self.model.settle(self.now)
            self.do(lambda: self.broker.expire(self.now))

    @precondition(lambda self: self.model.deadlines())
    @rule(early=st.sampled_from([0.0, 0.125]), timer=st.booleans())
    def time_passes_to_the_next_deadline(self, early: float, timer: bool) -> None:
        self.time_passes(max(0.0, min(self.model.deadlines()) - early - self.now), timer)

    # -- Runs -------------------------------------------------------------------------------------

    @initialize(run_id=st.sampled_from(RUNS), capabilities=st.sampled_from([OURS, ("resume",)]))
    def someone_is_there(self, run_id, capabilities) -> None:
        self.connect(run_id, capabilities, 1, None)

    @rule(
        capabilities=st.sampled_from(CAPABILITIES),
        session=st.sampled_from([None, 1, 2, 2, 3]),
        takeover=st.sampled_from([False, False, True]),
        data=st.data(),
    )
    def connects(self, capabilities, session, takeover, data) -> None:
        live = [run.id for run in self.model.runs if run.connection is not None]
        candidates = [run_id for run_id in RUNS if (run_id in live) == takeover]
        if not candidates:
            return
        run_id = data.draw(st.sampled_from(candidates))
        known = [parcel.id for parcel in self.model.of(run_id)] + ["batch:b:unknown"]
        wanted = data.draw(
            st.none() | st.just(known) | st.lists(st.sampled_from(known), unique=True)
        )
        self.connect(run_id, capabilities, session, wanted)

    def connect(self, run_id, capabilities, session, wanted) -> None:
        model, connection = self.model, self.next_serial()
        run = model.run(run_id)
        if run and run.grace is not None and run.grace <= self.now:
            run = None  # over, though no timer has said so yet

        def opening() -> None:
            self.broker.open_run(
                self.now,
                run_id,
                connection,
                capabilities=capabilities,
                session=session,
                open_batches=wanted,
            )

        if run and session is not None and run.session is not None and session < run.session:
            self.do(opening, (errors.RunReplaced,))
            return
        model.settle(self.now)
        if run is None:
            run = Process(run_id)
            model.runs.append(run)
        if run.connection is not None:
            model.note(Replaced, run_id, "", run.connection)
        run.connection, run.session, run.capabilities = connection, session, capabilities
        run.grace = None
        if "resume" not in capabilities:
            model.drop(run, keep=[])
        elif wanted is not None:
            model.drop(run, keep=wanted)
        self.sockets.append((run_id, connection))
        self.do(opening)

    @rule(data=st.data(), clean=st.sampled_from([False, False, True]))
    def socket_closes(self, data, clean) -> None:
        run_id, connection = data.draw(st.sampled_from(self.sockets[-4:]))
        run = self.model.run(run_id)
        if run and run.connection == connection:
            run.connection = None
            if clean or "resume" not in run.capabilities:
                self.model.end_run(run)
            else:
                run.grace = self.now + LIMITS.grace_s
        self.do(lambda: self.broker.close_run(self.now, run_id, connection, clean=clean))

    # -- What a test does -------------------------------------------------------------------------

    @precondition(lambda self: self.model.runs)
    @rule(
        data=st.data(),
        ids=st.lists(st.sampled_from(REQUEST_IDS), min_size=1, max_size=3, unique=True),
        suffix=st.none() | st.sampled_from(SUFFIXES),
    )
    def submits(self, data, ids, suffix) -> None:
        run_id = data.draw(st.sampled_from([run.id for run in self.model.runs]))
        self.submit(run_id, ids, None if suffix is None else f"batch:{run_id}:{suffix}")

    @precondition(lambda self: self.model.parcels)
    @rule(data=st.data())
    def resubmits(self, data) -> None:
        parcel = data.draw(st.sampled_from(self.model.parcels))
        known = [*parcel.requests, *parcel.requests, *parcel.cancelled]
        ids = data.draw(
            st.just(list(parcel.requests))
            | st.lists(st.sampled_from(known), min_size=1, unique=True)
        )
        self.submit(parcel.run, ids, parcel.id)

    def submit(self, run_id, ids, batch_id) -> None:
        model, run = self.model, self.model.run(run_id)
        known = model.parcel(batch_id) if batch_id else None

        def submitting() -> core.BatchState:
            return self.broker.submit(self.now, run_id, requests(ids), batch_id)

        if run is None:
            self.do(submitting, (errors.UnknownRun,))
        elif known:
            strangers = [rid for rid in ids if rid not in known.requests + known.cancelled]
            if known.run != run_id or strangers or not set(ids) & set(known.requests):
                self.do(submitting, (errors.InvalidParams,))
                return
            had_answer = known.answer
            model.cancel(known, [rid for rid in known.requests if rid not in ids])
            if had_answer:
                model.deliver(known)
            assert self.do(submitting).id == batch_id
        elif len(model.parcels) >= LIMITS.parked_batches:
            self.do(submitting, (errors.LimitExceeded,))
        else:
            self.park(run_id, ids, batch_id, submitting)

    def park(self, run_id, ids, batch_id, submitting) -> None:
        model, before = self.model, [parcel.id for parcel in self.model.parcels]
        created = submitting()
        assert created.id not in before
        assert created.id.startswith(f"batch:{run_id}:")
        assert batch_id in (None, created.id)
        model.parcels.append(
            Parcel(created.id, run_id, list(ids), self.now, self.now + LIMITS.batch_ttl_s)
        )
        model.repeatable.pop(created.id, None)
        model.note(Submitted, run_id, created.id)
        parcel, run = model.parcels[-1], model.run(run_id)
        assert run
        parcel.reused = [rid for rid in ids if rid in run.reusable]
        if parcel.reused:
            model.note(Reused, run_id, created.id, parcel.reused)
        if not parcel.wanted:
            model.answer(parcel, "", "")
        self.compare_effects()

    @precondition(lambda self: self.model.runs)
    @rule(
        run_id=st.sampled_from(RUNS),
        ids=st.sampled_from([[], ["p", "p"], ["p", "q", "r", "s"], ["p"]]),
        batch_id=st.sampled_from(["", "batch:a", "batch:b:", "batch:c:1", "batch:", "1"]),
    )
    def submits_nonsense(self, run_id, ids, batch_id) -> None:
        if self.model.run(run_id) is None:
            wanted: type = errors.UnknownRun
        else:
            wanted = errors.LimitExceeded if len(ids) > 3 else errors.InvalidParams
        self.do(lambda: self.broker.submit(self.now, run_id, requests(ids), batch_id), (wanted,))

    @precondition(lambda self: self.model.parcels)
    @rule(
        data=st.data(),
        ids=st.none() | st.lists(st.sampled_from([*REQUEST_IDS, "nobody"]), max_size=3),
        stranger=st.sampled_from([None, None, None, *RUNS]),
    )
    def cancels(self, data, ids, stranger) -> None:
        parcel = data.draw(st.sampled_from(self.model.parcels))
        run_id = stranger or parcel.run
        if run_id == parcel.run:
            self.model.cancel(parcel, REQUEST_IDS if ids is None else ids)
        self.do(lambda: self.broker.cancel(run_id, parcel.id, ids))

    @precondition(lambda self: self.model.parcels)
    @rule(data=st.data(), stranger=st.sampled_from([None, None, None, *RUNS]))
    def acknowledges(self, data, stranger) -> None:
        answered = [parcel for parcel in self.model.parcels if parcel.answer]
        parcel = data.draw(st.sampled_from(answered or self.model.parcels))
        run_id = stranger or parcel.run
        if run_id == parcel.run and parcel.answer:
            self.model.note(Acknowledged, run_id, parcel.id)
            self.model.remove(parcel)
        self.do(lambda: self.broker.acknowledge(run_id, parcel.id))

    # -- What a responder does --------------------------------------------------------------------

    @precondition(lambda self: self.model.parcels or not self.issued)
    @rule(
        adapter=st.sampled_from(RESPONDERS),
        lease=st.sampled_from(LEASES),
        run_id=st.sampled_from([None, None, *RUNS, "no such run"]),
    )
    def claims_next(self, adapter, lease, run_id) -> None:
        self.model.settle(self.now)
        self.claim(adapter, lease, self.model.offered(adapter, run_id), run_id=run_id)

    @precondition(lambda self: self.model.parcels)
    @rule(adapter=st.sampled_from(RESPONDERS), lease=st.sampled_from([4.0, 64.0]))
    def claims_everything(self, adapter, lease) -> None:
        self.model.settle(self.now)
        while expected := self.model.offered(adapter, None):
            self.claim(adapter, lease, expected)
        self.claim(adapter, lease, None)

    @precondition(lambda self: self.model.parcels)
    @rule(
        data=st.data(),
        adapter=st.sampled_from(RESPONDERS),
        lease=st.sampled_from(LEASES),
        run_id=st.sampled_from([None, None, *RUNS]),
    )
    def claims_by_id(self, data, adapter, lease, run_id) -> None:
        parcel = data.draw(st.sampled_from(self.model.parcels))
        self.model.settle(self.now)
        there = parcel in self.model.of(run_id, "pending")
        self.claim(adapter, lease, parcel if there else None, run_id=run_id, batch_id=parcel.id)

    def claim(self, adapter, lease, expected, **which) -> None:
        token = f"token {self.next_serial()}"
        if expected:
            expected.grip = Grip(adapter, token, lease, self.now + lease)
            self.issued.append((adapter, expected.id, token))
            self.model.note(Claimed, expected.run, expected.id, adapter)
        got = self.do(lambda: self.broker.claim(self.now, adapter, lease, token, **which))
        assert (got and got.id) == (expected and expected.id)

    @precondition(lambda self: self.issued)
    @rule(adapter=st.sampled_from(RESPONDERS), lease=st.sampled_from(BAD_LEASES), data=st.data())
    def asks_for_an_impossible_lease(self, adapter, lease, data) -> None:
        holder, batch_id, token = self.draw_token(data)
        wanted = (errors.InvalidParams,)
        self.do(lambda: self.broker.claim(self.now, adapter, lease, "t"), wanted)
        self.do(lambda: self.broker.renew(self.now, holder, batch_id, token, lease), wanted)

    def draw_token(self, data) -> tuple[str, str, str]:
        """Draw whose token is shown for which batch: mostly a holder's own, sometimes another."""
        held = [(p.grip.adapter, p.id, p.grip.token) for p in self.model.parcels if p.grip]
        adapter, batch_id, token = data.draw(st.sampled_from(held * 3 + self.issued[-6:]))
        if data.draw(st.integers(0, 9)) == 0:
            adapter = data.draw(st.sampled_from(RESPONDERS))
        if data.draw(st.integers(0, 9)) == 0:
            batch_id = data.draw(st.sampled_from([shown[1] for shown in self.issued]))
        return adapter, batch_id, token

    def acting(self, data) -> SimpleNamespace:
        return self.shown(*self.draw_token(data))

    def shown(self, *who: str) -> SimpleNamespace:
        refusals = self.model.refusal(self.now, *who)
        return SimpleNamespace(who=who, refusals=refusals, parcel=self.model.parcel(who[1]))

    @precondition(lambda self: self.issued)
    @rule(data=st.data(), lease=st.none() | st.sampled_from(LEASES))
    def renews(self, data, lease) -> None:
        act = self.acting(data)
        if not act.refusals:
            act.parcel.grip.lease = lease or act.parcel.grip.lease
            act.parcel.grip.deadline = self.now + act.parcel.grip.lease
        got = self.do(lambda: self.broker.renew(self.now, *act.who, lease), act.refusals)
        assert act.refusals or got == act.parcel.grip.deadline

    @precondition(lambda self: self.issued)
    @rule(data=st.data(), reason=st.sampled_from([None, "too hard"]))
    def releases(self, data, reason) -> None:
        act = self.acting(data)
        if not act.refusals:
            act.parcel.releasers.append(act.who[0])
            self.model.note(Released, act.parcel.run, act.parcel.id, act.who[0], reason)
            self.model.end_claim(act.parcel, "released", act.who[0], reason)
        self.do(lambda: self.broker.release(self.now, *act.who, reason), act.refusals)

    @precondition(lambda self: self.issued)
    @rule(data=st.data())
    def rejects(self, data) -> None:
        act = self.acting(data)
        if not act.refusals:
            grip = act.parcel.grip
            grip.holds = max(0, grip.holds - 1)  # the check is over
            grip.deadline = self.now + grip.lease
            act.parcel.history.append(HistoryEntry("rejected", grip.adapter, "wrong type"))
            self.model.note(Rejected, act.parcel.run, act.parcel.id, grip.adapter, "wrong type")
        got = self.do(lambda: self.broker.reject(self.now, *act.who, "wrong type"), act.refusals)
        assert act.refusals or got == act.parcel.grip.deadline

    @precondition(lambda self: any(p.grip for p in self.model.parcels))
    @rule(data=st.data())
    def fails(self, data) -> None:
        act = self.acting(data)
        if not act.refusals:
            self.model.note(Failed, act.parcel.run, act.parcel.id, "unusable-contract")
            self.model.remove(act.parcel)
        error = errors.UnusableContract("it cannot be read")
        self.do(lambda: self.broker.fail(self.now, *act.who, error), act.refusals)

    def mocks_for(
        self, parcel: Parcel | None, mood: str, reuse: Literal["run"] | None = None
    ) -> tuple[list[Mock], bool]:
        """Return mocks, and whether they are exactly one per request."""
        ids = (list(parcel.wanted) if parcel else []) or ["p"]  # one whose answers are all reused
        if mood == "backwards":
            ids.reverse()
        elif mood == "with cancelled":
            ids = (parcel.cancelled if parcel else []) + ids
        elif mood == "missing":
            ids.pop()
        elif mood == "extra":
            ids.append("nobody")
        elif mood == "twice":
            ids.append(ids[0])
        mocks = [Mock(rid, {"n": n}, reuse=reuse) for n, rid in enumerate(ids)]
        return mocks, mood in MOODS[:3]

    @precondition(lambda self: self.issued)
    @rule(data=st.data())
    def holds(self, data) -> None:
        act = self.acting(data)
        mocks, match = self.mocks_for(act.parcel, data.draw(st.sampled_from(MOODS)))
        refusals = act.refusals or (() if match else (errors.MocksMismatch,))
        if not refusals:
            act.parcel.grip.holds += 1
        self.do(lambda: self.broker.hold(self.now, *act.who, mocks), refusals)

    @precondition(lambda self: self.issued)
    @rule(data=st.data())
    def unholds(self, data) -> None:
        held = [p for p in self.model.parcels if p.grip and p.grip.holds]
        shown = [(p.grip.adapter, p.id, p.grip.token) for p in held if p.grip] * 3
        _, batch_id, token = data.draw(st.sampled_from(shown + self.issued[-4:]))
        parcel = self.model.parcel(batch_id)
        grip = parcel.grip if parcel else None
        if grip and grip.token == token and grip.holds:
            grip.holds -= 1
            if not grip.holds:
                grip.deadline = self.now + grip.lease
        self.do(lambda: self.broker.unhold(self.now, batch_id, token))

    @precondition(lambda self: self.issued)
    @rule(data=st.data(), mood=st.sampled_from(MOODS), reuse=st.sampled_from([None, "run"]))
    def provides(self, data, mood, reuse) -> None:
        self.provide(self.acting(data), mood, reuse)

    @precondition(lambda self: any(p.grip for p in self.model.parcels))
    @rule(data=st.data(), reuse=st.sampled_from([None, "run"]))
    def provides_what_it_holds(self, data, reuse) -> None:
        parcel = data.draw(st.sampled_from([p for p in self.model.parcels if p.grip]))
        act = self.shown(parcel.grip.adapter, parcel.id, parcel.grip.token)
        self.provide(act, "exact", reuse)

    def provide(self, act, mood, reuse=None) -> None:
        adapter, batch_id, token = act.who
        mocks, match = self.mocks_for(act.parcel, mood, reuse)
        parcel = act.parcel

        def providing() -> str | None:
            return self.broker.provide(self.now, *act.who, mocks)

        if parcel is None and self.model.repeatable.get(batch_id, ())[:2] == (token, adapter):
            delivered = self.model.repeatable[batch_id][2]
            assert (self.do(providing) is None) == delivered
        elif parcel and parcel.answer and parcel.answer[:2] == (token, adapter):
            assert self.do(providing) is None
        elif refusals := act.refusals or (() if match else (errors.MocksMismatch,)):
            self.do(providing, refusals)
        else:
            parcel.grip = None
            parcel.ttl = self.now + LIMITS.batch_ttl_s  # from now on the result's own
            for rid in parcel.wanted if reuse else ():
                kept = self.model.run(parcel.run).reusable
                kept[:] = [*(other for other in kept if other != rid), rid][
                    -LIMITS.reused_answers :
                ]
            self.model.answer(parcel, token, adapter)
            assert self.do(providing) is None

    # -- What is always true ----------------------------------------------------------------------

    @invariant()
    def the_same_runs_and_batches_are_there(self) -> None:
        broker, model = self.broker, self.model
        assert set(broker.runs) == {run.id for run in model.runs}
        assert [batch.id for batch in broker.batches()] == [p.id for p in model.parcels]
        for parcel in model.parcels:
            batch = broker.batch(parcel.id)
            assert batch.run_id == parcel.run
            assert batch.status.value == parcel.status
            assert list(batch.requests) == parcel.requests
            assert [request.request_id for request in batch.wanted] == parcel.wanted
            assert list(batch.history) == parcel.history[-20:]
            assert batch.attempts == len(parcel.history)
            assert batch.created_at == parcel.created
            assert (batch.claim and batch.claim.token) == (parcel.grip and parcel.grip.token)
            assert batch.lease_deadline == (parcel.grip and parcel.grip.deadline)

    @invariant()
    def the_counts_agree(self) -> None:
        broker, model = self.broker, self.model
        assert broker.pending == len(model.of(None, "pending"))
        assert broker.claimed == len(model.of(None, "claimed"))
        for run_id in [None, *RUNS, "no such run"]:
            waiting = model.of(run_id, "pending")
            oldest = waiting[0].created if waiting else None
            assert broker.claimable(run_id) == (len(waiting), oldest)

    @invariant()
    def the_next_deadline_is_the_first_of_all(self) -> None:
        assert self.broker.next_deadline() == min(self.model.deadlines(), default=None)

    @invariant()
    def nothing_leaks(self) -> None:
        broker, model = self.broker, self.model
        assert {run.id: len(run.reusable) for run in broker.runs.values()} == {
            run.id: len(run.reusable) for run in model.runs
        }
        queues = [broker._queue, *(run.queue for run in broker.runs.values())]
        groups = [group for queue in queues for group in queue._groups.values()]
        for heap in [broker._leases, broker._ttls, broker._graces, *groups]:
            assert isinstance(heap, PriorityMap)
            assert len(heap._heap) <= 2 * len(heap) + 65
        assert all(groups), "an empty group is kept"
        assert len(broker._leases) == len([p for p in model.parcels if p.grip and not p.grip.holds])
        assert len(broker._ttls) == len(model.parcels)
        assert len(broker._graces) == len([run for run in model.runs if run.grace is not None])
        assert sum(map(len, broker._queue._groups.values())) == broker.pending
        assert sum(len(run.batches) for run in broker.runs.values()) == len(model.parcels)
        assert len(broker._ended) <= core.ENDED_BATCHES
        assert not broker._effects

    def teardown(self) -> None:
        """When every test process has gone, so has everything but the memory of answers."""
        for run in list(self.model.runs):
            if run.connection is not None:
                self.broker.close_run(self.now, run.id, run.connection, clean=True)
        self.broker.expire(self.now + LIMITS.grace_s)
        assert not self.broker.runs
        assert not list(self.broker.batches())
        assert self.broker.next_deadline() is None
        assert (self.broker.pending, self.broker.claimed) == (0, 0)
        assert not self.broker._queue._groups


TestBroker = BrokerMachine.TestCase
