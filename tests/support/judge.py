"""A judge of broker histories: it reads what was asked, answered and announced, and nothing else.

It does not predict what the broker does, as the state machine's model does. It takes each event as
a witness's word and asks whether the words before allow it: was that token issued, for that batch,
to that responder, and not over yet? Was that batch submitted by the run that gets the result? Each
contradiction is a complaint. An honest history has none.
"""

from __future__ import annotations

from collections.abc import ItemsView
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
from mock_mcp.limits import Limits

__all__ = ["Event", "judge"]


class Event(NamedTuple):
    """One operation: when, what, with what, what came back, what the broker announced.

    ``refusal`` is the code of the error it ended with; ``changed`` tells whether anything inside
    the broker is different afterwards.
    """

    now: float
    op: str
    given: dict[str, Any]
    got: Any = None
    refusal: str | None = None
    effects: tuple[Effect, ...] = ()
    changed: bool = True


def judge(history: list[Event], limits: Limits) -> list[str]:
    """Return what is wrong with a whole history, at whose end every run has gone."""
    court = _Court(limits)
    for number, event in enumerate(history):
        court.hear(number, event)
    court.close()
    return court.complaints


@dataclass
class _Claim:
    adapter: str
    token: str
    lease: float
    ends: float
    checks: int = 0

    def is_over(self, now: float) -> bool:
        return not self.checks and self.ends <= now


@dataclass
class _Batch:
    run: str
    requests: list[str]
    cancelled: set[str]
    since: float
    body: int  # what its requests ask for
    claim: _Claim | None = None
    claims_ended: int = 0
    released_by: set[str] = field(default_factory=set)
    expired: set[str] = field(default_factory=set)  # tokens whose lease ran out
    answer: tuple[str, str, dict[str, Any]] | None = None  # adapter, token, data by request
    reused: dict[str, Any] = field(default_factory=dict)  # data by request

    @property
    def wanted(self) -> list[str]:
        return [rid for rid in self.requests if rid not in self.reused]

    @property
    def is_claimable(self) -> bool:
        return self.claim is None and self.answer is None


@dataclass
class _Run:
    connection: int | None = None
    capabilities: frozenset[str] = frozenset()
    session: int | None = None
    lost_at: float | None = None
    reusable: dict[tuple[str, int], Any] = field(default_factory=dict)  # data by request and body


class _Court:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.complaints: list[str] = []
        self.runs: dict[str, _Run] = {}
        self.batches: dict[str, _Batch] = {}  # in the order they were submitted
        self.closed: dict[str, tuple[str, str]] = {}  # adapter and token whose repeats are right
        self.tokens: set[str] = set()
        self.where = ""
        self.event: Event

    def complain(self, what: str) -> None:
        self.complaints.append(f"{self.where}: {what}")

    def demand(self, true: object, otherwise: str) -> None:
        if not true:
            self.complain(otherwise)

    # -- One event ------------------------------------------------------------------------------

    def hear(self, number: int, event: Event) -> None:
        self.event = event
        self.where = f"event {number} at {event.now:g}, {event.op} {event.given}"
        said = [
            (type(effect).__name__, effect.batch_id or effect.run_id) for effect in event.effects
        ]
        self.announced = {*said}
        self.demand(len(said) == len(self.announced), "something was announced twice")
        if event.refusal is not None:
            self.demand(not event.changed, "a refusal changed the state")
            self.demand(not event.effects, "a refusal had effects")
            getattr(self, f"refused_{event.op}", self.refused)(**event.given)
            return
        getattr(self, f"before_{event.op}", self.nothing)(**event.given)
        for effect in event.effects:
            getattr(self, f"on_{type(effect).__name__.lower()}")(effect)
        getattr(self, f"after_{event.op}", self.nothing)(**event.given)
        self.check_given_up()

    def nothing(self, **given: Any) -> None:
        pass

    def has(self, effect: str, subject: str) -> bool:
        return (effect, subject) in self.announced

    def end(self, batch_id: str, repeatable: tuple[str, str] | None = None) -> None:
        del self.batches[batch_id]
        self.closed.pop(batch_id, None)
        if repeatable:
            self.closed[batch_id] = repeatable

    def live(self, batch_id: str) -> _Batch | None:
        batch = self.batches.get(batch_id)
        self.demand(batch, f"{batch_id} is announced, but it is over or never was")
        return batch

    def check_given_up(self) -> None:
        for batch_id, batch in self.batches.items():
            if batch.claims_ended >= self.limits.claims_per_batch:
                self.complain(f"{batch_id} was claimed in vain too often and is still there")

    # -- Refusals: none of them may hit who is in the right ------------------------------------

    def refused(self, **given: Any) -> None:
        """A right that no history can take away: who holds a live claim is heard."""
        batch = self.batches.get(given["batch"])
        if self.event.op == "provide":
            answered = (
                batch.answer[:2] if batch and batch.answer else self.closed.get(given["batch"])
            )
            self.demand(answered != (given["adapter"], given["token"]), "a repeat was refused")
        if batch and batch.is_claimable and given["token"] in batch.expired:
            told = self.event.refusal in ("lease-ended", "invalid-params")
            self.demand(told, "whose lease ended was not told so")
        claim = batch.claim if batch else None
        if claim is None or (claim.adapter, claim.token) != (given["adapter"], given["token"]):
            return
        bad_lease = self.event.refusal == "invalid-params" and given.get("lease") is not None
        bad_mocks = self.event.refusal == "mocks-mismatch" and not self.fits(given.get("mocks"))
        self.demand(
            claim.is_over(self.event.now) or bad_lease or bad_mocks,
            f"the holder was refused: {self.event.refusal}",
        )

    def refused_claim(self, **given: Any) -> None:
        self.demand(not 0.001 <= given["lease"] <= self.limits.lease_max_s, "a fair claim refused")

    def refused_open(self, run: str, session: int | None, **_: Any) -> None:
        known = self.runs.get(run)
        newest = known.session if known else None
        self.demand(
            session is not None and newest is not None and session < newest,
            "the newest session was refused",
        )

    def refused_submit(self, run: str, ids: list[str], batch: str | None, body: int) -> None:
        full = len(self.batches) >= self.limits.parked_batches
        bad = not ids or len(set(ids)) < len(ids) or len(ids) > self.limits.batch_requests
        known = self.batches.get(batch or "")
        own = batch is None or (
            batch.startswith(f"batch:{run}:") and batch.count(":") == run.count(":") + 2
        )
        other = known and (
            body != known.body
            or not set(ids) <= {*known.requests, *known.cancelled}
            or not set(ids) & {*known.requests}
        )
        fine = run in self.runs and not bad and own and (not other if known else not full)
        self.demand(not fine, "a fair batch was refused")

    # -- Runs -----------------------------------------------------------------------------------

    def before_open(self, run: str, session: int | None, **_: Any) -> None:
        known = self.runs.get(run)
        if known and known.session is not None and session is not None and session < known.session:
            graced = known.lost_at is not None
            over = graced and known.lost_at + self.limits.grace_s <= self.event.now
            self.demand(over, "an older session took the place of a newer one")

    def on_replaced(self, effect: Replaced) -> None:
        run = self.runs.get(effect.run_id)
        self.demand(
            self.event.op == "open"
            and self.event.given["run"] == effect.run_id
            and run
            and run.connection == effect.connection_id,
            "a connection was replaced that nobody took over",
        )

    def after_open(
        self,
        run: str,
        connection: int,
        session: int | None,
        capabilities: tuple[str, ...],
        wanted: list[str] | None,
    ) -> None:
        self.check_time()
        before = self.runs.get(run)
        if before is not None and before.connection is not None:
            self.demand(self.has("Replaced", run), "the older connection was not told")
        keeps = "resume" in capabilities
        for batch_id, batch in self.batches.items():
            if batch.run == run and (not keeps or (wanted is not None and batch_id not in wanted)):
                self.complain(f"{batch_id} outlived a hello that does not want it")
        self.runs[run] = _Run(connection, frozenset(capabilities), session)
        self.runs[run].reusable = before.reusable if before else {}

    def before_close(self, run: str, connection: int, **_: Any) -> None:
        state = self.runs.get(run)
        if state is None or state.connection != connection:
            self.demand(not self.event.changed, "the close of an older connection changed a run")

    def after_close(self, run: str, connection: int, clean: bool) -> None:
        state = self.runs.get(run)
        if state and state.connection == connection:
            state.connection = None
            state.lost_at = self.event.now
            self.demand(not clean and "resume" in state.capabilities, "a run outlived its goodbye")

    def on_runended(self, effect: RunEnded) -> None:
        run = self.runs.get(effect.run_id)
        if run is None:
            self.complain("a run ended that was not there")
            return
        given = self.event.given
        if self.event.op == "close":
            closing = (given["run"], given["connection"]) == (effect.run_id, run.connection)
            may_end = closing and (given["clean"] or "resume" not in run.capabilities)
        else:
            may_end = run.lost_at is not None and (
                run.lost_at + self.limits.grace_s <= self.event.now
            )
        self.demand(may_end, f"run {effect.run_id} was ended though its test may come back")
        for batch_id, batch in self.batches.items():
            self.demand(batch.run != effect.run_id, f"{batch_id} outlived its run")
        del self.runs[effect.run_id]

    # -- Batches --------------------------------------------------------------------------------

    def on_submitted(self, effect: Submitted) -> None:
        given = self.event.given
        self.demand(
            self.event.op == "submit"
            and (given["run"], self.event.got) == (effect.run_id, effect.batch_id),
            "a batch appeared that its run did not submit",
        )
        self.demand(effect.batch_id not in self.batches, "a batch was parked twice")
        self.closed.pop(effect.batch_id, None)
        self.batches[effect.batch_id] = _Batch(
            effect.run_id, list(given["ids"]), set(), self.event.now, given["body"]
        )

    def on_reused(self, effect: Reused) -> None:
        batch = self.live(effect.batch_id)
        if batch is None:
            return
        given = {rid: data for (rid, body), data in self.given_for(batch) if body == batch.body}
        self.demand(
            self.event.op == "submit" and {*effect.request_ids} <= {*batch.requests} & {*given},
            "an answer was used again that was not given for this run",
        )
        batch.reused = {rid: given[rid] for rid in effect.request_ids if rid in given}

    def given_for(self, batch: _Batch) -> ItemsView[tuple[str, int], Any]:
        """Return the answers that were given for the whole run of a batch."""
        return self.runs[batch.run].reusable.items()

    def after_submit(self, run: str, ids: list[str], batch: str | None, body: int) -> None:
        self.demand(batch in (None, self.event.got), "the batch got another id")
        own = self.event.got.removeprefix(f"batch:{run}:")
        self.demand(own != self.event.got and ":" not in own, "a batch has another run's id")
        found = self.batches.get(self.event.got)
        if found is None:  # answered to a client that acknowledges nothing
            self.demand(self.has("Delivered", self.event.got), "a submitted batch vanished")
            return
        self.demand(found.run == run, "a run joined another's batch")
        self.demand(found.body == body, "a request joined that asks for something else")
        if self.has("Submitted", self.event.got):
            again = {rid for (rid, asked), _ in self.given_for(found) if asked == body}
            self.demand({*ids} & again == {*found.reused}, "an answer was not used again")
        self.demand({*found.requests} <= {*ids}, "a request was kept that is not named any more")
        if found.answer:
            self.demand(self.has("Delivered", self.event.got), "no second delivery was made")

    def on_cancelled(self, effect: Cancelled) -> None:
        batch = self.live(effect.batch_id)
        if batch is None:
            return
        given, ids = self.event.given, effect.request_ids
        self.demand({*ids} <= {*batch.requests}, "requests were cancelled that do not wait")
        mine = given.get("run") == batch.run == effect.run_id
        if self.event.op == "cancel":
            asked = given["ids"] is None or {*ids} <= {*given["ids"]}
            self.demand(mine and given["batch"] == effect.batch_id and asked, "not asked for")
        elif self.event.op == "submit":
            joined = self.event.got == effect.batch_id and not {*ids} & {*given["ids"]}
            self.demand(mine and joined, "a submission cancelled what it names")
        else:
            run = self.runs[batch.run]
            over = run.lost_at is not None and run.lost_at + self.limits.grace_s <= self.event.now
            unwanted = mine and self.event.op in ("open", "close")
            if self.event.op == "open" and mine and not over:
                kept = "resume" in given["capabilities"]
                named = given["wanted"] is None or effect.batch_id in given["wanted"]
                unwanted = not (kept and named)
            self.demand(over or unwanted, f"{effect.batch_id} was dropped though its test waits")
        batch.requests = [rid for rid in batch.requests if rid not in ids]
        batch.reused = {rid: data for rid, data in batch.reused.items() if rid not in ids}
        batch.cancelled |= {*ids}
        self.demand(effect.whole == (not batch.requests), "'whole' is wrong")
        if not batch.requests:
            claim = batch.claim if self.event.op == "cancel" else None
            known = (claim.adapter, claim.token) if claim else None
            self.end(effect.batch_id, batch.answer[:2] if batch.answer else known)

    def after_cancel(self, run: str, batch: str, ids: list[str] | None) -> None:
        found = self.batches.get(batch)
        if found and found.run == run:
            left = ids is None or {*ids} & {*found.requests}
            self.demand(not left, "a request goes on that its test cancelled")
            self.demand(found.wanted or found.answer, "a batch that has all its answers is kept")

    def on_acknowledged(self, effect: Acknowledged) -> None:
        batch = self.live(effect.batch_id)
        if batch is None:
            return
        given = self.event.given
        asked = self.event.op == "acknowledge" and given["batch"] == effect.batch_id
        self.demand(asked and given["run"] == batch.run, "acknowledged by a stranger")
        self.demand(batch.answer, "acknowledged before it was answered")
        self.end(effect.batch_id, batch.answer[:2] if batch.answer else None)

    def after_acknowledge(self, run: str, batch: str) -> None:
        found = self.batches.get(batch)
        self.demand(
            not (found and found.answer and found.run == run), "a result is kept after its receipt"
        )

    def on_failed(self, effect: Failed) -> None:
        batch = self.live(effect.batch_id)
        if batch is None:
            return
        code = effect.error.code
        if code == "given-up":
            right = batch.claims_ended == self.limits.claims_per_batch
        elif code == "batch-expired":
            right = not batch.answer and batch.since + self.limits.batch_ttl_s <= self.event.now
        else:
            right = self.event.op == "fail" and self.event.given["batch"] == effect.batch_id
        self.demand(right and effect.run_id == batch.run, f"failed as {code} for no reason")
        self.end(effect.batch_id)

    def on_delivered(self, effect: Delivered) -> None:
        batch = self.live(effect.batch_id)
        if batch is None:
            return
        given = self.event.given
        self.demand(effect.run_id == batch.run, "a result went to another run")
        complete = batch.answer is None and not batch.wanted
        if complete:  # of answers that were given before for the whole run
            claim, batch.claim = batch.claim, None
            who = (claim.adapter, claim.token) if claim else ("", "")
            batch.answer = (*who, batch.reused)
        self.demand(
            complete
            or (self.event.op == "provide" and given["batch"] == effect.batch_id)
            or (self.event.op == "submit" and self.event.got == effect.batch_id),
            "a result was sent that nobody asked for",
        )
        if batch.answer is None:
            self.complain("a result was sent that nobody provided")
            return
        adapter, _, data = batch.answer
        sent = {mock.request_id: mock.data for mock in effect.mocks}
        self.demand(effect.adapter_id == adapter, "the result is said to be another's")
        self.demand(len(sent) == len(effect.mocks), "a request was answered twice")
        self.demand([*sent] == batch.requests, "not exactly one mock per request")
        self.demand(
            all(data.get(rid, self) == value for rid, value in sent.items()),
            "the result is not what was provided",
        )
        run = self.runs[batch.run]
        if "ack" not in run.capabilities and run.connection is not None:
            self.end(effect.batch_id, batch.answer[:2])

    # -- Claims ---------------------------------------------------------------------------------

    def on_claimed(self, effect: Claimed) -> None:
        given = self.event.given
        self.demand(
            self.event.op == "claim"
            and (given["adapter"], self.event.got and self.event.got[0])
            == (effect.adapter_id, effect.batch_id),
            "a claim nobody made",
        )

    def after_claim(
        self, adapter: str, lease: float, token: str, run: str | None, batch: str | None
    ) -> None:
        self.check_time()
        self.demand(0.001 <= lease <= self.limits.lease_max_s, "an impossible lease")
        ready = [
            (batch_id, found)
            for batch_id, found in self.batches.items()
            if found.is_claimable and run in (None, found.run) and batch in (None, batch_id)
        ]
        fresh = [pair for pair in ready if adapter not in pair[1].released_by]
        offered = next(iter(fresh or ready), None)
        if self.event.got is None:
            self.demand(offered is None, f"nothing was offered, though {offered} is claimable")
            return
        claimed, requests = self.event.got
        found = self.batches.get(claimed)
        self.demand(offered and offered[0] == claimed, f"{claimed} is not first in line")
        if found is None or not found.is_claimable:
            self.complain("a batch was claimed that is not claimable")
            return
        self.demand(self.has("Claimed", claimed), "a claim was not announced")
        self.demand(requests == found.wanted, "other requests were shown")
        self.demand(token not in self.tokens, "the history issues a token twice")
        self.tokens.add(token)
        found.claim = _Claim(adapter, token, lease, self.event.now + lease)

    def holder(self, adapter: str, batch: str, token: str) -> tuple[_Batch, _Claim] | None:
        """Return the batch and its claim if the token is the live one; complain otherwise."""
        found = self.batches.get(batch)
        claim = found.claim if found else None
        if (
            found is None
            or claim is None
            or (claim.adapter, claim.token) != (adapter, token)
            or claim.is_over(self.event.now)
        ):
            self.complain("a token acted that is not the live one")
            return None
        return found, claim

    def before_renew(self, adapter: str, batch: str, token: str, lease: float | None) -> None:
        if held := self.holder(adapter, batch, token):
            held[1].lease = lease or held[1].lease
            held[1].ends = self.event.now + held[1].lease
            self.demand(0.001 <= held[1].lease <= self.limits.lease_max_s, "an impossible lease")
            self.demand(self.event.got == held[1].ends, "another deadline was promised")

    def before_hold(self, adapter: str, batch: str, token: str, mocks: list[Any]) -> None:
        if held := self.holder(adapter, batch, token):
            self.demand(self.fits(mocks), "mocks were taken that do not fit")
            held[1].checks += 1

    def before_unhold(self, batch: str, token: str) -> None:
        found = self.batches.get(batch)
        claim = found.claim if found else None
        if claim and claim.token == token and claim.checks:
            claim.checks -= 1
            if not claim.checks:
                claim.ends = self.event.now + claim.lease
        else:
            self.demand(not self.event.changed, "a hold that is not there was ended")

    def before_reject(self, adapter: str, batch: str, token: str) -> None:
        if held := self.holder(adapter, batch, token):
            held[1].checks = max(0, held[1].checks - 1)
            held[1].ends = self.event.now + held[1].lease
            self.demand(self.has("Rejected", batch), "a rejection was not announced")

    def on_rejected(self, effect: Rejected) -> None:
        self.demand(self.event.op == "reject", "a rejection nobody asked for")

    def before_release(self, adapter: str, batch: str, token: str) -> None:
        if self.holder(adapter, batch, token):
            self.demand(self.has("Released", batch), "a release was not announced")

    def on_released(self, effect: Released) -> None:
        batch = self.live(effect.batch_id)
        self.demand(
            self.event.op == "release" and self.event.given["batch"] == effect.batch_id,
            "a release nobody asked for",
        )
        if batch:
            batch.released_by.add(effect.adapter_id)
            self.end_claim(batch)

    def on_expired(self, effect: Expired) -> None:
        batch = self.live(effect.batch_id)
        claim = batch.claim if batch else None
        if batch is None or claim is None:
            self.complain("a lease ended that nobody had")
            return
        self.demand(claim.adapter == effect.adapter_id, "another's lease ended")
        self.demand(claim.is_over(self.event.now), "a lease ended before its time")
        batch.expired.add(claim.token)
        self.end_claim(batch)

    def end_claim(self, batch: _Batch) -> None:
        batch.claim = None
        batch.claims_ended += 1

    def before_fail(self, adapter: str, batch: str, token: str) -> None:
        self.holder(adapter, batch, token)

    def after_fail(self, batch: str, **_: Any) -> None:
        self.demand(batch not in self.batches, "a failed batch is still there")

    def before_provide(self, adapter: str, batch: str, token: str, mocks: list[Any]) -> None:
        found = self.batches.get(batch)
        answered = found.answer[:2] if found and found.answer else self.closed.get(batch)
        if answered == (adapter, token):
            self.demand(not self.event.changed, "a repeated answer changed something")
            return
        if held := self.holder(adapter, batch, token):
            self.demand(self.fits(mocks), "mocks were accepted that do not fit")
            self.demand(self.has("Delivered", batch), "an accepted answer was not sent")
            data = {mock.request_id: mock.data for mock in mocks}
            reusable = self.runs[held[0].run].reusable
            reusable.update(
                ((mock.request_id, held[0].body), mock.data)
                for mock in mocks
                if mock.reuse and mock.request_id in held[0].wanted
            )
            data |= held[0].reused
            held[0].claim = None
            held[0].answer = adapter, token, data
            held[0].since = self.event.now

    def fits(self, mocks: list[Any] | None) -> bool:
        batch = self.batches.get(self.event.given["batch"])
        ids = [mock.request_id for mock in mocks or ()]
        return (
            batch is not None
            and len(set(ids)) == len(ids)
            and {*batch.wanted} <= {*ids} <= {*batch.wanted, *batch.cancelled}
        )

    # -- Time and the end -----------------------------------------------------------------------

    def after_expire(self) -> None:
        self.check_time()

    def check_time(self) -> None:
        """Whoever looks at the clock finds nothing that should be over."""
        now, ttl = self.event.now, self.limits.batch_ttl_s
        for batch_id, batch in list(self.batches.items()):
            if batch.claim and batch.claim.is_over(now):
                self.complain(f"the lease on {batch_id} should be over")
            if batch.since + ttl <= now:
                if batch.answer:
                    self.end(batch_id, batch.answer[:2])  # in silence: its test never came back
                else:
                    self.complain(f"{batch_id} should have died of age")
        for run_id, run in self.runs.items():
            if run.lost_at is not None and run.lost_at + self.limits.grace_s <= now:
                self.complain(f"run {run_id} should have ended")

    def close(self) -> None:
        self.where = "at the end"
        self.demand(not self.runs, f"runs are left: {[*self.runs]}")
        self.demand(not self.batches, f"batches are left: {[*self.batches]}")
