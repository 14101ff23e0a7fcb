"""Claim batches, have them written, provide them: what an assistant does, in a loop.

Strategy: waiting holds nothing. A loop for each run (or one for all of the project) waits until
something is claimable, takes one of the slots that bound the work under way, and only then claims.
A claim is renewed for as long as its mocks are being written, and given back with the reason
whatever ends the responder.

A batch that cannot be answered is released with the reason. When it is offered again it is released
again at once, so that others may try, and so that the daemon gives it up, with the reasons, when
nobody else does: its test fails in words instead of waiting for its timeout.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mock_mcp.errors import ContractViolation, MockMcpError, UnknownBatch
from mock_mcp.responders.errors import CannotAnswer, ResponderUnusable
from mock_mcp.responders.report import Answered, Corrected, Event, NotAnswered, Totals, Unwanted
from mock_mcp.responders.source import Source, Unusable
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.project import Project
from mock_mcp.serving.claims import Claims, Next
from mock_mcp.serving.router import Router
from mock_mcp.serving.times import Times
from mock_mcp.serving.view import violations_text
from mock_mcp.types import Mock

__all__ = ["Responder"]

WAIT_S = 50.0
"""How long one wait for a batch lasts; then the next begins."""
LOOK_S = 0.5
"""How often it is looked whether runs are left."""
RETRY_S = 1.0
"""How long a daemon that fails is left alone."""
FAILED_REMEMBERED = 1000
REASON_CHARS = 2_000


class Responder:
    """Answer the batches of one project.

    Args:
        source: Who writes the mocks.
        project: The project.
        tell: Takes what happens, for people or programs.
        cache_dir: The directory that holds ``mock-mcp/``.
        concurrency: Batches written at once.
        persists: Whether a source that turns out to be unusable goes on, failing each batch with
            the reason, instead of ending the responder: there is nobody to start it again.
        logger: Where problems with daemons are reported.
    """

    def __init__(
        self,
        source: Source,
        project: Project,
        *,
        tell: Callable[[Event], None],
        cache_dir: str | os.PathLike[str] | None = None,
        concurrency: int = 4,
        persists: bool = False,
        logger: logging.Logger | None = None,
    ) -> None:
        self.totals = Totals(source.usage)
        self._source = source
        self._tell = tell
        self._persists = persists
        self._logger = logger or logging.getLogger(__name__)
        self._router = Router(
            CacheDirectory(cache_dir),
            project,
            only_own=True,
            times=Times(keep_s=math.inf),  # a claim is renewed for as long as it is worked on
            logger=self._logger,
        )
        responder_id = f"respond-{source.name}-{os.getpid()}-{secrets.token_hex(4)}"
        self._claims = Claims(self._router, responder_id, logger=self._logger)
        self._slots = asyncio.Semaphore(concurrency)
        self._failed: OrderedDict[str, str] = OrderedDict()
        self._unusable: ResponderUnusable | None = None
        self._ended = asyncio.Event()
        self._writing: set[asyncio.Task[Any]] = set()
        self._providing: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Check that the source can work, and that there is a daemon; give back at the end.

        Raises:
            ResponderUnusable: It cannot work.
            MockMcpError: The project's daemon cannot be started; see `Router.start_own`.
        """
        try:
            await self._source.start()
            await self._router.daemons()
            await self._router.start_own()
            yield
        finally:
            await self._end_writing()
            await self._claims.close(f"the responder {self._source.name} stopped")
            await self._router.close()
            await self._source.close()

    async def serve(self, run_id: str | None = None) -> None:
        """Answer the batches of a run, or of every run, until cancelled."""
        while True:
            if not await self._router.wait(run_id, time.monotonic() + WAIT_S):
                continue
            await self._slots.acquire()
            found = None
            try:
                found = await self._claims.claim_next(run_id=run_id)
            except (MockMcpError, OSError) as exc:  # the daemon may come back
                self._logger.warning("%s", exc)
                await asyncio.sleep(RETRY_S)
            finally:
                if found is None:
                    self._slots.release()
            if found is not None:
                task = asyncio.create_task(self._answer_in_slot(found))
                self._writing.add(task)
                task.add_done_callback(self._writing.discard)

    async def failed(self) -> None:
        """Wait until the source can answer nothing any more, unless it persists.

        Raises:
            ResponderUnusable: It cannot.
        """
        await self._ended.wait()
        assert self._unusable is not None
        raise self._unusable

    async def runs_ended(self) -> None:
        """Return when there have been runs and none is left."""
        seen = False
        while True:
            answers = await self._router.ask(lambda client: client.list_runs())
            left = any(answer.error is not None or answer.value for answer in answers)
            if seen and not left and not self._writing:
                return
            seen = seen or left or bool(self.totals.batches + self.totals.failed)
            await asyncio.sleep(LOOK_S)

    async def _end_writing(self) -> None:
        """End what is being written; what is being provided is seen through, and counted."""
        for task in self._writing - self._providing:
            task.cancel()
        if self._providing:
            await asyncio.wait(self._providing, timeout=self._router.times.close_s)
        for task in self._writing:
            task.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)

    # -- One batch -----------------------------------------------------------------------------

    async def _answer_in_slot(self, found: Next) -> None:
        try:
            await self._answer(found)
        finally:
            self._slots.release()

    async def _answer(self, found: Next) -> None:
        batch_id = found.claim.batch_id
        try:
            reason = self._failed.get(batch_id)
            if reason is None:
                await self._write(found)
                return
        except ResponderUnusable as exc:
            self._unusable = exc
            reason = exc.message
        except UnknownBatch:
            self._tell(Unwanted(found))
            return
        except (MockMcpError, OSError) as exc:
            reason = str(exc)
        except Exception:
            self._logger.exception("batch %s", batch_id)
            reason = "the responder failed; its log says why"
        await self._fail(found, reason)
        if self._unusable is not None and not self._persists:
            self._ended.set()

    async def _write(self, found: Next) -> None:
        if self._unusable is not None:
            raise self._unusable
        writing = self._source.begin(found)
        problem: str | None = None
        for correction in range(1, self._source.corrections + 2):
            try:
                await self._provide(found, await writing.write(problem), correction - 1)
            except ContractViolation as exc:
                problem = violations_text(exc)
            except Unusable as exc:
                problem = str(exc)
            else:
                return
            if correction <= self._source.corrections:
                self.totals.corrections += 1
                self._tell(Corrected(found, problem, correction, self._source.corrections))
        tries = self._source.corrections + 1
        after = f" after {tries} tries" if tries > 1 else ""
        raise CannotAnswer(f"{self._source.name} gave no valid answer{after}. {problem}")

    async def _provide(self, found: Next, mocks: Sequence[Mock], n: int) -> None:
        claim = found.claim
        task = asyncio.current_task()
        assert task is not None
        self._providing.add(task)
        try:
            provided = await self._claims.provide(claim.batch_id, claim.claim_token, mocks)
        finally:
            self._providing.discard(task)
        self.totals.batches += 1
        self.totals.requests += len(claim.requests)
        self._tell(Answered(found, n, provided))

    async def _fail(self, found: Next, reason: str) -> None:
        claim = found.claim
        if claim.batch_id not in self._failed:
            self.totals.failed += 1
            self._tell(NotAnswered(found, reason))
            self._failed[claim.batch_id] = reason[:REASON_CHARS]
            if len(self._failed) > FAILED_REMEMBERED:
                self._failed.popitem(last=False)
        await self._claims.give_back((claim.batch_id,), reason[:REASON_CHARS])
