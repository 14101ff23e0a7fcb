"""A project's contract settings and sources, kept current.

The daemon, the client and the adapter each hold one `ProjectContracts`. ``pyproject.toml`` is read
when it is first needed and again when it changed, so nobody has to restart a daemon for it.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from mock_mcp.contract.config import load_project_config
from mock_mcp.contract.gate import Contracts, Mode

__all__ = ["ProjectContracts"]


class ProjectContracts:
    """The contracts of the project at ``root``.

    Args:
        root: The project root.
        cache_dir: A private directory for parsed documents; None keeps none.
    """

    def __init__(self, root: Path, *, cache_dir: Path | None = None) -> None:
        self.root = root
        self._file = str(root / "pyproject.toml")
        self._cache_dir = cache_dir
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | str | None = "unread"
        self._contracts = Contracts()
        self._current_mode: Mode = "enforce"
        self._has_documents = False

    def is_current(self) -> bool:
        """Tell whether the settings were read and have not changed since."""
        return self._stamp == self._read_stamp()

    @property
    def has_documents(self) -> bool:
        """Whether any document is registered, as of the last reading."""
        return self._has_documents

    def current(self) -> tuple[Contracts, Mode]:
        """Return the contracts and the mode as the settings say now.

        Raises:
            ConfigurationError: The settings cannot be used; the message names file and key.
        """
        with self._lock:
            stamp = self._read_stamp()
            if stamp != self._stamp:
                config = load_project_config(self.root)
                self._contracts = Contracts(
                    config.documents, cache_dir=self._cache_dir, root=self.root
                )
                self._current_mode = config.mode
                self._has_documents = bool(config.documents)
                self._stamp = stamp
            return self._contracts, self._current_mode

    def _read_stamp(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._file)  # noqa: PTH116 - asked for every call
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size
