"""The MCP shell: tool calls in, results out, on the low-level server of the SDK.

A handler returns plain data; this file makes it a result whose structure and text are the same. A
failure of the project's own (`MockMcpError`) is a result an assistant can act on, never a protocol
error; only an unknown tool or prompt is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import os
import secrets
import signal
import sys
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio
import mcp_types as types
import msgspec
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage

from mock_mcp._version import __version__
from mock_mcp.adapter import tools
from mock_mcp.adapter.prompts import INSTRUCTIONS, SERVE_MOCKS, serve_mocks
from mock_mcp.adapter.relay import relay
from mock_mcp.adapter.tools import arguments_of
from mock_mcp.errors import ConfigurationError, InvalidParams, MockMcpError
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.project import MARKERS, Project, resolve_project_root
from mock_mcp.serving.claims import CANCELLED, Claims, Next
from mock_mcp.serving.contracts import ContractReader, unread
from mock_mcp.serving.mocks import given
from mock_mcp.serving.router import Answer, Router
from mock_mcp.serving.text import dump
from mock_mcp.serving.times import Times
from mock_mcp.serving.view import (
    RESULT_CHARS,
    USED_CHARS,
    batch_view,
    bounded,
    claim_view,
    error_text,
    summary,
)
from mock_mcp.types import DaemonInfo

__all__ = ["Adapter", "run_adapter"]

Context = ServerRequestContext[Any, Any]
Progress = Callable[[float, float, str], Awaitable[None]]

REQUESTS_SHOWN = 20
"""Requests of one batch that ``get_pending_batches`` lists."""
CLAIMS_CANCELLABLE = 10
"""Answers to ``claim_next_batch`` that may still be on their way when their call is cancelled."""
CALLS_CANCELLED = 100
"""Cancelled calls remembered: one may end before the SDK cancels it."""
UNCHECKED_SHOWN = 100
"""Requests that ``provide_batch_mock_data`` names as unchecked, each with its reason."""


class Adapter:
    """The tools of one MCP client, and its server.

    Args:
        project_root: The own project; when None, the one the working directory lies in, if any.
        cache_dir: The directory that holds ``mock-mcp/``.
        logger: Where problems are logged.
        timeout_s: Seconds one call to a daemon may take.
        adapter_id: This responder's name in claims; a fresh one when None.
        contract_budget: Characters that the condensed view of one contract may take, from 200 to
            40 000; 6 000 when None.
        times: Its other durations.

    Raises:
        ConfigurationError: The project root or the cache directory cannot be used, or the contract
            budget is out of range.
        InsecurePath: The cache directory is not private.
    """

    def __init__(
        self,
        *,
        project_root: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        logger: logging.Logger | None = None,
        timeout_s: float = 10.0,
        adapter_id: str | None = None,
        contract_budget: int | None = None,
        times: Times | None = None,
    ) -> None:
        self._logger = logger or logging.getLogger(__name__)
        self.adapter_id = adapter_id or f"adapter-{os.getpid()}-{secrets.token_hex(4)}"
        cache, own = CacheDirectory(cache_dir), _own_project(project_root)
        self._contracts = ContractReader(cache, own, budget=contract_budget, logger=self._logger)
        self._router = Router(
            cache,
            own,
            timeout_s=timeout_s,
            times=times,
            logger=self._logger,
        )
        self._claims = Claims(self._router, self.adapter_id, logger=self._logger)
        self._claimed_by: OrderedDict[str | int | None, list[str]] = OrderedDict()
        self._cancelled: deque[str | int] = deque(maxlen=CALLS_CANCELLED)
        self._tools: Mapping[str, Callable[[Any, Progress], Awaitable[dict[str, Any]]]] = {
            "get_status": self._get_status,
            "list_runs": self._list_runs,
            "claim_next_batch": self._claim_next_batch,
            "get_batch": self._get_batch,
            "provide_batch_mock_data": self._provide,
            "release_batch": self._release,
            "get_pending_batches": self._get_pending_batches,
            "renew_claim": self._renew,
            "get_schema": self._get_schema,
        }

    def server(self) -> Server[None]:
        """Return the MCP server; when its connection ends, every held claim is released."""
        return Server(
            "mock-mcp",
            version=__version__,
            title="mock-mcp",
            instructions=INSTRUCTIONS,
            lifespan=self._lifespan,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
        )

    async def close(self) -> None:
        """Release what is held and close the connections; a second call does nothing."""
        with anyio.CancelScope(shield=True):
            await self._claims.close()
            await self._router.close()

    async def cancelled(self, call_id: Any) -> None:
        """Give back what a call claimed that was cancelled as it ended, or after that."""
        self._cancelled.append(call_id)
        await self._claims.give_back(self._claimed_by.pop(call_id, ()), CANCELLED)

    # -- MCP -------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Server[None]) -> AsyncIterator[None]:
        try:
            yield None
        finally:
            await self.close()

    async def _list_tools(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[*tools.TOOLS.values()])

    async def _call_tool(
        self, ctx: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool = self._tools.get(params.name)
        if tool is None:
            raise MCPError(
                types.INVALID_PARAMS,
                f"Unknown tool {params.name[:80]!r}; known are {', '.join(self._tools)}.",
            )
        try:
            arguments = arguments_of(params.name, params.arguments or {})
            result = await tool(arguments, ctx.session.report_progress)
        except MockMcpError as exc:
            text = error_text(exc)
            await self._claims.log_shown(_batches_of(params.arguments), params.name, text)
            return _failure(text)
        except Exception:
            self._logger.exception("%s failed", params.name)
            return _failure(
                f"{params.name} failed inside mock-mcp; its log on stderr says why. Try again."
            )
        text = dump(result)
        about = _batches_of(result) or _batches_of(params.arguments)
        if params.name == "claim_next_batch" and about:
            self._claimed_by[ctx.request_id] = about
            if len(self._claimed_by) > CLAIMS_CANCELLABLE:
                self._claimed_by.popitem(last=False)
            if ctx.request_id in self._cancelled:
                await self.cancelled(ctx.request_id)
        try:
            await self._claims.log_shown(about, params.name, text)
        except asyncio.CancelledError:
            if params.name == "claim_next_batch":
                await self._claims.give_back(about, CANCELLED)
            raise
        return types.CallToolResult(
            content=[types.TextContent(text=text)], structured_content=result
        )

    async def _list_prompts(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListPromptsResult:
        return types.ListPromptsResult(prompts=[SERVE_MOCKS])

    async def _get_prompt(
        self, ctx: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult:
        if params.name != SERVE_MOCKS.name:
            raise MCPError(
                types.INVALID_PARAMS,
                f"Unknown prompt {params.name[:80]!r}; known is {SERVE_MOCKS.name}.",
            )
        text = serve_mocks((params.arguments or {}).get("command"))
        return types.GetPromptResult(
            description=SERVE_MOCKS.description,
            messages=[types.PromptMessage(role="user", content=types.TextContent(text=text))],
        )

    # -- Tools -----------------------------------------------------------------------------

    async def _get_status(self, arguments: tools.Nothing, progress: Progress) -> dict[str, Any]:
        answers = await self._router.ask(lambda client: client.get_status())
        good = [answer for answer in answers if answer.error is None]
        daemons, hidden = bounded(
            {
                "projectRoot": answer.value.project_root,
                "projectId": answer.value.project_id,
                "own": self._router.is_own(answer.daemon),
                "version": answer.value.version,
                "pid": answer.value.pid,
                "uptime": answer.value.uptime,
                "runs": answer.value.runs,
                "pending": answer.value.pending,
                "claimed": answer.value.claimed,
                "totalBatches": answer.value.total_batches,
            }
            for answer in good
        )
        return {
            "adapterId": self.adapter_id,
            "version": __version__,
            "runs": sum(answer.value.runs for answer in good),
            "pending": sum(answer.value.pending for answer in good),
            "claimed": sum(answer.value.claimed for answer in good),
            "daemons": daemons,
            "unreachable": _unreachable(answers),
            **_not_shown(hidden),
        }

    async def _list_runs(self, arguments: tools.Nothing, progress: Progress) -> dict[str, Any]:
        answers = await self._router.ask(lambda client: client.list_runs())
        runs, hidden = bounded(
            {"projectRoot": answer.daemon.info.project_root, **_json(run)}
            for answer in answers
            if answer.error is None
            for run in answer.value
        )
        return {"runs": runs, "unreachable": _unreachable(answers), **_not_shown(hidden)}

    async def _claim_next_batch(
        self, arguments: tools.ClaimNextBatch, progress: Progress
    ) -> dict[str, Any]:
        wait_s = (given(arguments.wait_ms) or 0) / 1000
        count = given(arguments.max_batches)
        async with _progress(progress, wait_s, self._router.times.progress_s):
            found = await self._claims.claim_several(
                count or 1,
                run_id=given(arguments.run_id),
                lease_ms=given(arguments.lease_ms),
                wait_s=wait_s,
            )
        if not found:
            return {
                "state": "empty",
                **({} if count is None else {"batches": []}),
                "next": "No test waits for mock data. While tests run, call again with waitMs "
                f"{tools.WAIT_MS}; tests ask for mocks only with MOCK_MCP=1 in their environment.",
            }
        try:
            views = await self._claim_views(found)
        except BaseException:
            await self._claims.give_back((each.claim.batch_id for each in found), CANCELLED)
            raise
        if count is None:
            return {
                "state": "claimed",
                **views[0],
                "next": "Write one mock for every request and call provide_batch_mock_data with "
                "this batchId and claimToken; or release_batch.",
            }
        return {
            "state": "claimed",
            "batches": views,
            "next": "Answer each batch on its own: call provide_batch_mock_data with its batchId "
            "and claimToken; or release_batch.",
        }

    async def _claim_views(self, found: Sequence[Next]) -> list[dict[str, Any]]:
        """Return what an assistant reads of claimed batches, all together in one result.

        Small batches are shown first and leave their room to the large ones.
        """
        deadline = time.monotonic() + self._router.times.contract_s
        room = RESULT_CHARS
        views: dict[int, dict[str, Any]] = {}
        first_of = {each.claim.run_id: n for n, each in reversed([*enumerate(found)])}
        by_size = sorted(range(len(found)), key=lambda n: len(dump(found[n].claim.requests)))
        for left, n in zip(range(len(found), 0, -1), by_size, strict=True):
            claim, info = found[n].claim, found[n].daemon.info
            shown = await self._shown(
                info, claim.requests, chars=room // left, contract_s=deadline - time.monotonic()
            )
            room -= len(dump(shown))
            view = claim_view(
                claim,
                found[n].test,
                shown,
                claim.used if first_of[claim.run_id] == n else (),
                used_chars=USED_CHARS // len(found),
            )
            views[n] = {"projectRoot": info.project_root, **view}
        return [views[n] for n in range(len(found))]

    async def _get_batch(self, arguments: tools.GetBatch, progress: Progress) -> dict[str, Any]:
        daemon, batch = await self._router.find(arguments.batch_id)
        view: dict[str, Any] = {
            "batchId": batch.batch_id,
            "runId": batch.run_id,
            "projectRoot": daemon.info.project_root,
            "status": batch.status,
            "createdAt": batch.created_at,
        }
        if batch.claim is not None:
            view["claim"] = _json(batch.claim)
        return {**view, **await self._shown(daemon.info, batch.requests)}

    async def _provide(self, arguments: tools.ProvideBatch, progress: Progress) -> dict[str, Any]:
        provided = await self._claims.provide(
            arguments.batch_id, arguments.claim_token, [mock.mock() for mock in arguments.mocks]
        )
        warnings, _ = bounded(map(_json, provided.warnings), RESULT_CHARS // 2)
        unchecked = dict(itertools.islice(provided.unchecked.items(), UNCHECKED_SHOWN))
        return {
            "ok": provided.ok,
            "message": provided.message,
            "delivered": provided.delivered,
            **({"warnings": warnings} if warnings else {}),
            **({"unchecked": unchecked} if unchecked else {}),
            "next": f"Call claim_next_batch with waitMs {tools.WAIT_MS} for the next batch.",
        }

    async def _release(self, arguments: tools.ReleaseBatch, progress: Progress) -> dict[str, Any]:
        await self._claims.release(
            arguments.batch_id, arguments.claim_token, given(arguments.reason)
        )
        return {"ok": True, "message": f"Batch {arguments.batch_id} can be claimed again."}

    async def _get_pending_batches(
        self, arguments: tools.GetPendingBatches, progress: Progress
    ) -> dict[str, Any]:
        run_id = given(arguments.run_id)
        answers = await self._router.ask(
            lambda client: client.list_batches(run_id=run_id, status="pending", brief=True),
            patience_s=self._router.times.listing_s,
        )
        good = [answer for answer in answers if answer.error is None]
        queues = [[(answer.daemon, batch) for batch in answer.value] for answer in good]
        batches = [*heapq.merge(*queues, key=lambda pair: pair[1].created_at)]
        shown, hidden = bounded(
            {
                "batchId": batch.batch_id,
                "runId": batch.run_id,
                "projectRoot": daemon.info.project_root,
                "createdAt": batch.created_at,
                "requestCount": len(batch.requests),
                "requests": [summary(request) for request in batch.requests[:REQUESTS_SHOWN]],
            }
            for daemon, batch in batches
        )
        return {
            "total": len(batches),
            "batches": shown,
            "unreachable": _unreachable(answers),
            **_not_shown(hidden),
        }

    async def _renew(self, arguments: tools.RenewClaim, progress: Progress) -> dict[str, Any]:
        lease_until = await self._claims.renew(
            arguments.batch_id, arguments.claim_token, given(arguments.lease_ms)
        )
        return {"ok": True, "leaseUntil": lease_until}

    async def _get_schema(self, arguments: tools.GetSchema, progress: Progress) -> dict[str, Any]:
        known = self._claims.batch(arguments.batch_id)
        if known is None:
            daemon, batch = await self._router.find(arguments.batch_id)
            known = daemon.info, {request["requestId"]: request for request in batch.requests}
        info, requests = known
        request = requests.get(arguments.request_id)
        if request is None:
            raise InvalidParams(
                f"Batch {arguments.batch_id} has no request {arguments.request_id[:80]!r}; it has "
                f"{', '.join(requests)[:1000]}."
            )
        wanted, view = await asyncio.to_thread(
            self._contracts.open, info, request, arguments.pointer, given(arguments.status)
        )
        return {
            "batchId": arguments.batch_id,
            "requestId": arguments.request_id,
            "pointer": arguments.pointer,
            "status": wanted.status,
            **({"operation": wanted.operation} if wanted.operation else {}),
            "schema": view.schema,
            **({} if view.is_complete else {"complete": False}),
        }

    async def _shown(
        self,
        info: DaemonInfo,
        requests: Sequence[Mapping[str, Any]],
        *,
        chars: int = RESULT_CHARS,
        contract_s: float | None = None,
    ) -> dict[str, Any]:
        """Return a batch as an assistant reads it; no contract may keep it from its claim."""

        def show() -> dict[str, Any]:
            return batch_view(requests, self._contracts.read(info, requests), chars=chars)

        longest_s = self._router.times.contract_s
        contract_s = longest_s if contract_s is None else contract_s
        reason = f"its contract is not read after {longest_s:g} s; get_batch shows it later"
        try:
            async with asyncio.timeout(contract_s):
                return await asyncio.to_thread(show)
        except TimeoutError:
            self._logger.warning("%s: %s", info.project_root, reason)
        except Exception:
            self._logger.exception("the contracts of a batch could not be shown")
            reason = "its contract could not be shown; the adapter's log says why"
        return batch_view(requests, unread(requests, reason), chars=chars)


def run_adapter(
    *,
    project_root: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    logger: logging.Logger | None = None,
    timeout_s: float = 10.0,
    adapter_id: str | None = None,
    contract_budget: int | None = None,
) -> int:
    """Serve MCP on stdin and stdout until the client goes away, as `entry.run_adapter` says."""
    if sys.stdin is None or sys.stdout is None:
        raise ConfigurationError(
            "The adapter speaks MCP over standard input and output, and one of them is closed; "
            "have an MCP client start it."
        )
    adapter = Adapter(
        project_root=project_root,
        cache_dir=cache_dir,
        logger=logger,
        timeout_s=timeout_s,
        adapter_id=adapter_id,
        contract_budget=contract_budget,
    )
    try:
        anyio.run(_serve, adapter)
    except* BrokenPipeError:  # a client that reads no more is as gone as one that writes no more
        _ignore_what_nobody_reads()
    return 0


async def _serve(adapter: Adapter) -> None:
    _release_on_signals(adapter)
    server = adapter.server()
    async with stdio_server() as (read, write), anyio.create_task_group() as tasks:
        readable, messages = anyio.create_memory_object_stream[SessionMessage | Exception]()

        def cancelled(call_id: Any) -> None:
            tasks.start_soon(adapter.cancelled, call_id)

        tasks.start_soon(relay, read, readable, write, cancelled)
        await server.run(messages, write, server.create_initialization_options())
        tasks.cancel_scope.cancel()


def _ignore_what_nobody_reads() -> None:
    """Have nothing said of the last words for a client that is gone.

    They are still in a buffer of the SDK, and Python 3.13 tells that they cannot be written.
    """
    told = sys.unraisablehook

    def tell(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, BrokenPipeError):
            told(unraisable)

    sys.unraisablehook = tell


def _release_on_signals(adapter: Adapter) -> None:
    """Make SIGINT and SIGTERM release what is held and end the process.

    The thread that reads stdin cannot be interrupted, so an ordinary exit would wait for the
    client to close it.
    """
    if sys.platform == "win32":
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        return
    loop = asyncio.get_running_loop()
    leaving: set[asyncio.Task[None]] = set()

    async def leave(number: int) -> None:
        try:
            await adapter.close()
        finally:
            os._exit(128 + number)

    def on_signal(number: int) -> None:
        if not leaving:
            leaving.add(loop.create_task(leave(number)))

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)


# -- Helpers -----------------------------------------------------------------------------------


def _own_project(project_root: str | os.PathLike[str] | None) -> Project | None:
    """Return the given project, or the one the working directory lies in, if it lies in one."""
    if project_root is not None:
        return Project.resolve(project_root)
    try:
        root = resolve_project_root()
    except ConfigurationError:  # the working directory is gone
        return None
    if not any(os.path.lexists(root / marker) for marker in MARKERS):
        return None
    return Project.resolve(root)


@contextlib.asynccontextmanager
async def _progress(report: Progress, total_s: float, every_s: float) -> AsyncIterator[None]:
    """Report progress about every ``every_s`` seconds while the block runs."""

    async def tell() -> None:
        started = time.monotonic()
        while True:
            await asyncio.sleep(every_s)
            passed_s = time.monotonic() - started
            await report(passed_s, total_s, "No test waits for mock data yet.")

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()


def _batches_of(said: Mapping[str, Any] | None) -> list[str]:
    """Return the ids of the batches that arguments or a result are about."""
    several = said.get("batches") if said else None
    found = [said, *several] if isinstance(several, list) else [said]
    ids = (each.get("batchId") for each in found if isinstance(each, Mapping))
    return [batch_id for batch_id in ids if isinstance(batch_id, str)]


def _json(value: Any) -> dict[str, Any]:
    """Return a struct as the JSON object it is on the wire."""
    converted: dict[str, Any] = msgspec.to_builtins(value)
    return converted


def _failure(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)


def _unreachable(answers: Iterable[Answer[Any]]) -> list[dict[str, Any]]:
    shown, _ = bounded(
        (
            {"projectRoot": answer.daemon.info.project_root, "error": str(answer.error)}
            for answer in answers
            if answer.error is not None
        ),
        RESULT_CHARS // 10,
    )
    return shown


def _not_shown(hidden: int) -> dict[str, int]:
    return {"notShown": hidden} if hidden else {}
