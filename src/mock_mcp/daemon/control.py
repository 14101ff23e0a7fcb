"""The daemon's end of the control channel (DESIGN section 4): one method per JSON-RPC method.

A method returns its result, or a `Pending` when it must wait; it raises a typed error otherwise.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn
from typing import Protocol as Interface

import msgspec

from mock_mcp.core.broker import BatchState, RunState, Status
from mock_mcp.daemon.gate import NO_CONTRACT, Gate, GateResult
from mock_mcp.daemon.hub import Hub
from mock_mcp.daemon.pending import Pending
from mock_mcp.errors import (
    ContractViolation,
    InvalidParams,
    LimitExceeded,
    UnusableContract,
)
from mock_mcp.types import (
    ClaimInfo,
    DaemonStatus,
    Mock,
    MockRequest,
    Provided,
    RunInfo,
    Violation,
    Waiting,
)
from mock_mcp.wire import control as wire
from mock_mcp.wire.channel import PROTOCOL
from mock_mcp.wire.json import encode

__all__ = ["Control", "answer_too_large"]

Result = Any | Pending[Any]
_RESULTS = 256
"""Gate results remembered, so that a repeated provide gets the same answer."""
_RESULT_HEAD_BYTES = 1024
"""What a result has around its mocks, and more."""
_REASONS = 5
"""Violations kept as the reason of a rejection; its holder gets them all."""


class _Daemon(Interface):
    """What the control channel needs to know of the daemon."""

    version: str
    project_id: str
    project_root: str
    started_at: float

    def request_stop(self) -> None: ...


class Control:
    """Answer control calls.

    Args:
        hub: The broker and its surroundings.
        daemon: The daemon's identity, and how to stop it.
        gate: Checks what is provided.
    """

    def __init__(self, hub: Hub, daemon: _Daemon, gate: Gate) -> None:
        self._hub = hub
        self._broker = hub.broker
        self._clock = hub.clock
        self._daemon = daemon
        self._gate = gate
        self._results: dict[str, GateResult] = {}
        self._methods: dict[type[wire.Params], Callable[[Any], Result]] = {
            wire.GetStatus: self.get_status,
            wire.ListRuns: self.list_runs,
            wire.ClaimNextBatch: self.claim_next_batch,
            wire.GetBatch: self.get_batch,
            wire.ListBatches: self.list_batches,
            wire.ListEvents: self.list_events,
            wire.LogShown: self.log_shown,
            wire.ProvideBatch: self.provide_batch,
            wire.ReleaseBatch: self.release_batch,
            wire.RenewClaim: self.renew_claim,
            wire.WaitForBatch: self.wait_for_batch,
            wire.Shutdown: self.shutdown,
        }

    def call(self, params: wire.Params) -> Result:
        """Carry out one call.

        Raises:
            MockMcpError: With an ``rpc_code``; nothing was changed.
        """
        self._hub.expire()  # what a late timer has not done yet must not be seen
        return self._methods[type(params)](params)

    def health(self) -> dict[str, Any]:
        """Answer ``GET /health``."""
        return {
            "ok": True,
            "pid": os.getpid(),
            "version": self._daemon.version,
            "projectId": self._daemon.project_id,
            "protocol": PROTOCOL,
        }

    def get_status(self, params: wire.GetStatus) -> DaemonStatus:
        """Return identity and counts."""
        return DaemonStatus(
            version=self._daemon.version,
            project_id=self._daemon.project_id,
            project_root=self._daemon.project_root,
            pid=os.getpid(),
            uptime=round((self._clock.now() - self._daemon.started_at) * 1000),
            runs=len(self._broker.runs),
            pending=self._broker.pending,
            claimed=self._broker.claimed,
            total_batches=self._broker.total_batches,
            protocol=PROTOCOL,
        )

    def list_runs(self, params: wire.ListRuns) -> dict[str, Any]:
        """Return the connected runs."""
        return {"runs": [self._run_info(run) for run in self._broker.runs.values()]}

    def claim_next_batch(self, params: wire.ClaimNextBatch) -> Result:
        """Lease the oldest claimable batch, if need be when there is one."""
        _check_adapter(params.adapter_id, self._hub.limits.id_chars)
        wait_s = self._wait_s(params.wait_ms or 0)
        claim = self._claim(params)
        self._hub.settle()
        if claim is not None or not wait_s:
            return claim
        return self._hub.when_claimable(params.run_id, wait_s, lambda: self._claim(params), None)

    def _claim(self, params: wire.ClaimNextBatch) -> dict[str, Any] | None:
        """Claim without settling."""
        lease_ms = wire.DEFAULT_LEASE_MS if params.lease_ms is None else params.lease_ms
        token = secrets.token_hex(16)
        batch = self._broker.claim(
            self._clock.now(),
            params.adapter_id,
            _lease_s(lease_ms),
            token,
            run_id=params.run_id,
            batch_id=params.batch_id,
        )
        if batch is None:
            return None
        assert batch.lease_deadline is not None
        return {
            "batchId": batch.id,
            "runId": batch.run_id,
            "requests": [request.json for request in batch.wanted],
            "claimToken": token,
            "leaseUntil": self._clock.unix_ms(batch.lease_deadline),
            "attempts": batch.attempts,
            "history": batch.history,
            **({"logged": True} if self._hub.batch_log is not None else {}),
            **({"used": used} if (used := self._hub.used.of(batch.run_id)) else {}),
        }

    def get_batch(self, params: wire.GetBatch) -> dict[str, Any]:
        """Return one batch, also one that was answered a short while ago."""
        answered = self._broker.fulfilled(params.batch_id)
        if answered is not None:
            run_id, requests, created_at = answered
            return self._view(params.batch_id, run_id, requests, Status.FULFILLED, created_at)
        return self._batch_info(self._broker.batch(params.batch_id))

    def list_batches(self, params: wire.ListBatches) -> dict[str, Any]:
        """Return batches in order of submission."""
        status = None if params.status is None else Status(params.status)
        longest = self._hub.limits.write_buffer_bytes
        infos, size = [], 0
        for batch in self._broker.batches(params.run_id, status):
            if not params.brief:
                size += sum([memoryview(r.json).nbytes for r in batch.requests.values()])
            if size > longest:  # before what cannot be sent is put together
                raise answer_too_large(longest)
            infos.append(self._batch_info(batch, brief=params.brief))
        return {"batches": infos}

    def list_events(self, params: wire.ListEvents) -> Result:
        """Return what happened after an event, waiting for it if need be."""
        wait_s = self._wait_s(params.wait_ms)
        events = self._hub.events
        # A number beyond the last one is of a daemon that was here before.
        after = params.after if params.after <= events.last else 0

        def found() -> dict[str, Any]:
            listed = [
                msgspec.structs.replace(event, at=self._clock.unix_ms(moment))
                for moment, event in events.after(after)
            ]
            return {"events": listed, "last": events.last}

        if events.last > after or not wait_s:
            return found()
        happened = self._hub.when_event(wait_s)
        answer: Pending[dict[str, Any]] = Pending(happened.cancel)
        happened.then(lambda: answer.resolve(found()))
        return answer

    def log_shown(self, params: wire.LogShown) -> dict[str, Any]:
        """Write to the batch log, if there is one, what a model is about to read."""
        _check_adapter(params.adapter_id, self._hub.limits.id_chars)
        if self._hub.batch_log is not None:
            self._hub.batch_log.write_shown(
                self._clock, params.adapter_id, params.batch_ids, params.tool, params.text
            )
        return {"ok": True}

    def provide_batch(self, params: wire.ProvideBatch) -> Result:
        """Answer a claimed batch and wait for the test's acknowledgement."""
        if not self._broker.is_claimed_with(params.batch_id, params.claim_token):
            # Stale or repeated: the broker says. What was found at the first time still holds.
            return self._provide(params, self._results.get(params.claim_token) or GateResult())
        batch = self._broker.batch(params.batch_id)
        requests = batch.wanted
        self._check_size(batch, params.mocks)
        if self._gate.applies(requests):
            return self._check_and_provide(params, requests)
        nothing = {request.request_id: NO_CONTRACT for request in requests}
        return self._provide(params, GateResult(unchecked=nothing))

    def release_batch(self, params: wire.ReleaseBatch) -> dict[str, Any]:
        """Give a claimed batch back to its place."""
        self._broker.release(
            self._clock.now(),
            params.adapter_id,
            params.batch_id,
            params.claim_token,
            params.reason,
        )
        self._hub.settle()
        return {"ok": True}

    def renew_claim(self, params: wire.RenewClaim) -> dict[str, Any]:
        """Restart a lease."""
        lease_s = None if params.lease_ms is None else _lease_s(params.lease_ms)
        deadline = self._broker.renew(
            self._clock.now(), params.adapter_id, params.batch_id, params.claim_token, lease_s
        )
        self._hub.settle()
        return {"leaseUntil": self._clock.unix_ms(deadline)}

    def wait_for_batch(self, params: wire.WaitForBatch) -> Result:
        """Answer when something is claimable or the time is up; claim nothing."""
        wait_s = self._wait_s(params.wait_ms)

        def look() -> Waiting | None:
            pending, oldest = self._broker.claimable(params.run_id)
            return Waiting(pending, self._clock.unix_ms(oldest)) if oldest is not None else None

        nothing = Waiting(0, None)
        if (found := look()) or not wait_s:
            return found or nothing
        return self._hub.when_claimable(params.run_id, wait_s, look, nothing)

    def shutdown(self, params: wire.Shutdown) -> dict[str, Any]:
        """Stop the daemon, after this answer is on its way."""
        self._daemon.request_stop()
        return {"ok": True}

    # -- Inside ----------------------------------------------------------------------------

    def _wait_s(self, wait_ms: float) -> float:
        longest_ms = self._hub.limits.wait_max_s * 1000
        if not 0 <= wait_ms <= longest_ms:
            raise InvalidParams(f"waitMs must be a number from 0 to {longest_ms:.0f}.")
        return wait_ms / 1000

    def _check_size(self, batch: BatchState, mocks: Sequence[Mock]) -> None:
        """Refuse mocks that would not fit into one message with the answers that are reused."""
        longest = self._hub.limits.frame_bytes - _RESULT_HEAD_BYTES
        if batch.reused and len(encode([*mocks, *batch.reused.values()])) > longest:
            raise LimitExceeded(
                f"The mocks of batch {batch.id} and the {len(batch.reused)} answers reused in it "
                f"have more than {longest} bytes together (limit frame_bytes); give smaller ones."
            )

    def _check_and_provide(
        self, params: wire.ProvideBatch, requests: tuple[MockRequest, ...]
    ) -> Pending[Provided]:
        """Check mocks off the loop, then provide them, or refuse them with every violation."""
        self._broker.hold(
            self._clock.now(), params.adapter_id, params.batch_id, params.claim_token, params.mocks
        )
        answer: Pending[Provided] = Pending()

        def judged(checked: concurrent.futures.Future[GateResult]) -> None:
            try:
                provided = self._provide_checked(params, requests, checked)
            except BaseException as exc:  # noqa: BLE001 - it is raised where the call is answered
                answer.fail(exc)
            else:
                provided.then(lambda: answer.resolve(provided.result()))

        loop = asyncio.get_running_loop()

        def tell(checked: concurrent.futures.Future[GateResult]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon has stopped
                loop.call_soon_threadsafe(judged, checked)

        self._gate.submit(requests, params.mocks).add_done_callback(tell)
        return answer

    def _provide_checked(
        self,
        params: wire.ProvideBatch,
        requests: tuple[MockRequest, ...],
        checked: concurrent.futures.Future[GateResult],
    ) -> Pending[Provided]:
        try:
            result = checked.result()
        except BaseException:
            self._broker.unhold(self._clock.now(), params.batch_id, params.claim_token)
            self._hub.settle()
            raise
        result = self._still_asked(params.batch_id, result)
        if result.blocked:
            self._fail_blocked(params, result)
        if not result.violations:
            return self._provide(params, result)
        wrong = len({violation.request_id for violation in result.violations})
        message = (
            f"Nothing was delivered: {wrong} of {len(requests)} mocks break the contract "
            f"({len(result.violations)} violations). Your claim is kept and its lease renewed; "
            "correct what data.violations lists and provide again."
        )
        self._broker.reject(
            self._clock.now(),
            params.adapter_id,
            params.batch_id,
            params.claim_token,
            "; ".join(_short(violation) for violation in result.violations[:_REASONS]),
        )
        self._hub.settle()
        raise ContractViolation(message, result.violations, result.accepted)

    def _still_asked(self, batch_id: str, result: GateResult) -> GateResult:
        """Leave out what was found wrong with mocks whose requests were cancelled meanwhile."""
        is_live = self._broker.is_live(batch_id)
        asked = self._broker.batch(batch_id).requests if is_live else {}
        return msgspec.structs.replace(
            result,
            violations=tuple(each for each in result.violations if each.request_id in asked),
            blocked={rid: why for rid, why in result.blocked.items() if rid in asked},
        )

    def _fail_blocked(self, params: wire.ProvideBatch, result: GateResult) -> NoReturn:
        """End the batch: the contract of a request cannot be used.

        Raises:
            UnusableContract: It was ended.
        """
        found, error = next(iter(result.blocked.items()))
        request = self._broker.batch(params.batch_id).requests[found]
        reason = (
            f"{request.method} {request.endpoint}: nothing was delivered, for its contract cannot "
            f"be used: {error} (Repair it, or let answers through unchecked with "
            'contract = "warn".)'
        )
        self._broker.fail(
            self._clock.now(),
            params.adapter_id,
            params.batch_id,
            params.claim_token,
            UnusableContract(reason),
        )
        self._hub.settle()
        raise UnusableContract(
            f"Batch {params.batch_id} is over and its test was told why; no other answer would "
            f"help, claim the next batch. {reason}"
        )

    def _provide(self, params: wire.ProvideBatch, result: GateResult) -> Pending[Provided]:
        is_first = self._broker.is_claimed_with(params.batch_id, params.claim_token)
        batch = self._broker.batch(params.batch_id) if is_first else None
        ignored = self._broker.provide(
            self._clock.now(), params.adapter_id, params.batch_id, params.claim_token, params.mocks
        )
        self._results[params.claim_token] = result
        while len(self._results) > _RESULTS:
            del self._results[next(iter(self._results))]
        answer: Pending[Provided] = Pending()
        if ignored:
            answer.resolve(Provided(ok=True, message=ignored, delivered=False))
        else:
            delivery = self._hub.settle_delivery(params.batch_id)
            delivery.then(lambda: answer.resolve(_provided(params, delivery.result(), result)))
        if batch is not None:  # the answer is on its way: nobody waits for this
            self._hub.used.note(batch.run_id, batch.wanted, params.mocks)
        return answer

    def _run_info(self, run: RunState) -> RunInfo:
        return RunInfo(
            run_id=run.id,
            pid=run.pid,
            cwd=run.cwd,
            started_at=self._clock.iso(run.started_at),
            last_seen=self._clock.unix_ms(run.last_seen),
            pending_batches=run.queue.size,
            test_meta=run.test_meta,
        )

    def _batch_info(self, batch: BatchState, *, brief: bool = False) -> dict[str, Any]:
        is_answered = batch.status is Status.FULFILLED
        requests = batch.requests.values() if is_answered else batch.wanted
        info = self._view(batch.id, batch.run_id, requests, batch.status, batch.created_at)
        if brief:
            info["requests"] = [
                {"requestId": r.request_id, "endpoint": r.endpoint, "method": r.method}
                for r in requests
            ]
        if rejections := batch.rejections:
            info["rejections"] = rejections
        if batch.claim is not None:
            info["claim"] = ClaimInfo(
                batch.claim.adapter_id, self._clock.unix_ms(batch.claim.deadline)
            )
        return info

    def _view(
        self,
        batch_id: str,
        run_id: str,
        requests: Iterable[MockRequest],
        status: Status,
        created_at: float,
    ) -> dict[str, Any]:
        return {
            "batchId": batch_id,
            "runId": run_id,
            "requests": [request.json for request in requests],
            "status": status.value,
            "createdAt": self._clock.unix_ms(created_at),
        }


def _provided(params: wire.ProvideBatch, delivered: bool, result: GateResult) -> Provided:
    count = len(params.mocks)
    message = f"{count} mock{'s' if count != 1 else ''} for {params.batch_id}"
    if delivered:
        message = f"Delivered {message}."
    else:
        message = (
            f"Accepted {message}; the test has not acknowledged them yet and gets them when "
            "it reconnects."
        )
    if result.warnings:
        message += f" {len(result.warnings)} contract violations were let through (warn)."
    if result.unchecked:
        message += f" {len(result.unchecked)} unchecked."
    if result.notes:
        message += f" {len(result.notes)} checked in part."
    return Provided(
        ok=True,
        message=message,
        delivered=delivered,
        warnings=list(result.warnings),
        unchecked={**result.notes, **result.unchecked},
    )


def answer_too_large(longest: int) -> LimitExceeded:
    """Return the error of an answer that its peer would not be sent."""
    return LimitExceeded(
        f"The answer has more than {longest} bytes (limit write_buffer_bytes); ask for less, such "
        "as one run or a brief listing."
    )


def _lease_s(lease_ms: float) -> float:
    """Convert a lease; a number too large for a float becomes one that the broker refuses."""
    return lease_ms / 1000 if lease_ms < 1e12 else float("inf")


def _short(violation: Violation) -> str:
    return f"{violation.request_id} {violation.pointer}: {violation.hint}"


def _check_adapter(adapter_id: str, id_chars: int) -> None:
    if not 0 < len(adapter_id) <= id_chars:
        raise InvalidParams(f"adapterId must have 1 to {id_chars} characters.")
