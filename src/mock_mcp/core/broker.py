"""The state machine of runs, batches and claims: every state, every edge, every refusal.

A *run* is one test process. It submits *batches* of requests; a *responder* (an adapter, by
its ``adapter_id``) claims a batch under a *lease*, and the claim's token is the only thing that
can renew, release or answer it. Strategy:

- Pure: no clock, socket or random source. Methods take ``now`` (seconds on any monotonic clock)
  and, for a claim, the token; what the outside must do is returned by `take_effects`.
- Expiry is decided when it is asked. Every operation that could see a stale state looks at the
  deadlines first, so a late timer changes nothing.
- A method that raises has changed nothing and left no effect: all checks come before the first
  write.
- A batch keeps its place: the queue is ordered by a sequence number given at submission, and a
  batch that comes back is put at its number, not at the tail.

::

    submit → PENDING → claim → CLAIMED → provide → FULFILLED → acknowledge → (forgotten)
                ↑                  │
                └─ release, expiry ┘

    submit → FULFILLED, when each request has an answer that was given for the whole run; a batch
    of which only some have one waits for the others, and is FULFILLED if these are cancelled

    from any state: cancel, time to live, given up, end of the run → (forgotten)
    from CLAIMED:   fail → (forgotten)
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

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
from mock_mcp.core.queue import Queue
from mock_mcp.core.reuse import ReusableAnswers
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
)
from mock_mcp.limits import Limits
from mock_mcp.types import HistoryEntry, Mock, MockRequest, TestMeta
from mock_mcp.words import and_more, cut, some

__all__ = ["BatchState", "Broker", "RunState", "Status"]

ACK = "ack"
"""Capability: the test acknowledges results, and they are kept until it does."""
RESUME = "resume"
"""Capability: the run outlives an abnormal close of its connection by the grace period."""

HISTORY_ENTRIES = 20
"""Entries kept of a batch's history: twice the claims it may have."""
REASON_CHARS = 500
"""Length to which a reason is cut before it is kept."""
CALL_CHARS = 80
"""Length to which a call is cut in a message: a close reason holds 123 bytes."""
ENDED_BATCHES = 1024
"""Ended batches remembered, so that a repeated provide gets the same answer."""
ENDED_BYTES = 4 * 1024 * 1024
"""Bytes of their requests kept, so that an answered batch can still be read for a while."""

_ANSWERED = "it was answered"


class Status(enum.Enum):
    """Where a batch is. The values are the wire's words."""

    PENDING = "pending"
    CLAIMED = "claimed"
    FULFILLED = "fulfilled"


# -- State -------------------------------------------------------------------------------------


class _Claim:
    """One lease on one batch."""

    __slots__ = ("adapter_id", "checks", "deadline", "lease_s", "token")

    def __init__(self, adapter_id: str, token: str, lease_s: float, deadline: float) -> None:
        self.adapter_id = adapter_id
        self.token = token
        self.lease_s = lease_s
        self.deadline = deadline
        self.checks = 0  # checks of its data under way: the lease cannot end while there are any

    def has_ended(self, now: float) -> bool:
        return now >= self.deadline and not self.checks


_NONE_REUSED: Mapping[str, Mock] = {}
"""Shared by all the batches that wait for every answer: there may be very many."""


class BatchState:
    """What the broker knows of one batch. Read it; only the broker writes it."""

    __slots__ = (
        "adapter_id",
        "attempts",
        "cancelled",
        "claim",
        "claims_ended",
        "created_at",
        "expired_tokens",
        "fulfilling_token",
        "history",
        "id",
        "mocks",
        "released_by",
        "requests",
        "reused",
        "run_id",
        "seq",
        "status",
    )

    def __init__(
        self, batch_id: str, run_id: str, seq: int, requests: Iterable[MockRequest], now: float
    ) -> None:
        self.id = batch_id
        self.run_id = run_id
        self.seq = seq
        self.requests = {request.request_id: request for request in requests}
        self.reused: Mapping[str, Mock] = _NONE_REUSED
        self.created_at = now
        self.status = Status.PENDING
        self.claim: _Claim | None = None
        self.attempts = 0
        self.claims_ended = 0
        self.history: tuple[HistoryEntry, ...] = ()
        self.released_by: frozenset[str] = frozenset()
        self.expired_tokens: tuple[str, ...] = ()
        self.cancelled: frozenset[str] = frozenset()
        self.mocks: tuple[Mock, ...] = ()
        self.fulfilling_token: str | None = None
        self.adapter_id: str | None = None

    def is_same(self, requests: Iterable[MockRequest]) -> bool:
        """Tell whether those of these requests that are still waited for are what they were."""
        return all(
            bytes(request.json) == bytes(self.requests[request.request_id].json)
            for request in requests
            if request.request_id in self.requests
        )

    @property
    def name(self) -> str:
        """What its test asked for, as messages to the test say it."""
        first, *others = self.wanted
        return and_more(cut(f"{first.method} {first.endpoint}", CALL_CHARS), len(others))

    @property
    def wanted(self) -> tuple[MockRequest, ...]:
        """The requests a responder must answer: those without an answer given before."""
        if not self.reused:
            return tuple(self.requests.values())
        return tuple(r for rid, r in self.requests.items() if rid not in self.reused)

    @property
    def rejections(self) -> int:
        """How many answers the contract gate refused."""
        return sum(entry.outcome == "rejected" for entry in self.history)

    @property
    def lease_deadline(self) -> float | None:
        """When the live claim ends, on the clock of ``now``; None when nobody holds the batch."""
        return self.claim.deadline if self.claim else None


class _Ended(msgspec.Struct, frozen=True):
    """What is remembered of a batch that is gone."""

    run_id: str
    why: str
    token: str | None = None
    adapter_id: str | None = None
    fulfilled: bool = False
    delivered: bool = False
    requests: tuple[MockRequest, ...] = ()
    size: int = 0  # bytes of the requests
    created_at: float = 0.0


class RunState:
    """What the broker knows of one run. Read it; only the broker writes it."""

    __slots__ = (
        "batches",
        "capabilities",
        "connection_id",
        "cwd",
        "ends_at",
        "id",
        "last_seen",
        "next_number",
        "pid",
        "queue",
        "reusable",
        "session",
        "started_at",
        "test_meta",
    )

    def __init__(self, run_id: str, now: float, limits: Limits) -> None:
        self.id = run_id
        self.reusable = ReusableAnswers(limits.reused_answers, limits.reused_bytes)
        self.started_at = now
        self.last_seen = now
        self.pid: float = 0
        self.cwd = ""
        self.test_meta: TestMeta | None = None
        self.session: int | None = None
        self.capabilities: frozenset[str] = frozenset()
        self.connection_id: int | None = None
        self.ends_at: float | None = None
        self.batches: dict[str, BatchState] = {}
        self.queue = Queue()
        self.next_number = 1


class Broker:
    """Runs, batches and claims of one project.

    Args:
        limits: ``parked_batches``, ``batch_requests``, ``claims_per_batch``, ``lease_max_s``,
            ``batch_ttl_s``, ``grace_s``, ``reused_answers``, ``reused_bytes`` and ``frame_bytes``
            apply here.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.runs: dict[str, RunState] = {}
        self.total_batches = 0
        self._batches: dict[str, BatchState] = {}
        self._ended: OrderedDict[str, _Ended] = OrderedDict()
        self._ended_bytes = 0
        self._queue = Queue()
        self._claimed = 0
        self._next_seq = 1
        self._leases = PriorityMap()
        self._ttls = PriorityMap()
        self._graces = PriorityMap()
        self._effects: list[Effect] = []

    # -- Reading ---------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Batches that are claimable now."""
        return self._queue.size

    @property
    def claimed(self) -> int:
        """Batches under a claim."""
        return self._claimed

    def take_effects(self) -> list[Effect]:
        """Return what happened since the last call, in order, and forget it."""
        effects, self._effects = self._effects, []
        return effects

    def next_deadline(self) -> float | None:
        """Return the earliest time at which `expire` will have something to do."""
        earliest: float | None = None
        for deadlines in (self._leases, self._ttls, self._graces):
            head = deadlines.first()
            if head is not None and (earliest is None or head[0] < earliest):
                earliest = head[0]
        return earliest

    def claimable(self, run_id: str | None = None) -> tuple[int, float | None]:
        """Return how many batches are claimable and when the oldest was created."""
        queue = self._queue_of(run_id)
        first = queue.first() if queue else None
        if queue is None or first is None:
            return 0, None
        return queue.size, self._batches[first].created_at

    def run(self, run_id: str) -> RunState:
        """Return the run.

        Raises:
            UnknownRun: It is not connected.
        """
        run = self.runs.get(run_id)
        if run is None:
            raise UnknownRun(f"Run not found: {run_id!r} is not connected.")
        return run

    def batch(self, batch_id: str) -> BatchState:
        """Return the batch.

        Raises:
            UnknownBatch: It never was, or it has ended; the message says how.
        """
        batch = self._batches.get(batch_id)
        if batch is None:
            raise self._unknown(batch_id)
        return batch

    def is_claimed_with(self, batch_id: str, token: str) -> bool:
        """Tell whether the batch is under a claim with this token, its lease over or not."""
        batch = self._batches.get(batch_id)
        return batch is not None and batch.claim is not None and batch.claim.token == token

    def is_live(self, batch_id: str) -> bool:
        """Tell whether the batch is parked, claimed, or waits for its acknowledgement."""
        return batch_id in self._batches

    def was_delivered(self, batch_id: str) -> bool:
        """Tell whether the batch ended with its test having the result."""
        ended = self._ended.get(batch_id)
        return ended is not None and ended.delivered

    def fulfilled(self, batch_id: str) -> tuple[str, tuple[MockRequest, ...], float] | None:
        """Return (run id, requests, creation time) of a batch answered a short while ago."""
        ended = self._ended.get(batch_id)
        if ended is None or not ended.delivered:
            return None
        return ended.run_id, ended.requests, ended.created_at

    def batches(
        self, run_id: str | None = None, status: Status | None = None
    ) -> Iterator[BatchState]:
        """Yield batches in order of submission.

        Raises:
            UnknownRun: ``run_id`` is given and not connected.
        """
        source = self._batches if run_id is None else self.run(run_id).batches
        return (batch for batch in source.values() if status is None or batch.status is status)

    # -- Runs ------------------------------------------------------------------------------

    def open_run(
        self,
        now: float,
        run_id: str,
        connection_id: int,
        *,
        pid: float = 0,
        cwd: str = "",
        test_meta: TestMeta | None = None,
        capabilities: Iterable[str] = (),
        session: int | None = None,
        open_batches: Sequence[str] | None = None,
    ) -> RunState:
        """Attach a connection to its run, which begins here or resumes.

        An older connection of the run is replaced. With the ``resume`` capability the run keeps the
        batches named in ``open_batches`` (all of them when it is None); without it, none.

        Raises:
            RunReplaced: ``session`` is older than one already seen; this connection must close.
        """
        run = self.runs.get(run_id)
        seen = run.session if run else None
        if run and run.ends_at is not None and run.ends_at <= now:
            seen = None  # its grace period is over, though no timer has said so yet
        if session is not None and seen is not None and session < seen:
            raise RunReplaced(
                f"A newer session of run {run_id!r} is connected; this one must not reconnect."
            )
        self.expire(now)
        run = self.runs.get(run_id)
        if run is None:
            run = self.runs[run_id] = RunState(run_id, now, self.limits)
        elif run.connection_id is not None:
            self._effects.append(Replaced(run_id, "", run.connection_id))
        run.capabilities = frozenset(capabilities)
        run.connection_id = connection_id
        run.session = session
        run.pid, run.cwd, run.test_meta = pid, cwd, test_meta
        run.last_seen = now
        run.ends_at = None
        self._graces.discard(run_id)
        if RESUME not in run.capabilities:
            self._drop_batches(run, "its test reconnected without resuming")
        elif open_batches is not None:
            wanted = set(open_batches)
            self._drop_batches(run, "its test no longer waits for it", keep=wanted)
        return run

    def seen(self, now: float, run_id: str) -> None:
        """Note a sign of life (any message or ping) of the run."""
        run = self.runs.get(run_id)
        if run is not None:
            run.last_seen = now

    def close_run(self, now: float, run_id: str, connection_id: int, *, clean: bool) -> None:
        """Detach a connection that closed; an older one than the live one changes nothing.

        The run ends at once if the close was clean or the client cannot resume; otherwise it waits
        for a reconnect until the grace period is over.
        """
        run = self.runs.get(run_id)
        if run is None or run.connection_id != connection_id:
            return
        run.connection_id = None
        if clean or RESUME not in run.capabilities:
            self._end_run(run)
        else:
            run.ends_at = now + self.limits.grace_s
            self._graces.set(run_id, run.ends_at)

    # -- What a run does -------------------------------------------------------------------

    def submit(
        self,
        now: float,
        run_id: str,
        requests: Sequence[MockRequest],
        batch_id: str | None = None,
    ) -> BatchState:
        """Park a batch, or join the one with this id.

        Joining: a parked or claimed batch goes on (requests that are no longer named are
        cancelled), a result that was not acknowledged is delivered again. A new batch whose every
        request was answered before for the whole run is answered at once.

        Raises:
            UnknownRun: The run is not connected.
            InvalidParams: No requests, duplicate request ids, or an id that is not this run's.
            LimitExceeded: Too many requests, or too many batches are parked.
        """
        run = self.run(run_id)
        ids = {request.request_id for request in requests}
        if not requests:
            raise InvalidParams("A batch needs at least one request; requests is empty.")
        if len(ids) != len(requests):
            raise InvalidParams("Each requestId of a batch must be unique; at least two are equal.")
        if len(requests) > self.limits.batch_requests:
            raise LimitExceeded(
                f"A batch may hold {self.limits.batch_requests} requests (limit batch_requests), "
                f"this one has {len(requests)}; split it."
            )
        prefix = f"batch:{run_id}:"
        known = None
        if batch_id is not None:
            own = batch_id.removeprefix(prefix)
            if own in ("", batch_id) or ":" in own:  # run "a" must not name a batch of run "a:1"
                raise InvalidParams(
                    f"batchId must be {prefix!r} and a part of your own without a colon; "
                    f"got {batch_id[:80]!r}."
                )
            known = self._batches.get(batch_id)
        if known is not None:
            if (
                known.run_id != run_id
                or not ids <= known.requests.keys() | known.cancelled
                or ids.isdisjoint(known.requests)
                or not known.is_same(requests)
            ):
                raise InvalidParams(
                    f"batchId {batch_id!r} is taken by a batch with other requests."
                )
            self._join(known, ids)
            return known
        if len(self._batches) >= self.limits.parked_batches:
            raise LimitExceeded(
                f"{self.limits.parked_batches} batches are parked (limit parked_batches); "
                "answer or cancel some first."
            )
        if batch_id is None:
            batch_id = self._next_batch_id(run)
        batch = BatchState(batch_id, run_id, self._next_seq, requests, now)
        self._next_seq += 1
        self.total_batches += 1
        if (ended := self._ended.pop(batch_id, None)) is not None:
            self._ended_bytes -= ended.size
        self._batches[batch_id] = run.batches[batch_id] = batch
        self._ttls.set(batch_id, now + self.limits.batch_ttl_s)
        self._effects.append(Submitted(run_id, batch_id, tuple(requests)))
        if run.reusable:
            # All answers of a batch are one message: half of it is left for what is missing.
            batch.reused = run.reusable.find(requests, self.limits.frame_bytes // 2)
            if batch.reused:
                self._effects.append(Reused(run_id, batch_id, tuple(batch.reused)))
        if len(batch.reused) < len(batch.requests):
            self._enqueue(batch)
        else:
            self._fulfil(batch, batch.reused)
        return batch

    def acknowledge(self, run_id: str, batch_id: str) -> None:
        """Forget a delivered result; an unknown or unanswered batch changes nothing."""
        batch = self._batches.get(batch_id)
        if batch is None or batch.run_id != run_id or batch.status is not Status.FULFILLED:
            return
        self._effects.append(Acknowledged(run_id, batch_id))
        self._forget(batch, _ANSWERED)

    def cancel(self, run_id: str, batch_id: str, request_ids: Iterable[str] | None = None) -> None:
        """Stop waiting for some requests of a batch, or for all; unknown ids change nothing."""
        batch = self._batches.get(batch_id)
        if batch is None or batch.run_id != run_id:
            return
        wanted = batch.requests.keys() if request_ids is None else request_ids
        gone = tuple(rid for rid in dict.fromkeys(wanted) if rid in batch.requests)
        if not gone:
            return
        whole = len(gone) == len(batch.requests)
        self._effects.append(Cancelled(run_id, batch_id, gone, whole))
        if whole:
            self._forget(batch, "its test stopped waiting", remember_claim=True)
            return
        batch.cancelled |= set(gone)
        for request_id in gone:
            del batch.requests[request_id]
        if batch.reused:
            batch.reused = {r: mock for r, mock in batch.reused.items() if r in batch.requests}
        batch.mocks = tuple(mock for mock in batch.mocks if mock.request_id in batch.requests)
        if batch.status is not Status.FULFILLED and len(batch.reused) == len(batch.requests):
            if batch.claim is None:
                self._dequeue(batch)
                self._fulfil(batch, batch.reused)
            else:
                token, adapter_id = batch.claim.token, batch.claim.adapter_id
                self._drop_claim(batch)
                self._fulfil(batch, batch.reused, token, adapter_id)

    # -- What a responder does -------------------------------------------------------------

    def claim(
        self,
        now: float,
        adapter_id: str,
        lease_s: float,
        token: str,
        *,
        run_id: str | None = None,
        batch_id: str | None = None,
    ) -> BatchState | None:
        """Lease the oldest claimable batch to a responder; None when nothing is claimable.

        Args:
            now: Seconds on the monotonic clock.
            adapter_id: Who claims.
            lease_s: Seconds until the claim ends by itself, from 0.001 to ``lease_max_s``.
            token: A fresh secret that will be the claim's token.
            run_id: Only batches of this run.
            batch_id: Only this batch.

        Raises:
            InvalidParams: The lease is out of range.
        """
        self._check_lease(lease_s)
        self.expire(now)
        if batch_id is not None:
            batch = self._batches.get(batch_id)
            if batch is None or batch.status is not Status.PENDING:
                return None
            if run_id is not None and batch.run_id != run_id:
                return None
        else:
            queue = self._queue_of(run_id)
            first = queue.first(adapter_id) if queue else None
            if first is None:
                return None
            batch = self._batches[first]
        self._dequeue(batch)
        batch.status = Status.CLAIMED
        batch.claim = _Claim(adapter_id, token, lease_s, now + lease_s)
        self._claimed += 1
        self._leases.set(batch.id, batch.claim.deadline)
        self._effects.append(Claimed(batch.run_id, batch.id, adapter_id))
        return batch

    def renew(
        self, now: float, adapter_id: str, batch_id: str, token: str, lease_s: float | None = None
    ) -> float:
        """Restart the lease, with another length if given; return its new deadline.

        Raises:
            InvalidParams, UnknownBatch, ClaimMismatch, NotClaimed, LeaseEnded: As `provide`.
        """
        if lease_s is not None:
            self._check_lease(lease_s)
        batch, claim = self._held(now, adapter_id, batch_id, token)
        if lease_s is not None:
            claim.lease_s = lease_s
        return self._restart_lease(now, batch, claim)

    def release(
        self, now: float, adapter_id: str, batch_id: str, token: str, reason: str | None = None
    ) -> None:
        """Give a batch back to its place, with the reason for the next responder.

        Raises:
            UnknownBatch, ClaimMismatch, NotClaimed, LeaseEnded: As `provide`.
        """
        batch, _ = self._held(now, adapter_id, batch_id, token)
        reason = None if reason is None else cut(reason, REASON_CHARS)
        batch.released_by |= {adapter_id}
        self._effects.append(Released(batch.run_id, batch_id, adapter_id, reason))
        self._end_claim(batch, HistoryEntry("released", adapter_id, reason))

    def hold(
        self, now: float, adapter_id: str, batch_id: str, token: str, mocks: Sequence[Mock]
    ) -> None:
        """Check a claim and its mocks as `provide` would, and keep the lease from ending.

        Follow it with `provide`, `reject`, `fail` or `unhold`, each of which ends the hold.
        """
        batch, claim = self._held(now, adapter_id, batch_id, token)
        self._match(batch, mocks)
        claim.checks += 1
        self._leases.discard(batch_id)

    def unhold(self, now: float, batch_id: str, token: str) -> None:
        """Let the lease run again after `hold`; the claim may be gone by now."""
        batch = self._batches.get(batch_id)
        claim = batch.claim if batch else None
        if batch is None or claim is None or claim.token != token or not claim.checks:
            return
        claim.checks -= 1
        if not claim.checks:
            self._restart_lease(now, batch, claim)

    def reject(self, now: float, adapter_id: str, batch_id: str, token: str, reason: str) -> float:
        """Count a rejection by the contract gate and renew the lease; return its deadline.

        Raises:
            UnknownBatch, ClaimMismatch, NotClaimed, LeaseEnded: As `provide`.
        """
        batch, claim = self._held(now, adapter_id, batch_id, token)
        if claim.checks:
            claim.checks -= 1
        shown = cut(reason, REASON_CHARS)
        self._remember(batch, HistoryEntry("rejected", adapter_id, shown))
        self._effects.append(Rejected(batch.run_id, batch_id, adapter_id, shown))
        return self._restart_lease(now, batch, claim)

    def fail(
        self, now: float, adapter_id: str, batch_id: str, token: str, error: MockMcpError
    ) -> None:
        """End a claimed batch without an answer: nothing its holder can send would be delivered.

        Raises:
            UnknownBatch, ClaimMismatch, NotClaimed, LeaseEnded: As `provide`.
        """
        batch, _ = self._held(now, adapter_id, batch_id, token)
        self._fail(batch, error)

    def provide(
        self, now: float, adapter_id: str, batch_id: str, token: str, mocks: Sequence[Mock]
    ) -> str | None:
        """Answer a claimed batch.

        Returns:
            None when the result was accepted, now or before with the same token; a sentence when
            the test cancelled the whole batch meanwhile and the mocks are ignored.

        Raises:
            UnknownBatch: The batch is gone.
            ClaimMismatch: Another responder holds it, or the token is not the current one.
            NotClaimed: Nobody holds it.
            LeaseEnded: This claim's lease ran out.
            MocksMismatch: Not exactly one mock per request.
        """
        ended = self._ended.get(batch_id)
        if ended is not None and ended.token == token and ended.adapter_id == adapter_id:
            return None if ended.fulfilled else f"Ignored: {ended.why}."
        batch = self.batch(batch_id)
        if (
            batch.status is Status.FULFILLED
            and batch.fulfilling_token == token
            and batch.adapter_id == adapter_id
        ):
            return None
        batch, _ = self._held(now, adapter_id, batch_id, token)
        by_id = self._match(batch, mocks)
        self._drop_claim(batch)
        for request in batch.wanted:
            mock = by_id[request.request_id]
            if mock.reuse is not None:
                mock = by_id[request.request_id] = msgspec.structs.replace(mock, reuse=None)
                self.runs[batch.run_id].reusable.add(request, mock)
        self._ttls.set(batch_id, now + self.limits.batch_ttl_s)  # now the result's, not the wait's
        self._fulfil(batch, {**by_id, **batch.reused}, token, adapter_id)
        return None

    # -- Time ------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """End every lease, grace period and time to live that is over."""
        while (head := self._leases.first()) and head[0] <= now:
            batch = self._batches[head[1]]
            claim = batch.claim
            assert claim is not None
            batch.expired_tokens += (claim.token,)
            self._effects.append(Expired(batch.run_id, batch.id, claim.adapter_id))
            self._end_claim(batch, HistoryEntry("expired", claim.adapter_id))
        while (head := self._graces.first()) and head[0] <= now:
            self._end_run(self.runs[head[1]])
        while (head := self._ttls.first()) and head[0] <= now:
            batch = self._batches[head[1]]
            if batch.status is Status.FULFILLED:
                self._forget(batch, "its test never acknowledged the result")
                continue
            minutes = self.limits.batch_ttl_s / 60
            self._fail(
                batch,
                BatchExpired(
                    f"Nobody answered {batch.name} within {minutes:g} minutes (limit batch_ttl_s). "
                    "Is an assistant connected? `mock-mcp status` says."
                ),
            )

    # -- Inside ----------------------------------------------------------------------------

    def _next_batch_id(self, run: RunState) -> str:
        while True:
            batch_id = f"batch:{run.id}:{run.next_number}"
            run.next_number += 1
            if batch_id not in self._batches:
                return batch_id

    def _queue_of(self, run_id: str | None) -> Queue | None:
        if run_id is None:
            return self._queue
        run = self.runs.get(run_id)
        return run.queue if run else None

    def _unknown(self, batch_id: str) -> UnknownBatch:
        ended = self._ended.get(batch_id)
        why = f": {ended.why}" if ended else ""
        return UnknownBatch(f"Batch not found: {batch_id!r}{why}. Claim the next one.")

    def _check_lease(self, lease_s: float) -> None:
        if not 0.001 <= lease_s <= self.limits.lease_max_s:  # false for NaN too
            raise InvalidParams(
                f"leaseMs must be a number from 1 to {self.limits.lease_max_s * 1000:.0f}."
            )

    def _held(
        self, now: float, adapter_id: str, batch_id: str, token: str
    ) -> tuple[BatchState, _Claim]:
        """Return the batch and its claim if this token is the live one; raise otherwise."""
        batch = self.batch(batch_id)
        claim = batch.claim
        if claim is not None and not claim.has_ended(now):
            if claim.token == token and claim.adapter_id == adapter_id:
                return batch, claim
            raise ClaimMismatch(
                f"Batch {batch_id} is claimed under another token; a claim token is valid only for "
                "the responder that got it, and only until its lease ends."
            )
        if batch.status is Status.FULFILLED:
            raise NotClaimed(f"Batch {batch_id} is already answered; claim the next one.")
        if token in batch.expired_tokens or (claim is not None and claim.token == token):
            raise LeaseEnded(f"Your lease on {batch_id} ended; claim the batch again.")
        raise NotClaimed(f"Batch {batch_id} is not claimed; claim a batch before you act on it.")

    def _match(self, batch: BatchState, mocks: Sequence[Mock]) -> dict[str, Mock]:
        by_id = {mock.request_id: mock for mock in mocks}
        problems = []
        if len(by_id) != len(mocks):
            problems.append("a requestId appears twice")
        wanted = [request.request_id for request in batch.wanted]
        if missing := [rid for rid in wanted if rid not in by_id]:
            problems.append(f"no mock for {_ids(missing)}")
        known = batch.cancelled.union(wanted)
        if unknown := [rid for rid in by_id if rid not in known]:
            problems.append(f"no such request: {_ids(unknown)}")
        if problems:
            raise MocksMismatch(
                f"Batch {batch.id} needs exactly one mock per request ({len(wanted)}): "
                + "; ".join(problems)
                + ". Send the whole set again."
            )
        return by_id

    def _restart_lease(self, now: float, batch: BatchState, claim: _Claim) -> float:
        claim.deadline = now + claim.lease_s
        if not claim.checks:
            self._leases.set(batch.id, claim.deadline)
        return claim.deadline

    def _enqueue(self, batch: BatchState) -> None:
        batch.status = Status.PENDING
        self._queue.add(batch.id, batch.seq, batch.released_by)
        self.runs[batch.run_id].queue.add(batch.id, batch.seq, batch.released_by)

    def _dequeue(self, batch: BatchState) -> None:
        self._queue.remove(batch.id, batch.released_by)
        self.runs[batch.run_id].queue.remove(batch.id, batch.released_by)

    def _remember(self, batch: BatchState, entry: HistoryEntry) -> None:
        batch.attempts += 1
        batch.history = (*batch.history, entry)[-HISTORY_ENTRIES:]

    def _drop_claim(self, batch: BatchState) -> None:
        batch.claim = None
        self._claimed -= 1
        self._leases.discard(batch.id)

    def _end_claim(self, batch: BatchState, entry: HistoryEntry) -> None:
        """Put a batch back to its place, or give it up when it was tried often enough."""
        self._drop_claim(batch)
        self._remember(batch, entry)
        batch.claims_ended += 1
        if batch.claims_ended < self.limits.claims_per_batch:
            self._enqueue(batch)
        else:
            reasons = "; ".join(
                dict.fromkeys(
                    f"{past.outcome}: {past.reason}" if past.reason else past.outcome
                    for past in batch.history
                )
            )
            message = (
                f"{batch.name} was given up after {batch.claims_ended} claims that ended "
                f"without an answer ({reasons})."
            )
            self._fail(batch, BatchGivenUp(message))

    def _fail(self, batch: BatchState, error: MockMcpError) -> None:
        self._effects.append(Failed(batch.run_id, batch.id, error))
        self._forget(batch, f"it ended as {error.code}")

    def _join(self, batch: BatchState, ids: set[str]) -> None:
        had_answer = batch.status is Status.FULFILLED
        self.cancel(batch.run_id, batch.id, [rid for rid in batch.requests if rid not in ids])
        if had_answer:
            self._deliver(batch)

    def _fulfil(
        self,
        batch: BatchState,
        answers: Mapping[str, Mock],
        token: str | None = None,
        adapter_id: str | None = None,
    ) -> None:
        """Answer a batch that is neither parked nor claimed now; ``token`` may repeat it."""
        batch.status = Status.FULFILLED
        batch.fulfilling_token, batch.adapter_id = token, adapter_id
        batch.mocks = tuple(answers[request_id] for request_id in batch.requests)
        self._deliver(batch)

    def _deliver(self, batch: BatchState) -> None:
        """Send the result; without ``ack`` it is done once there is somebody to send it to."""
        adapter_id = batch.adapter_id or ""
        self._effects.append(
            Delivered(batch.run_id, batch.id, adapter_id, batch.mocks, batch.rejections)
        )
        run = self.runs[batch.run_id]
        if ACK not in run.capabilities and run.connection_id is not None:
            self._forget(batch, _ANSWERED)

    def _forget(self, batch: BatchState, why: str, *, remember_claim: bool = False) -> None:
        """Remove a batch from everywhere but the memory of ended ones.

        With ``remember_claim`` its holder's answer will be accepted and ignored.
        """
        if batch.status is Status.PENDING:
            self._dequeue(batch)
        token, adapter_id = batch.fulfilling_token, batch.adapter_id
        if batch.claim is not None:
            if remember_claim:
                token, adapter_id = batch.claim.token, batch.claim.adapter_id
            self._drop_claim(batch)
        self._ttls.discard(batch.id)
        del self._batches[batch.id]
        del self.runs[batch.run_id].batches[batch.id]
        fulfilled = batch.status is Status.FULFILLED
        delivered = why is _ANSWERED
        requests = tuple(batch.requests.values()) if delivered else ()
        size = sum([memoryview(request.json).nbytes for request in requests])
        self._ended[batch.id] = _Ended(
            batch.run_id,
            why,
            token,
            adapter_id,
            fulfilled,
            delivered,
            requests,
            size,
            batch.created_at,
        )
        self._ended_bytes += size
        while len(self._ended) > ENDED_BATCHES or self._ended_bytes > ENDED_BYTES:
            self._ended_bytes -= self._ended.popitem(last=False)[1].size

    def _drop_batches(self, run: RunState, why: str, keep: set[str] | None = None) -> None:
        for batch in [b for b in run.batches.values() if keep is None or b.id not in keep]:
            self._effects.append(Cancelled(run.id, batch.id, tuple(batch.requests), whole=True))
            self._forget(batch, why)

    def _end_run(self, run: RunState) -> None:
        self._drop_batches(run, "its test process ended")
        self._graces.discard(run.id)
        del self.runs[run.id]
        self._effects.append(RunEnded(run.id, ""))


def _ids(ids: Sequence[str]) -> str:
    return some([repr(request_id) for request_id in ids])
