"""``mock-mcp answer``: answer one batch by hand, in an editor.

The editor begins with an answer made from the contract. What the contract refuses comes back into
the editor with the reasons and the edit as it was; the claim is kept all the while, and given back
whatever ends the command without an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mock_mcp.cli import add_project_root
from mock_mcp.cli.draft import read_draft, with_notes, write_draft
from mock_mcp.cli.terminal import printable
from mock_mcp.contract.expected import sample_mock
from mock_mcp.contract.project import ProjectContracts
from mock_mcp.errors import (
    ConfigurationError,
    ContractViolation,
    InvalidParams,
    MockMcpError,
    MocksMismatch,
    NotClaimed,
)
from mock_mcp.runtime.cache import CacheDirectory, environment
from mock_mcp.runtime.project import Project, display_path
from mock_mcp.serving.claims import Claims, Next
from mock_mcp.serving.contracts import ContractReader
from mock_mcp.serving.router import Router
from mock_mcp.serving.times import Times
from mock_mcp.serving.view import batch_view, claim_view, error_text
from mock_mcp.types import Mock

__all__ = ["configure", "run"]

_TERMINATED = 128 + signal.SIGTERM


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_project_root(parser)
    parser.add_argument(
        "batch", metavar="BATCH", nargs="?", help="the batch's id (default: the oldest that waits)"
    )


def run(options: argparse.Namespace) -> int:
    """Answer a batch; 0 when it was, 1 when it was given back or none waits."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigurationError(
            "mock-mcp answer opens an editor and needs a terminal; an assistant answers without "
            "one (`mock-mcp adapter`)."
        )
    editor = _editor()
    project = Project.resolve(options.project_root)
    try:
        return asyncio.run(_answer(project, editor, options.batch))
    except asyncio.CancelledError:
        return _TERMINATED


def _editor() -> list[str]:
    """Return the command of the person's editor.

    Raises:
        ConfigurationError: There is none, or it is not installed.
    """
    command = environment("VISUAL") or environment("EDITOR")
    words = shlex.split(command, posix=os.name != "nt") if command else ["vi"]
    if not words or shutil.which(words[0]) is None:
        named = f"EDITOR names {words[0]!r}, which is not installed" if command and words else None
        raise ConfigurationError(
            f"{named or 'There is no editor'}: set VISUAL or EDITOR to the command of yours, "
            'such as "nano" or "code --wait".'
        )
    return words


async def _answer(project: Project, editor: Sequence[str], batch_id: str | None) -> int:
    cache = CacheDirectory()
    # A person may think for as long as it takes: the claim is renewed until the end.
    router = Router(cache, project, only_own=True, times=Times(keep_s=math.inf))
    claims = Claims(router, f"answer-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        found = await _claim(router, claims, batch_id)
        if found is None:
            print(f"No batch waits in {display_path(project.root)}.")
            return 1
        draft = await asyncio.to_thread(_draft, cache, project, found)
        return await _edit(claims, found, draft, editor)
    finally:
        await claims.close("the person who answered it left")
        await router.close()


async def _claim(router: Router, claims: Claims, batch_id: str | None) -> Next | None:
    if batch_id is None:
        return await claims.claim_next() if await router.claimable(None) else None
    found = await claims.claim_batch(batch_id)
    if found is None:
        raise NotClaimed(f"Batch {batch_id} cannot be claimed now: it is claimed or answered.")
    return found


def _draft(cache: CacheDirectory, project: Project, found: Next) -> str:
    requests = found.claim.requests
    read = ContractReader(cache, project).read(found.daemon.info, requests)
    view = claim_view(found.claim, found.test, batch_view(requests, read), found.claim.used)
    answers: dict[str, Mock] = {}
    missing: dict[str, str] = {}
    contracts = ProjectContracts(project.root, cache_dir=cache.contracts())
    for request in requests:
        request_id = request["requestId"]
        try:
            current, _ = contracts.current()
            answers[request_id] = sample_mock(current, request, seed=found.claim.batch_id)
        except MockMcpError as exc:
            answers[request_id] = Mock(request_id, None)
            missing[request_id] = str(exc)
    return write_draft(_all_shown(view, requests), answers, missing)


def _all_shown(view: dict[str, Any], requests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a view that names every request, those included there was no room to show."""
    shown = view["requests"]
    names = ("requestId", "method", "endpoint")
    rest = [{name: request[name] for name in names} for request in requests[len(shown) :]]
    return {**view, "requests": [*shown, *rest]}


async def _edit(claims: Claims, found: Next, text: str, editor: Sequence[str]) -> int:
    """Let the draft be edited until its answer is accepted, or the batch is given back."""
    claim = found.claim
    with tempfile.TemporaryDirectory(prefix="mock-mcp-answer-") as directory:
        path = Path(directory) / "answer.jsonc"
        while True:
            edited = await _edited(path, text, editor)
            try:
                written = None if edited is None else read_draft(edited)
                if written is None:
                    break
                mocks = [msgspec.structs.replace(mock, source="hand") for mock in written]
                provided = await claims.provide(claim.batch_id, claim.claim_token, mocks)
            except (ContractViolation, MocksMismatch, InvalidParams) as exc:
                assert edited is not None
                text = with_notes(edited, _told(exc))
            except MockMcpError as exc:
                kept = _keep(path)
                raise type(exc)(f"{exc.message} What you wrote is kept in {kept}.") from None
            else:
                print(printable(provided.message))
                return 0
    await claims.release(claim.batch_id, claim.claim_token, "it was left unanswered")
    print(f"Gave {printable(claim.batch_id)} back.")
    return 1


async def _edited(path: Path, text: str, editor: Sequence[str]) -> str | None:
    """Return what was saved; None when the editor was left without saving, or failed."""
    before = _write(path, text)
    with _interrupts_are_the_editors():
        process = await asyncio.create_subprocess_exec(*editor, str(path))
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):  # it ended at the same time
                process.terminate()
            await process.wait()
            raise
    if code != 0:
        print(f"The editor ended with exit code {code}.", file=sys.stderr)
        return None
    return _read_if_saved(path, before)


def _write(path: Path, text: str) -> os.stat_result:
    path.write_text(text, "utf-8")
    os.utime(path, (0, 0))  # so that every save is seen, however fast
    return path.stat()


def _read_if_saved(path: Path, before: os.stat_result) -> str | None:
    try:
        after = path.stat()
        edited = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return None
    is_saved = (after.st_mtime_ns, after.st_ino) != (before.st_mtime_ns, before.st_ino)
    return edited if is_saved else None


@contextlib.contextmanager
def _interrupts_are_the_editors() -> Iterator[None]:
    """Leave Ctrl-C to the editor; have other signals end the command through its clean-up."""
    if sys.platform == "win32":
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


def _told(error: MockMcpError) -> str:
    """Return in a person's words what must be corrected."""
    if isinstance(error, ContractViolation):
        lines = [line for line in error_text(error).split("\n") if line.startswith("- ")]
        return "\n".join(["The answer breaks the contract and was not sent:", *lines])
    return error.message


def _keep(path: Path) -> Path:
    """Return a copy of the file that outlives the command."""
    descriptor, name = tempfile.mkstemp(prefix="mock-mcp-answer-", suffix=".jsonc")
    os.close(descriptor)
    shutil.copyfile(path, name)
    return Path(name)
