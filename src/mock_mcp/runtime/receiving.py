"""Receive bytes through one buffer of the thread.

For an `asyncio.Protocol`, asyncio asks for 256 KiB of memory with each read and gives back what was
not filled. In a process that has not yet freed a large block, the C library gets and returns such
memory by system calls: three of them and a page fault for each message, which with more than one
thread disturb all of them.
"""

from __future__ import annotations

import asyncio
import threading

__all__ = ["ReceivingProtocol"]

_BYTES = 256 * 1024


class _Buffer(threading.local):
    """One for each thread: its loop fills it and has it emptied before it reads again."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_BYTES))


_buffer = _Buffer()


class ReceivingProtocol(asyncio.BufferedProtocol):
    """A protocol that takes bytes as `asyncio.Protocol` does."""

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        raise NotImplementedError

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        return _buffer.view

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was written there."""
        self.data_received(bytes(_buffer.view[:nbytes]))
