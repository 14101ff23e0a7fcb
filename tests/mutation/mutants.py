"""Faults that somebody could write, each with the promise that it breaks.

A mutant replaces one text of one source file by another. `python tests/mutation/run.py` makes each
in a copy of the source and runs the property tests on it.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MUTANTS", "Mutant"]


class Mutant(NamedTuple):
    """Replace ``old``, which occurs once in ``file``, by ``new``."""

    name: str
    why: str
    file: str
    old: str
    new: str


BROKER = "core/broker.py"
ALARM = "runtime/alarm.py"
HUB = "daemon/hub.py"
QUEUE = "core/queue.py"
PEER = "daemon/peer.py"
CONTROL = "daemon/control.py"
SESSION = "client/session.py"
ENGINE = "client/engine.py"
CLAIMS = "serving/claims.py"

MUTANTS = (
    # -- Leases --------------------------------------------------------------------------------
    Mutant(
        "a lease never ends",
        "a batch whose responder died is never offered again",
        BROKER,
        "self._leases.set(batch.id, batch.claim.deadline)",
        "pass",
    ),
    Mutant(
        "a lease that ended still counts until a timer says so",
        "a token acts after its time when the timer is late",
        BROKER,
        "return now >= self.deadline and not self.checks",
        "return False",
    ),
    Mutant(
        "a lease ends in the middle of a check",
        "an answer is lost because the contract gate was slow",
        BROKER,
        "return now >= self.deadline and not self.checks",
        "return now >= self.deadline",
    ),
    Mutant(
        "a lease ends a moment late",
        "two responders could believe that they hold a batch",
        BROKER,
        "return now >= self.deadline and not self.checks",
        "return now > self.deadline and not self.checks",
    ),
    Mutant(
        "renewing changes nothing",
        "a responder that writes for long loses its batch",
        BROKER,
        "claim.deadline = now + claim.lease_s",
        "pass",
    ),
    Mutant(
        "renewing forgets the new length",
        "the next renewal is shorter than was asked for",
        BROKER,
        "            claim.lease_s = lease_s\n        return",
        "            pass\n        return",
    ),
    Mutant(
        "a check is never over",
        "a claim whose data was refused is held for ever",
        BROKER,
        "        claim.checks -= 1\n        if not claim.checks:",
        "        if not claim.checks:",
    ),
    Mutant(
        "a rejection does not renew the lease",
        "there is no time to correct what was refused",
        BROKER,
        "        return self._restart_lease(now, batch, claim)\n\n    def fail(",
        "        return claim.deadline\n\n    def fail(",
    ),
    Mutant(
        "any lease is accepted",
        "a responder could hold a batch for years, or for a negative time",
        BROKER,
        "if not 0.001 <= lease_s <= self.limits.lease_max_s:",
        "if lease_s != lease_s:",
    ),
    # -- Tokens --------------------------------------------------------------------------------
    Mutant(
        "any token is accepted",
        "a stale or guessed token acts on another's claim",
        BROKER,
        "if claim.token == token and claim.adapter_id == adapter_id:",
        "if claim.adapter_id == adapter_id:",
    ),
    Mutant(
        "any responder may use a token",
        "a token that leaked is as good as a claim",
        BROKER,
        "if claim.token == token and claim.adapter_id == adapter_id:",
        "if claim.token == token:",
    ),
    Mutant(
        "a repeated answer is accepted with any token",
        "somebody else is told that his answer was used",
        BROKER,
        "            and batch.fulfilling_token == token\n",
        "",
    ),
    Mutant(
        "a repeated answer to an ended batch is refused",
        "an answer whose receipt was lost seems to have failed",
        BROKER,
        "if ended is not None and ended.token == token and ended.adapter_id == adapter_id:",
        "if False:",
    ),
    Mutant(
        "an ended lease is said to be nobody's",
        "the adapter cannot tell that it may claim the batch again",
        BROKER,
        "batch.expired_tokens += (claim.token,)",
        "pass",
    ),
    Mutant(
        "the mocks of a cancelled batch are refused",
        "finished work ends in an error nobody can act on",
        BROKER,
        '"its test stopped waiting", remember_claim=True',
        '"its test stopped waiting"',
    ),
    # -- Refusals that change something -------------------------------------------------------
    Mutant(
        "a refused renewal changes the lease",
        "a refusal changes the state",
        BROKER,
        "        batch, claim = self._held(now, adapter_id, batch_id, token)\n"
        "        if lease_s is not None:",
        "        if (found := self._batches.get(batch_id)) and found.claim:\n"
        "            found.claim.deadline = now + found.claim.lease_s\n"
        "        batch, claim = self._held(now, adapter_id, batch_id, token)\n"
        "        if lease_s is not None:",
    ),
    Mutant(
        "wrong mocks cost the claim",
        "a refusal changes the state",
        BROKER,
        "        by_id = self._match(batch, mocks)\n        self._drop_claim(batch)\n",
        "        self._drop_claim(batch)\n        by_id = self._match(batch, mocks)\n",
    ),
    Mutant(
        "a refused batch uses up a number",
        "a refusal changes the state",
        BROKER,
        "        if len(self._batches) >= self.limits.parked_batches:\n",
        "        self._next_seq += 1\n"
        "        if len(self._batches) >= self.limits.parked_batches:\n",
    ),
    Mutant(
        "an impossible lease expires the others first",
        "a refusal changes the state",
        BROKER,
        "        self._check_lease(lease_s)\n        self.expire(now)\n",
        "        self.expire(now)\n        self._check_lease(lease_s)\n",
    ),
    # -- Order ---------------------------------------------------------------------------------
    Mutant(
        "a batch that comes back goes to the tail",
        "a test whose responder failed waits behind everybody else",
        BROKER,
        "    def _enqueue(self, batch: BatchState) -> None:\n",
        "    def _enqueue(self, batch: BatchState) -> None:\n"
        "        batch.seq, self._next_seq = self._next_seq, self._next_seq + 1\n",
    ),
    Mutant(
        "the last comes first",
        "the oldest test waits for ever",
        QUEUE,
        "group.set(batch_id, place)",
        "group.set(batch_id, -place)",
    ),
    Mutant(
        "a responder is offered again what it released",
        "it never comes to those that it can answer",
        QUEUE,
        "            if adapter_id in released_by:\n",
        "            if False:\n",
    ),
    Mutant(
        "what a responder released is never offered to it again",
        "a claim is empty though something is claimable",
        QUEUE,
        "chosen = fresh or seen",
        "chosen = fresh or (seen if adapter_id is None else None)",
    ),
    Mutant(
        "a claim ignores the run",
        "a responder for one test gets another's batch",
        BROKER,
        "        if run_id is None:\n            return self._queue\n",
        "        if True:\n            return self._queue\n",
    ),
    Mutant(
        "a claim by id ignores the run",
        "a responder for one test gets another's batch",
        BROKER,
        "            if run_id is not None and batch.run_id != run_id:\n",
        "            if False:\n",
    ),
    Mutant(
        "a claim by id takes what is claimed",
        "two responders hold one batch",
        BROKER,
        "if batch is None or batch.status is not Status.PENDING:\n",
        "if batch is None or batch.status is Status.FULFILLED:\n",
    ),
    # -- Results -------------------------------------------------------------------------------
    Mutant(
        "an acknowledgement of any run counts",
        "a stranger makes the daemon forget a result",
        BROKER,
        "if batch is None or batch.run_id != run_id or batch.status is not Status.FULFILLED:",
        "if batch is None or batch.status is not Status.FULFILLED:",
    ),
    Mutant(
        "an acknowledgement may come before the answer",
        "a batch is forgotten that nobody answered",
        BROKER,
        "if batch is None or batch.run_id != run_id or batch.status is not Status.FULFILLED:",
        "if batch is None or batch.run_id != run_id:",
    ),
    Mutant(
        "a run may name another's batch",
        "a result goes to the wrong run",
        BROKER,
        'if own in ("", batch_id) or ":" in own:',
        'if own == "":',
    ),
    Mutant(
        "any requests join a batch of their id",
        "a test gets the answer to another request",
        BROKER,
        "                or not known.is_same(requests)\n",
        "",
    ),
    Mutant(
        "a result is sent twice",
        "a test could be answered twice",
        BROKER,
        "        self._fulfil(batch, {**by_id, **batch.reused}, token, adapter_id)\n",
        "        self._fulfil(batch, {**by_id, **batch.reused}, token, adapter_id)\n"
        "        if self.is_live(batch_id):\n"
        "            self._deliver(batch)\n",
    ),
    Mutant(
        "a result is kept from a test that comes back",
        "the answer is lost with the connection",
        BROKER,
        "        if had_answer:\n            self._deliver(batch)\n",
        "",
    ),
    Mutant(
        "a result without an acknowledgement is kept",
        "a 0.5 client's batches are never forgotten",
        BROKER,
        "if ACK not in run.capabilities and run.connection_id is not None:",
        "if False:",
    ),
    Mutant(
        "a result is forgotten before it is acknowledged",
        "the answer is lost with the connection",
        BROKER,
        "if ACK not in run.capabilities and run.connection_id is not None:",
        "if run.connection_id is not None:",
    ),
    Mutant(
        "a result that nobody could take is forgotten",
        "the answer is lost while its test reconnects",
        BROKER,
        "if ACK not in run.capabilities and run.connection_id is not None:",
        "if ACK not in run.capabilities:",
    ),
    Mutant(
        "a missing mock is accepted",
        "a request is never answered",
        BROKER,
        "if missing := [rid for rid in wanted if rid not in by_id]:",
        "if missing := []:",
    ),
    Mutant(
        "a request may be answered twice",
        "which of the two the test gets is chance",
        BROKER,
        "        if len(by_id) != len(mocks):\n",
        "        if False:\n",
    ),
    Mutant(
        "mocks of strangers are accepted",
        "an answer to another batch seems to have been used",
        BROKER,
        "if unknown := [rid for rid in by_id if rid not in known]:",
        "if unknown := []:",
    ),
    Mutant(
        "mocks of cancelled requests are refused",
        "a test that gave up one request makes the answer to the others fail",
        BROKER,
        "known = batch.cancelled.union(wanted)",
        "known = set(wanted)",
    ),
    # -- Runs ----------------------------------------------------------------------------------
    Mutant(
        "an older session takes over",
        "a reconnect harms the newer session",
        BROKER,
        "if session is not None and seen is not None and session < seen:",
        "if False:",
    ),
    Mutant(
        "the close of an older connection ends the run",
        "a reconnect harms the newer session",
        BROKER,
        "if run is None or run.connection_id != connection_id:",
        "if run is None:",
    ),
    Mutant(
        "a hello drops what it still wants",
        "a test that reconnects waits for ever",
        BROKER,
        "if keep is None or b.id not in keep",
        "if keep is None or b.id in keep",
    ),
    Mutant(
        "a hello keeps what it no longer wants",
        "a responder works for nobody",
        BROKER,
        'self._drop_batches(run, "its test no longer waits for it", keep=wanted)',
        "pass",
    ),
    Mutant(
        "a run is not given time to come back",
        "a broken connection loses every batch",
        BROKER,
        "if clean or RESUME not in run.capabilities:",
        "if True:",
    ),
    Mutant(
        "a run is given time for ever",
        "the batches of a killed test are never dropped",
        BROKER,
        "self._graces.set(run_id, run.ends_at)",
        "pass",
    ),
    Mutant(
        "a run that came back ends all the same",
        "a reconnect does not stop the grace period",
        BROKER,
        "        run.ends_at = None\n        self._graces.discard(run_id)\n",
        "        run.ends_at = None\n",
    ),
    Mutant(
        "a batch lives for ever",
        "a forgotten batch is offered for days",
        BROKER,
        "self._ttls.set(batch_id, now + self.limits.batch_ttl_s)\n        self._effects",
        "self._effects",
    ),
    Mutant(
        "a batch is never given up",
        "a batch that nobody can answer goes round for ever",
        BROKER,
        "if batch.claims_ended < self.limits.claims_per_batch:",
        "if True:",
    ),
    Mutant(
        "a cancelled request is still asked for",
        "a responder works for nobody",
        BROKER,
        "            del batch.requests[request_id]\n",
        "            pass\n",
    ),
    # -- The shells ----------------------------------------------------------------------------
    Mutant(
        "a result goes to whoever is connected",
        "a result goes to the wrong run",
        HUB,
        "        peer = self._peers.get(effect.run_id)\n        match effect:",
        "        peer = next(iter(self._peers.values()), None)\n        match effect:",
    ),
    Mutant(
        "a close detaches the newer connection",
        "a reconnect harms the newer session",
        HUB,
        "        if self._peers.get(run_id) is peer:\n            del self._peers[run_id]",
        "        self._peers.pop(run_id, None)",
    ),
    Mutant(
        "the timer is set once",
        "nothing expires unless somebody asks",
        ALARM,
        "        self._timer, self.moment = None, math.inf\n        self._ring()",
        "        self._ring()",
    ),
    Mutant(
        "those who wait are not woken by an expiry",
        "a released batch lies until the next one comes",
        HUB,
        "case Submitted() | Released() | Expired():",
        "case Submitted():",
    ),
    Mutant(
        "an acknowledgement is said at once",
        "a responder is told of a delivery that did not happen",
        HUB,
        "if run is None or ACK not in run.capabilities:",
        "if True:",
    ),
    Mutant(
        "a token is not asked for",
        "anybody who reaches the socket is a test",
        PEER,
        "if not hmac.compare_digest(hello.token.encode(), self._identity.token.encode()):",
        "if False:",
    ),
    Mutant(
        "a second hello is a hello",
        "a connection slips into another run",
        PEER,
        "        if self.run_id is None:\n            if isinstance(message, HelloTest):",
        "        if self.run_id is None or isinstance(message, HelloTest):\n"
        "            if isinstance(message, HelloTest):",
    ),
    Mutant(
        "every close is clean",
        "a broken connection loses every batch",
        PEER,
        "clean=code in _CLEAN",
        "clean=True",
    ),
    Mutant(
        "data that breaks its contract is delivered",
        "invalid data reaches a test",
        CONTROL,
        "        if not result.violations:\n",
        "        if True:\n",
    ),
    Mutant(
        "a check that was refused keeps its hold",
        "a claim whose data was refused is held for ever",
        BROKER,
        "        if claim.checks:\n            claim.checks -= 1\n        shown",
        "        shown",
    ),
    Mutant(
        "a reconnect submits nothing again",
        "what a killed daemon knew is lost",
        SESSION,
        "                    *(self._request(batch_id) for batch_id in self._batches),\n",
        "",
    ),
    Mutant(
        "what was cancelled between hello and welcome goes on",
        "a responder works for nobody, and the daemon keeps its answer",
        SESSION,
        "for batch_id in sorted(gone)",
        "for batch_id in ()",
    ),
    Mutant(
        "results are not acknowledged",
        "the daemon keeps every answer, and its responder waits",
        SESSION,
        "return [encode_message(BatchResultAck(message.batch_id))]",
        "return []",
    ),
    Mutant(
        "clients of one run number their batches alike",
        "a test gets, or loses to, what another client asked for",
        ENGINE,
        'batch_prefix=f"{secrets.token_hex(3)}-",',
        "",
    ),
    Mutant(
        "a lost connection is not opened again",
        "a test waits for a daemon it will never ask",
        ENGINE,
        "if error is not None or self._session.waits or code not in _CLEAN:",
        "if error is not None:",
    ),
    Mutant(
        "a lost claim is not claimed again",
        "finished work is thrown away",
        CLAIMS,
        "        await self._regain(held, lost)\n",
        "        raise lost\n",
    ),
    Mutant(
        "what was accepted is forgotten",
        "a corrected answer lacks the mocks that were right",
        CLAIMS,
        "answer = {**held.kept, **given}",
        "answer = given",
    ),
)
