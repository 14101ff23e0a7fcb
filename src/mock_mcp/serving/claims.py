"""The claims a responder holds, and how their answers reach the test.

Strategy: the assistant knows a batch by the token it got with its claim; `Claims` remembers under
which token it holds the batch now. That is what keeps finished work from being thrown away: when
the lease ended or the daemon restarted while the assistant was writing, it claims the same batch
again and answers it under the new token.

A claim made without ``leaseMs`` gets the daemon's short lease, which is renewed while the
assistant writes, for `Times.keep_s` at most. So a batch comes back 30 s after its responder was
killed, and two minutes after an assistant walked away; and one that writes for a minute
does not see another responder take its batch. A lease the assistant asked for is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from mock_mcp.errors import (
    ClaimMismatch,
    ContractViolation,
    DaemonUnreachable,
    InternalError,
    LeaseEnded,
    LimitExceeded,
    MockMcpError,
    MocksMismatch,
    NotClaimed,
    Unauthorized,
    UnknownBatch,
    VersionMismatch,
)
from mock_mcp.limits import Limits
from mock_mcp.runtime.shield import shielded
from mock_mcp.serving.router import Daemon, Router
from mock_mcp.types import Claim, DaemonInfo, Mock, Provided, TestMeta
from mock_mcp.wire.json import check_depth, encode
from mock_mcp.words import some

__all__ = ["CANCELLED", "Claims", "HeldClaim", "Next"]

T = TypeVar("T")

CANCELLED = "the call that claimed it was cancelled"
"""Why a claim is given back that no assistant learned of."""
CLAIMS_REMEMBERED = 1000
"""Claims kept, ended ones included, so that late and repeated answers find theirs."""
ANSWERED_KEPT = 20
"""Answered claims whose requests are kept, so that their schemas can still be asked for."""

_IDS_SHOWN = 50
_LOST = (LeaseEnded, NotClaimed, UnknownBatch, Unauthorized, DaemonUnreachable)
"""Errors after which a batch may be claimable again."""
_BROKEN = (DaemonUnreachable, Unauthorized, VersionMismatch, InternalError, OSError)
"""Errors of one daemon that must not keep an assistant from the others."""


class Next(NamedTuple):
    """A claim, the daemon it is from, and the test that waits for it, if the run says."""

    daemon: Daemon
    claim: Claim
    test: TestMeta | None


class HeldClaim:
    """A batch this responder claimed, once or several times.

    ``tokens`` are the ones the assistant may use, ``live_token`` the one the daemon knows;
    ``dropped`` are the requests the test gave up between two claims, ``kept`` the mocks that need
    not be given again: a part of the answer, or what the contract gate accepted.
    """

    def __init__(self, batch_id: str, info: DaemonInfo) -> None:
        self.batch_id = batch_id
        self.info = info
        self.live_token = ""
        self.tokens: set[str] = set()
        self.lease_ms: float | None = None
        self.requests: dict[str, dict[str, Any]] = {}
        self.dropped: set[str] = set()
        self.kept: dict[str, Mock] = {}
        self.provided: Provided | None = None
        self.released = False
        self.ended = False
        self.logged = False
        self.keeper: asyncio.Task[None] | None = None

    def take(self, daemon: Daemon, claim: Claim) -> None:
        """Hold the batch under a new claim."""
        self.info = daemon.info
        self.live_token = claim.claim_token
        self.tokens.add(claim.claim_token)
        self.provided = None
        self.logged = claim.logged
        self.requests = {request["requestId"]: request for request in claim.requests}

    def is_of(self, daemon: Daemon, claim: Claim) -> bool:
        """Tell whether a new claim is of this batch and not of another with the same id."""
        same_project = self.info.project_id == daemon.info.project_id
        return same_project and all(
            self.requests.get(request["requestId"]) == request for request in claim.requests
        )

    def forget_requests(self) -> None:
        """Let go of what was asked and accepted, unless it was claimed again meanwhile."""
        if self.provided is not None:
            self.requests, self.kept = {}, {}

    def stop(self) -> None:
        """Renew the lease no longer: the claim ended, as far as this responder knows."""
        self.ended = True
        if self.keeper is not None:
            self.keeper.cancel()
            self.keeper = None


class Claims:
    """Claim, answer, renew and release batches, for one MCP client.

    Args:
        router: The daemons.
        adapter_id: This responder's name.
        logger: Where a claim that could not be released is reported.
    """

    def __init__(
        self, router: Router, adapter_id: str, *, logger: logging.Logger | None = None
    ) -> None:
        self.adapter_id = adapter_id
        self._router = router
        self._times = router.times
        self._logger = logger or logging.getLogger(__name__)
        self._held: OrderedDict[str, HeldClaim] = OrderedDict()
        self._answered: deque[HeldClaim] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def close(self, reason: str = "the assistant's client left") -> None:
        """Give every held batch back, in a bounded time."""
        for held in self._held.values():
            if not held.ended:
                self._start(self._give_back(held, reason))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._times.close_s)

    # -- Claiming --------------------------------------------------------------------------

    async def claim_next(
        self, *, run_id: str | None = None, lease_ms: float | None = None, wait_s: float = 0
    ) -> Next | None:
        """Claim the oldest batch of all projects, waiting for one if there is none.

        The own project's daemon is started if none runs. Waiting holds nothing: being cancelled
        leaves no claim behind.

        Args:
            run_id: Only batches of this run.
            lease_ms: The lease in milliseconds; kept renewed for a while when None.
            wait_s: Seconds to wait.

        Returns:
            The claim; None when there was nothing to claim.

        Raises:
            InvalidParams: The lease is out of range.
            DaemonStartFailed: There is no daemon, and the project's could not be started; see
                `Router.start_own` for the other reasons.
        """
        deadline = time.monotonic() + wait_s
        ready = await self._router.claimable(run_id)
        if not ready:
            await self._router.start_own()
        while True:
            broken = False
            for daemon in ready:
                try:
                    found = await self._claim(daemon, run_id, lease_ms)
                except _BROKEN as exc:
                    self._logger.warning("daemon %r: %s", daemon.info, exc)
                    broken = True
                    continue
                if found is not None:
                    return found
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            if broken:
                await asyncio.sleep(min(left_s, self._times.refresh_s))
            ready = await self._router.wait(run_id, deadline)

    async def claim_several(
        self,
        count: int,
        *,
        run_id: str | None = None,
        lease_ms: float | None = None,
        wait_s: float = 0,
    ) -> list[Next]:
        """Claim as `claim_next`, and then what else can be claimed at once.

        Args:
            count: How many batches at most.
            run_id: Only batches of this run.
            lease_ms: The lease in milliseconds; kept renewed for a while when None.
            wait_s: Seconds to wait for the first.

        Returns:
            The claims in the order they were made; none when there was nothing to claim.
        """
        found: list[Next] = []
        try:
            while len(found) < count:
                one = await self.claim_next(
                    run_id=run_id, lease_ms=lease_ms, wait_s=0 if found else wait_s
                )
                if one is None:
                    break
                found.append(one)
        except MockMcpError:
            if not found:
                raise
        except BaseException:
            await self.give_back((each.claim.batch_id for each in found), CANCELLED)
            raise
        return found

    async def claim_batch(self, batch_id: str) -> Next | None:
        """Claim one batch by its id; None when it is not claimable.

        Raises:
            UnknownBatch: No daemon has it.
        """
        daemon, _ = await self._router.find(batch_id)
        return await self._claim(daemon, None, None, batch_id)

    async def _claim(
        self,
        daemon: Daemon,
        run_id: str | None,
        lease_ms: float | None,
        batch_id: str | None = None,
    ) -> Next | None:
        # A claim that was sent has happened, whoever stops waiting for it: see it through, and
        # give it back if the call was cancelled meanwhile.
        claiming = self._start(self._claim_from(daemon, run_id, lease_ms, batch_id))
        try:
            return await shielded(claiming)
        except asyncio.CancelledError:
            self._start(self._give_back_unseen(claiming))
            raise

    async def _claim_from(
        self, daemon: Daemon, run_id: str | None, lease_ms: float | None, batch_id: str | None
    ) -> Next | None:
        claim = await daemon.client.claim_next_batch(
            self.adapter_id, run_id=run_id, lease_ms=lease_ms, batch_id=batch_id
        )
        if claim is None:
            return None
        held = self._remember(daemon, claim, lease_ms)
        self._keep(held)
        return Next(daemon, claim, await daemon.test_of(claim.run_id, self._times.patience_s))

    async def _give_back_unseen(self, claiming: asyncio.Task[Next | None]) -> None:
        with contextlib.suppress(MockMcpError, OSError):
            found = await claiming
            if found is not None:
                held = self._held[found.claim.batch_id]
                await self._give_back(held, CANCELLED)

    # -- Answering -------------------------------------------------------------------------

    async def provide(self, batch_id: str, token: str, mocks: Sequence[Mock]) -> Provided:
        """Answer a batch, even one whose lease ended or whose daemon restarted meanwhile.

        An answer may be given in parts: what was given before is sent along, unless the contract
        gate refused it. So only what is missing or was wrong needs to be given again.

        Raises:
            ContractViolation: Some mocks break the contract; the accepted ones are kept.
            ClaimMismatch: Another responder holds the batch by now, or the token is wrong.
            NotClaimed: It was released, or another responder answered it.
            UnknownBatch: The test does not wait for it any more.
            MocksMismatch: Not exactly one mock per request, and what was given is kept; or the
                requests changed.
            LimitExceeded: Some mocks are too large or too deep; the message names them, and the
                others are kept.
            DaemonUnreachable: The daemon did not come back.
        """
        held = self._find(batch_id, token)
        if held is None:
            daemon, _ = await self._router.find(batch_id)
            return await daemon.client.provide_batch(self.adapter_id, batch_id, token, mocks)
        if held.provided is not None:
            return held.provided
        if held.released:
            raise NotClaimed(f"You released batch {batch_id}; claim it again before you answer it.")
        given = {mock.request_id: mock for mock in mocks}
        if len(given) < len(mocks):
            raise MocksMismatch("A requestId appears twice in mocks; give one mock per request.")
        answer = {**held.kept, **given}
        try:
            return await self._send(held, answer)
        except _LOST as exc:
            lost = exc
        await self._regain(held, lost)
        return await self._send(held, answer)

    async def renew(self, batch_id: str, token: str, lease_ms: float | None = None) -> int:
        """Restart a lease, claiming the batch again if it ended; return its end in Unix ms.

        Raises:
            ClaimMismatch, NotClaimed, UnknownBatch: The batch is lost, as in `provide`.
            InvalidParams: The lease is out of range.
            DaemonUnreachable: The daemon does not answer.
        """
        held = self._find(batch_id, token)
        if held is None:
            daemon, _ = await self._router.find(batch_id)
            return await daemon.client.renew_claim(self.adapter_id, batch_id, token, lease_ms)
        daemon = await self._router.daemon(held.info.project_id)
        try:
            lease_until = await self._renew(daemon, held, lease_ms)
        except (LeaseEnded, NotClaimed) as exc:
            if held.released or not await self._claim_again(daemon, held, lease_ms, exc):
                raise
            lease_until = await self._renew(daemon, held, lease_ms)
        if lease_ms is not None:
            held.lease_ms = lease_ms
        self._keep(held)
        return lease_until

    async def release(self, batch_id: str, token: str, reason: str | None = None) -> None:
        """Give a batch back; one whose lease ended is back already.

        Raises:
            ClaimMismatch: Another responder holds it, or the token is wrong.
            UnknownBatch: The test does not wait for it any more.
            DaemonUnreachable: The daemon does not answer.
        """
        held = self._find(batch_id, token)
        if held is None:
            daemon, _ = await self._router.find(batch_id)
            await daemon.client.release_batch(self.adapter_id, batch_id, token, reason)
            return
        held.stop()
        daemon = await self._router.daemon(held.info.project_id)
        with contextlib.suppress(LeaseEnded, NotClaimed):
            await daemon.client.release_batch(self.adapter_id, batch_id, held.live_token, reason)
        held.released = True

    async def give_back(self, batch_ids: Iterable[str], reason: str) -> None:
        """Release claims that their assistant never learned of, whatever cancels the caller."""
        known = [self._held.get(batch_id) for batch_id in batch_ids]
        # All begin before any is awaited: a caller that is cancelled may be so at every await.
        giving = [self._start(self._give_back(held, reason)) for held in known if held is not None]
        if giving:
            await asyncio.wait(giving, timeout=self._times.close_s)

    async def log_shown(self, batch_ids: Iterable[str], tool: str, text: str) -> None:
        """Tell the daemons that keep a batch log what a model is about to read of their batches.

        A failure is only reported: no log may keep an answer from its test.

        Args:
            batch_ids: Batches that were claimed here; others are left out.
            tool: What shows it.
            text: All of it, word for word.
        """
        known = (self._held.get(batch_id) for batch_id in batch_ids)
        of_project: dict[str, list[str]] = {}
        for held in known:
            if held is not None and held.logged:
                of_project.setdefault(held.info.project_id, []).append(held.batch_id)
        for project_id, ids in of_project.items():
            try:
                async with asyncio.timeout(self._times.patience_s):
                    daemon = await self._router.daemon(project_id)
                    await daemon.client.log_shown(self.adapter_id, ids, tool, text)
            except (MockMcpError, OSError) as exc:
                self._logger.warning("the batch log does not say what was shown: %s", exc)

    def batch(self, batch_id: str) -> tuple[DaemonInfo, dict[str, dict[str, Any]]] | None:
        """Return the daemon and the requests, by id, of a batch claimed here and not long gone."""
        held = self._held.get(batch_id)
        return (held.info, held.requests) if held is not None and held.requests else None

    # -- Inside ----------------------------------------------------------------------------

    def _find(self, batch_id: str, token: str) -> HeldClaim | None:
        held = self._held.get(batch_id)
        if held is not None and token not in held.tokens:
            raise ClaimMismatch(
                f"That is not the claim token of batch {batch_id}; give the claimToken that came "
                "with your claim."
            )
        return held

    def _remember(self, daemon: Daemon, claim: Claim, lease_ms: float | None) -> HeldClaim:
        held = self._held.get(claim.batch_id)
        if held is None or not held.is_of(daemon, claim):
            held = self._held[claim.batch_id] = HeldClaim(claim.batch_id, daemon.info)
        self._held.move_to_end(claim.batch_id)
        held.take(daemon, claim)
        held.lease_ms, held.released = lease_ms, False
        while len(self._held) > CLAIMS_REMEMBERED:
            self._held.popitem(last=False)[1].stop()
        return held

    def _keep(self, held: HeldClaim) -> None:
        """Renew a claim's lease from now on, unless the assistant chose a lease."""
        held.stop()
        held.ended = False
        if held.lease_ms is None:
            held.keeper = asyncio.create_task(self._renew_for_a_while(held))

    async def _renew(self, daemon: Daemon, held: HeldClaim, lease_ms: float | None = None) -> int:
        return await daemon.client.renew_claim(
            self.adapter_id, held.batch_id, held.live_token, lease_ms
        )

    async def _renew_for_a_while(self, held: HeldClaim) -> None:
        until = time.monotonic() + self._times.keep_s
        while time.monotonic() + self._times.lease_s < until:
            await asyncio.sleep(self._times.lease_s / 3)
            try:
                daemon = await self._router.daemon(held.info.project_id)
                await self._renew(daemon, held)
            except (DaemonUnreachable, OSError):
                continue  # it may be slow; the lease has time for another try
            except MockMcpError:
                return

    async def _send(self, held: HeldClaim, answer: dict[str, Mock]) -> Provided:
        daemon = await self._router.daemon(held.info.project_id)
        mocks = [mock for rid, mock in answer.items() if rid not in held.dropped]
        try:
            provided = await daemon.client.provide_batch(
                self.adapter_id, held.batch_id, held.live_token, mocks
            )
        except ContractViolation as exc:
            held.kept = {rid: answer[rid] for rid in exc.accepted if rid in answer}
            self._keep(held)
            raise
        except MocksMismatch:
            held.kept = {rid: answer[rid] for rid in held.requests if rid in answer}
            self._keep(held)
            raise _incomplete(held, answer) from None
        except LimitExceeded as exc:
            excess = _excessive(mocks)
            held.kept = {rid: answer[rid] for rid in answer if rid not in excess}
            self._keep(held)
            raise LimitExceeded(
                f"Nothing was delivered. {exc.message} Give these mocks again, smaller: "
                f"{some(list(excess.values()), _IDS_SHOWN)}; the others are kept."
            ) from None
        except ClaimMismatch:
            held.stop()
            raise self._taken(held) from None
        held.stop()
        held.provided = provided
        self._answered.append(held)
        if len(self._answered) > ANSWERED_KEPT:
            self._answered.popleft().forget_requests()
        return provided

    async def _regain(self, held: HeldClaim, lost: MockMcpError) -> None:
        """Claim a lost batch again, waiting for its test to submit it to a restarted daemon."""
        deadline = time.monotonic() + self._times.reclaim_s
        while True:
            try:
                daemon = await self._router.daemon(held.info.project_id)
                # The answer is ready: the daemon's own lease is enough, a shorter one may not be.
                if await self._claim_again(daemon, held, None, lost):
                    return
            except (DaemonUnreachable, Unauthorized):
                pass
            except UnknownBatch as exc:
                if daemon.info.token == held.info.token:  # it did not restart: the batch is over
                    held.stop()
                    raise UnknownBatch(
                        f"The test does not wait for batch {held.batch_id} any more, so your "
                        f"answer was not used. ({exc.message})"
                    ) from None
            if time.monotonic() >= deadline:
                held.stop()
                raise type(lost)(
                    f"Batch {held.batch_id} was lost ({lost.message}) and its test did not submit "
                    f"it again within {self._times.reclaim_s:g} s: the test has probably ended. "
                    "Your answer was not used; claim the next batch."
                )
            await asyncio.sleep(self._times.retry_s)

    async def _claim_again(
        self, daemon: Daemon, held: HeldClaim, lease_ms: float | None, lost: MockMcpError
    ) -> bool:
        """Claim the same batch by its id; tell whether acting on it makes sense now.

        It does if the batch was claimed, or turns out to be held still, or to have been answered
        by a call whose own answer was lost: repeating that call under its token is harmless.
        """
        before = held.requests
        if not await shielded(self._start(self._take_again(daemon, held, lease_ms))):
            found = await daemon.client.get_batch(held.batch_id)
            if found.status == "fulfilled" and not isinstance(lost, DaemonUnreachable):
                held.stop()
                raise NotClaimed(
                    f"Batch {held.batch_id} was answered by another responder while your lease "
                    "had ended; your answer was not used. Claim the next batch."
                )
            if found.claim is not None and found.claim.adapter_id != self.adapter_id:
                held.stop()
                raise self._taken(held)
            return found.status != "pending"
        if changed := [rid for rid, request in held.requests.items() if before.get(rid) != request]:
            await self._give_back(held, "its requests changed while the answer was written")
            raise MocksMismatch(
                f"The test submitted batch {held.batch_id} again with other requests "
                f"({', '.join(changed[:5])}); your answer does not fit and the batch was released. "
                "Claim the next batch."
            )
        held.dropped |= before.keys() - held.requests.keys()
        return True

    async def _take_again(self, daemon: Daemon, held: HeldClaim, lease_ms: float | None) -> bool:
        claim = await daemon.client.claim_next_batch(
            self.adapter_id, lease_ms=lease_ms, batch_id=held.batch_id
        )
        if claim is None:
            return False
        held.take(daemon, claim)
        self._keep(held)
        return True

    async def _give_back(self, held: HeldClaim, reason: str) -> None:
        held.stop()
        held.released = True
        try:
            daemon = await self._router.daemon(held.info.project_id)
            await daemon.client.release_batch(
                self.adapter_id, held.batch_id, held.live_token, reason
            )
        except (MockMcpError, OSError) as exc:
            self._logger.debug("batch %s was not released: %s", held.batch_id, exc)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run what must come to its end whoever stops waiting for it; `close` waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved: nobody may be waiting for it any more

    def _taken(self, held: HeldClaim) -> ClaimMismatch:
        return ClaimMismatch(
            f"Your lease on batch {held.batch_id} ended and another responder holds it now; your "
            "answer was not used. Claim the next batch."
        )


def _incomplete(held: HeldClaim, answer: Mapping[str, Mock]) -> MocksMismatch:
    """Say what of an answer is kept, and what is missing or of no request."""
    said = [f"{len(held.kept)} of the {len(held.requests)} mocks of {held.batch_id} are kept"]
    if missing := [rid for rid in held.requests if rid not in held.kept]:
        said.append(f"give those that are missing: {some(missing, _IDS_SHOWN)}")
    if unknown := [rid for rid in answer if rid not in held.requests]:
        said.append(f"of no request of the batch: {some(unknown, _IDS_SHOWN)}")
    return MocksMismatch(f"Nothing was delivered yet. {'; '.join(said)}.")


_AROUND = 3
"""Levels of JSON around a mock in a call."""


def _excessive(mocks: Sequence[Mock]) -> dict[str, str]:
    """Return the mocks that made an answer exceed a limit, by request, in words.

    They are those that nest too deep; else the largest, down to where half of the bytes are left.
    """
    texts = {mock.request_id: encode(mock) for mock in mocks}
    deepest = Limits().depth - _AROUND
    if deep := {rid: f"{rid} (too deep)" for rid in texts if _is_deeper(texts[rid], deepest)}:
        return deep
    left = sum(map(len, texts.values()))
    half = left // 2
    large: dict[str, str] = {}
    for rid in sorted(texts, key=lambda rid: len(texts[rid]), reverse=True):
        if left <= half:
            break
        large[rid] = f"{rid} ({len(texts[rid])} bytes)"
        left -= len(texts[rid])
    return large


def _is_deeper(text: bytes, depth: int) -> bool:
    try:
        check_depth(text, depth)
    except LimitExceeded:
        return True
    return False
