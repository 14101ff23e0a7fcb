"""The cache directory: a private directory, and in it one registry, socket and lock per project.

The npm tool may use the same directory, so only files named by a 16-digit project id are looked at,
and its ``.lock`` and ``active-daemons.json`` are never touched. Nothing here trusts what it reads:
a registry that is garbage is a registry that is not there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from mock_mcp.errors import ConfigurationError, InsecurePath
from mock_mcp.runtime.project import display_path
from mock_mcp.types import DaemonInfo

__all__ = [
    "EXHAUSTED",
    "SOCKET_PATH_BYTES",
    "CacheDirectory",
    "contract_cache",
    "default_cache_dir",
    "environment",
    "is_on",
]

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""Errors of a process or system that has run out of something, which says nothing of a path."""

SOCKET_PATH_BYTES = 103
"""Longest Unix socket path every supported system takes (macOS: 104 with its NUL)."""

_NO_TRAPS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Open flags that follow no symlink and wait for no FIFO."""
_REPLACE_TRIES = 50
_REGISTRY_NAME = re.compile(r"[0-9a-f]{16}\.json")


class _Registry(msgspec.Struct, rename="camel"):
    """The registry file (DESIGN section 7)."""

    project_id: str
    project_root: str
    ipc_path: str
    token: str
    pid: int
    started_at: str
    version: str


def environment(name: str) -> str | None:
    """Return an environment variable; one that is empty is unset."""
    return os.environ.get(name) or None


def is_on(name: str) -> bool:
    """Return whether an environment variable switches something on: set, not ``0`` or ``false``."""
    return (environment(name) or "0").lower() not in ("0", "false")


def default_cache_dir() -> Path:
    """Return the directory that holds ``mock-mcp/`` when nobody names one.

    ``MOCK_MCP_CACHE_DIR``, else ``%LOCALAPPDATA%`` on Windows, else ``XDG_CACHE_HOME`` when it is
    absolute, else ``.cache`` in the home directory: ``HOME`` when it is absolute, else the user's.
    """
    if named := environment("MOCK_MCP_CACHE_DIR"):
        return Path(named).absolute()
    if sys.platform == "win32" and (local := environment("LOCALAPPDATA")):
        return Path(local)
    xdg = environment("XDG_CACHE_HOME")
    if xdg and Path(xdg).is_absolute():
        return Path(xdg)
    try:
        return _home() / ".cache"
    except (RuntimeError, KeyError):
        raise ConfigurationError(
            "There is no home directory to keep the daemon's files in; set MOCK_MCP_CACHE_DIR."
        ) from None


def _home() -> Path:
    home = environment("HOME")
    if sys.platform == "win32" or (home and Path(home).is_absolute()):
        return Path.home()
    import pwd

    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def contract_cache(cache_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the private directory of parsed contract documents; None where none can be had.

    It only saves time: a replay needs nothing of the machine, such as a home to write to.

    Args:
        cache_dir: The directory that holds ``mock-mcp/``; `default_cache_dir` when None.
    """
    try:
        return CacheDirectory(cache_dir).contracts()
    except (ConfigurationError, InsecurePath):
        return None


class CacheDirectory:
    """The private ``mock-mcp`` directory, created and checked when this object is made.

    Args:
        cache_dir: The directory that holds ``mock-mcp/``; `default_cache_dir` when None.

    Raises:
        InsecurePath: It is a symlink, belongs to someone else, or others can write to it.
        ConfigurationError: It cannot be created.
    """

    def __init__(self, cache_dir: str | os.PathLike[str] | None = None) -> None:
        base = default_cache_dir() if cache_dir is None else cache_dir
        self.base = Path(os.path.realpath(base))  # one name, however it is reached
        self.path = self.base / "mock-mcp"
        make_private(self.path)

    def registry(self, project_id: str) -> Path:
        """Return where the project's registry file is."""
        return self.path / f"{project_id}.json"

    def lock(self, project_id: str) -> Path:
        """Return the file the project's daemon keeps locked for as long as it lives."""
        return self.path / f"{project_id}.flock"

    def start_lock(self, project_id: str) -> Path:
        """Return the file locked by the one process that starts the project's daemon."""
        return self.path / f"{project_id}.start.flock"

    def logs(self, project_id: str) -> Path:
        """Return the directory of the project's logs, created private."""
        logs = self.path / "logs"
        make_private(logs)
        make_private(logs / project_id)
        return logs / project_id

    def contracts(self) -> Path:
        """Return the directory of parsed contract documents, created private."""
        make_private(self.path / "contracts")
        return self.path / "contracts"

    def ipc_path(self, project_id: str) -> str:
        """Return the project's socket path, or its pipe name on Windows.

        A path longer than `SOCKET_PATH_BYTES` is replaced by one in a short private directory that
        depends only on this directory, the user and the project.
        """
        if sys.platform == "win32":
            return rf"\\.\pipe\mock-mcp-{project_id}"
        path = self.path / f"{project_id}.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
            return str(path)
        short = Path("/tmp") / f"mock-mcp-{os.geteuid()}"  # noqa: S108 - checked to be private
        make_private(short)
        digest = hashlib.sha256(os.fsencode(self.path.resolve() / project_id)).hexdigest()
        return str(short / f"{digest[:16]}.sock")

    def read(self, project_id: str) -> DaemonInfo | None:
        """Return the registry of a project, or None when there is none that can be used.

        Raises:
            InsecurePath: The file is a symlink, is not ours, can be read or written by others, or
                names a socket that is not this project's.
        """
        path = self.registry(project_id)
        try:
            fd = os.open(path, os.O_RDONLY | _NO_TRAPS)
        except FileNotFoundError:
            return None
        except OSError as exc:
            if exc.errno in EXHAUSTED:
                raise
            raise InsecurePath(f"{display_path(path)} cannot be opened safely: {exc}") from None
        with os.fdopen(fd, "rb") as file:
            _check_private(path, os.fstat(file.fileno()), stat.S_ISREG, "file")
            text = file.read(64 * 1024)
        try:
            entry = msgspec.json.decode(text, type=_Registry)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if entry.project_id != project_id:
            return None
        expected = display_path(self.ipc_path(project_id))
        if entry.ipc_path != expected:
            raise InsecurePath(
                f"{display_path(path)} names the socket {entry.ipc_path!r}, not this project's "
                f"{expected!r}: it was edited. Delete the file and try again."
            )
        return DaemonInfo(
            entry.project_id,
            entry.project_root,
            self.ipc_path(project_id),
            entry.token,
            entry.pid,
            entry.started_at,
            entry.version,
        )

    def write(self, info: DaemonInfo) -> None:
        """Write a registry atomically, readable only by its owner."""
        entry = _Registry(
            info.project_id,
            info.project_root,
            display_path(info.ipc_path),
            info.token,
            info.pid,
            info.started_at,
            info.version,
        )
        fd, temporary = tempfile.mkstemp(prefix=f".{info.project_id}.", dir=self.path)
        try:
            with os.fdopen(fd, "wb") as file:
                if hasattr(os, "fchmod"):  # whatever the umask
                    os.fchmod(fd, 0o600)
                file.write(msgspec.json.encode(entry))
            _replace(Path(temporary), self.registry(info.project_id))
        except IsADirectoryError as exc:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise ConfigurationError(
                f"{display_path(self.registry(info.project_id))} is a directory; remove it."
            ) from exc
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise

    def project_ids(self) -> Iterator[str]:
        """Yield the ids of the projects that have a registry, alive or not."""
        try:
            names = sorted(entry.name for entry in self.path.iterdir())
        except FileNotFoundError:
            return
        yield from (name[:16] for name in names if _REGISTRY_NAME.fullmatch(name))


def _replace(source: Path, target: Path) -> None:
    """Rename a file over another; on Windows a reader may hold that for a moment."""
    for _ in range(_REPLACE_TRIES if sys.platform == "win32" else 0):
        try:
            source.replace(target)
        except PermissionError:
            time.sleep(0.01)
        else:
            return
    source.replace(target)


def make_private(path: Path) -> None:
    """Create a directory for its owner only, or check the one that is there.

    Raises:
        InsecurePath: A symlink, not a directory, foreign-owned, or writable by others.
        ConfigurationError: It cannot be created.
    """
    try:
        for directory in (*reversed(path.parents), path):
            if not os.path.lexists(directory):
                with contextlib.suppress(FileExistsError):
                    directory.mkdir()
                    directory.chmod(0o700)  # whatever the umask
        found = path.lstat()
    except OSError as exc:
        raise ConfigurationError(
            f"{display_path(path)} cannot be created ({exc.strerror}); repair it, or set "
            "MOCK_MCP_CACHE_DIR to a directory you can write to."
        ) from None
    _check_private(path, found, stat.S_ISDIR, "directory")


def _check_private(
    path: Path, found: os.stat_result, is_kind: Callable[[int], bool], kind: str
) -> None:
    if sys.platform == "win32":  # the profile directory's access list is what protects it
        return
    reason = None
    if stat.S_ISLNK(found.st_mode):
        reason = "is a symbolic link"
    elif not is_kind(found.st_mode):
        reason = f"is not a {kind}"
    elif found.st_uid != os.geteuid():
        reason = f"belongs to another user (uid {found.st_uid})"
    elif found.st_mode & 0o022:
        reason = f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
    if reason:
        raise InsecurePath(
            f"{display_path(path)} {reason}; daemon tokens must be private. Remove it or make it "
            "yours alone (chmod go-rwx), or set MOCK_MCP_CACHE_DIR to a private directory."
        )
    wanted = 0o700 if kind == "directory" else 0o600
    if stat.S_IMODE(found.st_mode) != wanted:
        try:
            path.chmod(wanted)
        except OSError as exc:
            raise InsecurePath(
                f"{display_path(path)} cannot be made private ({exc.strerror}); set "
                "MOCK_MCP_CACHE_DIR to a private directory."
            ) from None
