"""The batch log: what was asked, who answered, and exactly what was sent to the model.

One JSON object a line for every effect of the broker, requests and mocks in full, and for every
text that a responder shows its model (``show``): what a model reads is condensed elsewhere, so only
the responder can say it, and it does before the model reads it. The file is private (0600) and
rotated by size. A log that cannot be written is reported once and never stops a test.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import msgspec

from mock_mcp.core.broker import Broker
from mock_mcp.core.effects import (
    Cancelled,
    Delivered,
    Effect,
    Failed,
    Reused,
    Submitted,
)
from mock_mcp.daemon.events import word_of
from mock_mcp.errors import MockMcpError
from mock_mcp.runtime.cache import make_private
from mock_mcp.wire.json import encode

__all__ = ["BatchLog", "log_files"]

NAME = "batches.jsonl"
FILE_BYTES = 10 * 1024 * 1024
FILES = 5
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
for _name in ("O_NOFOLLOW", "O_BINARY"):  # as far as the system has them
    _FLAGS |= getattr(os, _name, 0)


class _Clock(Interface):
    def now(self) -> float: ...
    def iso(self, moment: float) -> str: ...


class BatchLog:
    """Write effects to ``batches.jsonl`` in a directory.

    Args:
        directory: Where; created private, or checked to be.
        file_bytes: Size at which the file is rotated.
        files: Files kept, the current one included.
        logger: Where a failure to write is reported.
    """

    def __init__(
        self,
        directory: Path,
        *,
        file_bytes: int = FILE_BYTES,
        files: int = FILES,
        logger: logging.Logger | None = None,
    ) -> None:
        self.path = directory / NAME
        self._file_bytes = file_bytes
        self._files = files
        self._logger = logger or logging.getLogger(__name__)
        self._fd: int | None = None
        self._size = 0
        self._failing = False
        self._closed = False

    def write(self, clock: _Clock, broker: Broker, effect: Effect) -> None:
        """Append one line for an effect."""
        if self._closed:
            return
        entry: dict[str, Any] = {
            "time": clock.iso(clock.now()),
            "event": word_of(effect),
            "runId": effect.run_id,
            **({"batchId": effect.batch_id} if effect.batch_id else {}),
            **_details(broker, effect),
        }
        self._append(encode(entry) + b"\n")

    def write_shown(
        self, clock: _Clock, adapter_id: str, batch_ids: Sequence[str], tool: str, text: str
    ) -> None:
        """Append one line for a text that a model is about to read."""
        if self._closed:
            return
        entry = {
            "time": clock.iso(clock.now()),
            "event": "show",
            "batchIds": batch_ids,
            "adapterId": adapter_id,
            "tool": tool,
            "text": text,
        }
        self._append(encode(entry) + b"\n")

    def close(self) -> None:
        """Close the file; what comes later is not written."""
        self._closed = True
        self._close_file()

    def _close_file(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _append(self, line: bytes) -> None:
        try:
            if self._fd is not None and os.fstat(self._fd).st_nlink == 0:
                self._close_file()  # somebody deleted it
            if self._fd is not None and self._size + len(line) > self._file_bytes:
                self._rotate()
            if self._fd is None:
                make_private(self.path.parent)
                self._fd = os.open(self.path, _FLAGS, 0o600)
                if hasattr(os, "fchmod"):  # not on Windows, where the directory protects it
                    os.fchmod(self._fd, 0o600)
                self._size = os.fstat(self._fd).st_size
            if os.write(self._fd, line) < len(line):
                os.ftruncate(self._fd, self._size)  # the next line must not be glued to a part
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._size += len(line)
            self._failing = False
        except (OSError, MockMcpError) as exc:
            if not self._failing:
                self._logger.warning("the batch log %s cannot be written: %s", self.path, exc)
            self._failing = True

    def _rotate(self) -> None:
        self._close_file()
        try:
            self.path.replace(self.path)  # fails on Windows while somebody has it open
        except FileNotFoundError:
            pass
        except PermissionError:
            return  # it grows until it can be moved
        for number in range(self._files - 1, 0, -1):
            older, newer = _numbered(self.path, number), _numbered(self.path, number - 1)
            if newer.exists():
                newer.replace(older)


def log_files(directory: Path) -> list[Path]:
    """Return the files of a batch log that are there, the oldest first and the current one last."""
    current = directory / NAME
    numbered = (_numbered(current, number) for number in range(FILES - 1, -1, -1))
    return [path for path in numbered if path.exists()]


def _numbered(current: Path, number: int) -> Path:
    return current.with_suffix(f".{number}.jsonl") if number else current


def _details(broker: Broker, effect: Effect) -> dict[str, Any]:
    """Return what the log says of an effect beside its batch."""
    match effect:
        case Submitted():
            run = broker.run(effect.run_id)
            details: dict[str, Any] = {"requests": [request.json for request in effect.requests]}
            if run.test_meta is not None:
                details["testMeta"] = run.test_meta
            return details
        case Delivered():
            who = {"adapterId": effect.adapter_id} if effect.adapter_id else {}
            return {**who, "mocks": effect.mocks}
        case Failed():
            return {"code": effect.error.code, "message": effect.error.message}
        case Cancelled() | Reused():
            return {"requestIds": effect.request_ids}
        case _:
            return {
                {"adapter_id": "adapterId", "connection_id": "connectionId"}.get(name, name): value
                for name, value in msgspec.structs.asdict(effect).items()
                if name not in ("run_id", "batch_id") and value is not None
            }
