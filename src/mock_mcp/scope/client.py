"""The client that asks an assistant, connected when the first call needs it."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

from mock_mcp.real_files import are_faked, on_real_files
from mock_mcp.runtime.shield import shielded

if TYPE_CHECKING:
    from mock_mcp.client.collector import BatchMockCollector, SyncBatchMockCollector

__all__ = ["LazyClient"]


class LazyClient:
    """One run at the project's daemon for sync and async code; a forked process has its own.

    Args:
        settings: Arguments of `mock_mcp.connect_sync`.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._collectors: tuple[SyncBatchMockCollector, BatchMockCollector] | None = None
        self._pid = 0
        self._connecting: dict[asyncio.AbstractEventLoop, asyncio.Task[Any]] = {}

    @property
    def is_connected(self) -> bool:
        """Whether anything was asked."""
        return self._collectors is not None and self._pid == os.getpid()

    @property
    def corrected(self) -> int:
        """How many batches got their answer only after one that broke the contract."""
        return self._collectors[0].corrected if self._collectors is not None else 0

    def sync(self) -> SyncBatchMockCollector:
        """Return the collector for sync code, connecting if nobody has.

        Raises:
            MockMcpError: As `mock_mcp.connect_sync`.
        """
        return self._connect()[0]

    async def asynchronous(self) -> BatchMockCollector:
        """Return the collector for async code, on the same connection; raises as `sync`.

        Those who wait for the first connection go on in one turn of their loop: in one batch.
        """
        # Under a fake file system here: in another thread this loop's tasks would see the real one.
        if not (self.is_connected or are_faked()):
            loop = asyncio.get_running_loop()
            connecting = self._connecting.get(loop)
            if connecting is None:
                connecting = loop.create_task(asyncio.to_thread(self._connect))
                self._connecting[loop] = connecting
                connecting.add_done_callback(lambda _: self._connecting.pop(loop))
            await shielded(connecting)
        return self._connect()[1]

    def close(self) -> None:
        """Disconnect; what still waits fails. The next request connects again."""
        with self._lock:
            if self._collectors is not None and self._pid == os.getpid():
                self._collectors[0].close()
            self._collectors = None

    @on_real_files
    def _connect(self) -> tuple[SyncBatchMockCollector, BatchMockCollector]:
        with self._lock:
            if self._collectors is None or self._pid != os.getpid():
                from mock_mcp.client.connect import connect_sync

                collector = connect_sync(enabled=True, **self._settings)
                self._collectors = collector, collector.as_async()
                self._pid = os.getpid()
            return self._collectors
