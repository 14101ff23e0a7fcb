"""``mock-mcp daemon``: run the project's daemon in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import logging
import math
import os
import signal
import sys
from collections.abc import Callable

import msgspec

from mock_mcp.cli import add_project_root
from mock_mcp.daemon import MockMcpDaemon
from mock_mcp.errors import MockMcpError
from mock_mcp.limits import Limits
from mock_mcp.runtime.launch import Readiness

__all__ = ["configure", "run"]

_M_MMAP_THRESHOLD = -3
"""The parameter's number in glibc's malloc.h."""
_LARGE_BYTES = 1024 * 1024


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_project_root(parser)
    parser.add_argument(
        "--log-batches",
        action="store_true",
        default=None,
        help="write every batch to the batch log (also: MOCK_MCP_LOG=1)",
    )
    parser.add_argument(
        "--idle-minutes",
        type=_minutes,
        metavar="N",
        help="stop after N minutes without a test (default 10; 0: never)",
    )
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)


def _minutes(text: str) -> float:
    """Read a number of minutes; 0 is for ever."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 <= minutes < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of minutes, 0 for ever, not {text!r}")
    return minutes


def run(options: argparse.Namespace) -> int:
    """Serve until stopped; return the exit code."""
    started = options.ready_fd is not None
    logging.basicConfig(
        level=logging.INFO if started else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("websockets").setLevel(logging.WARNING)
    _give_large_blocks_back()
    try:
        with contextlib.suppress(asyncio.CancelledError):  # told to stop while it still started
            asyncio.run(_serve(options))
    except MockMcpError as exc:
        if started:
            _tell(options.ready_fd, msgspec.json.encode(Readiness(exc.code, exc.message)) + b"\n")
        raise
    return 0


async def _serve(options: argparse.Namespace) -> None:
    limits = Limits()
    if options.idle_minutes is not None:
        idle_s = options.idle_minutes * 60 or None
        limits = msgspec.structs.replace(limits, idle_s=idle_s)
    daemon = MockMcpDaemon(options.project_root, limits=limits, log_batches=options.log_batches)
    starting = asyncio.current_task()
    assert starting is not None
    _on_signals(starting.cancel)
    async with daemon:
        _on_signals(daemon.request_stop)
        if options.ready_fd is not None:
            _tell(options.ready_fd, b"\n")
        else:
            print(f"Serving {daemon.project_root} (pid {os.getpid()}); Ctrl-C stops.", flush=True)
        await daemon.serve()


def _give_large_blocks_back() -> None:
    """Have glibc return every large block that is freed.

    Left alone, it keeps blocks as large as any that was ever freed, and a daemon that has seen
    bodies of 16 MiB would stay as large as all that it held at once.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _on_signals(stop: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()

    def stop_from_thread(*_: object) -> None:
        loop.call_soon_threadsafe(stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        if sys.platform == "win32":
            signal.signal(number, stop_from_thread)
        else:
            loop.add_signal_handler(number, stop)
    if hasattr(signal, "pthread_sigmask"):  # the thread that started it may have blocked them all
        signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _tell(fd: int, word: bytes) -> None:
    """Write the readiness word and close the pipe; the starter may be gone."""
    try:
        os.write(fd, word)
    except OSError:
        pass
    finally:
        os.close(fd)
