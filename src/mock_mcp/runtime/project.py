"""The project: its root directory and its id (DESIGN section 7)."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

import msgspec

from mock_mcp.errors import ConfigurationError

__all__ = [
    "MARKERS",
    "Project",
    "compute_project_id",
    "display_path",
    "mentions_contracts",
    "resolve_project_root",
]

MARKERS = (".git", "pyproject.toml", "package.json")
"""Files that make a directory a project's root."""


class Project(msgspec.Struct, frozen=True):
    """A project: where it is, and the id that names its daemon's files."""

    root: Path
    id: str

    @classmethod
    def resolve(
        cls,
        project_root: str | os.PathLike[str] | None = None,
        file_path: str | os.PathLike[str] | None = None,
    ) -> Project:
        """Find the project: the given root, else that of the file, else of the working directory.

        Args:
            project_root: Used as it is, without looking for a marker above it.
            file_path: A file (or directory) of the project, usually the test.

        Raises:
            ConfigurationError: ``project_root`` is not a directory.
        """
        if project_root is None:
            root = resolve_project_root(file_path)
        else:
            root = Path(os.path.realpath(project_root))
            if not root.is_dir():
                raise ConfigurationError(
                    f"The project root {display_path(root)} is not a directory; name one that is."
                )
        return cls(root, compute_project_id(root))


def resolve_project_root(start_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the nearest ancestor that holds ``.git``, ``pyproject.toml`` or ``package.json``.

    Args:
        start_dir: Where to begin, a directory or a file in it; the working directory when None.

    Returns:
        The real path of the root; that of ``start_dir`` itself when no ancestor has a marker.

    Raises:
        ConfigurationError: The working directory is gone.
    """
    try:
        start = Path(os.path.realpath(Path.cwd() if start_dir is None else start_dir))
    except FileNotFoundError:
        raise ConfigurationError(
            "The working directory no longer exists; change to another one, or name the project "
            "with --project-root."
        ) from None
    if not start.is_dir():
        start = start.parent
    for candidate in (start, *start.parents):
        if any(os.path.lexists(candidate / marker) for marker in MARKERS):
            return candidate
    return start


def compute_project_id(root: str | os.PathLike[str]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the root's real path."""
    return hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]


def mentions_contracts(root: Path) -> bool:
    """Tell, without parsing, whether the project's settings might register a contract."""
    path = f"{root}{os.sep}pyproject.toml"  # not joined: it is asked for every request
    try:
        found = os.stat(path)  # noqa: PTH116
        return _mentions(path, found.st_mtime_ns, found.st_size)
    except OSError:
        return False


@lru_cache(maxsize=16)
def _mentions(path: str, *_stamp: int) -> bool:
    return b"mock-mcp" in Path(path).read_bytes()


def display_path(path: str | os.PathLike[str]) -> str:
    """Return a path as text that can be encoded, whatever bytes its name holds."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
