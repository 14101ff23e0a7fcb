"""The cache directory: private or refused, and nothing in it is trusted."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.errors import ConfigurationError, InsecurePath
from mock_mcp.runtime.cache import (
    SOCKET_PATH_BYTES,
    CacheDirectory,
    contract_cache,
    default_cache_dir,
    environment,
)
from mock_mcp.types import DaemonInfo

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Unix modes")
ID = "0123456789abcdef"


@pytest.fixture
def cache(short_dir: Path, cache_dir: Path) -> CacheDirectory:
    return CacheDirectory(cache_dir)


def info(cache: CacheDirectory, **changes: Any) -> DaemonInfo:
    fields: dict[str, Any] = {
        "project_id": ID,
        "project_root": "/é",
        "ipc_path": cache.ipc_path(ID),
        "token": "secret",
        "pid": 1,
        "started_at": "2026-01-01T00:00:00.000Z",
        "version": "1",
    }
    return DaemonInfo(**(fields | changes))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestDefault:
    @pytest.fixture(autouse=True)
    def _clean(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("MOCK_MCP_CACHE_DIR", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", "/home/someone")

    def test_home(self) -> None:
        assert default_cache_dir() == Path("/home/someone/.cache")

    def test_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
        assert default_cache_dir() == Path("/xdg")
        monkeypatch.setenv("MOCK_MCP_CACHE_DIR", "/named")
        assert default_cache_dir() == Path("/named")

    def test_empty_is_unset(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        monkeypatch.setenv("MOCK_MCP_CACHE_DIR", "")
        assert environment("MOCK_MCP_CACHE_DIR") is None
        assert default_cache_dir() == Path("/home/someone/.cache")

    @pytest.mark.parametrize("home", ["", "relative"])
    def test_a_home_that_is_none_is_unset(self, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
        import pwd

        monkeypatch.setenv("HOME", home)
        assert default_cache_dir() == Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache"

    def test_a_user_without_a_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import pwd

        def getpwuid(uid: int) -> None:
            raise KeyError(uid)

        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", getpwuid)
        with pytest.raises(ConfigurationError, match="set MOCK_MCP_CACHE_DIR"):
            default_cache_dir()

    def test_relative(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MOCK_MCP_CACHE_DIR", "here")
        assert default_cache_dir() == tmp_path / "here"
        monkeypatch.delenv("MOCK_MCP_CACHE_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", "relative is invalid, says its specification")
        assert default_cache_dir() == Path("/home/someone/.cache")


class TestDirectory:
    def test_created_private(self, cache: CacheDirectory) -> None:
        assert mode(cache.path) == 0o700
        assert mode(cache.logs(ID)) == mode(cache.path / "logs") == 0o700

    @pytest.mark.parametrize("bits", [0o755, 0o750, 0o711])
    def test_too_readable_is_tightened(self, cache: CacheDirectory, bits: int) -> None:
        cache.path.chmod(bits)
        CacheDirectory(cache.base)
        assert mode(cache.path) == 0o700

    @pytest.mark.parametrize("bits", [0o777, 0o770, 0o722, 0o702])
    def test_writable_is_refused(self, cache: CacheDirectory, bits: int) -> None:
        cache.path.chmod(bits)
        with pytest.raises(InsecurePath, match="mock-mcp"):
            CacheDirectory(cache.base)

    def test_a_symlink_is_refused(self, cache_dir: Path, tmp_path: Path) -> None:
        (cache_dir / "mock-mcp").symlink_to(tmp_path)
        with pytest.raises(InsecurePath, match="symbolic link"):
            CacheDirectory(cache_dir)

    def test_a_dangling_symlink_is_refused(self, cache_dir: Path, tmp_path: Path) -> None:
        (cache_dir / "mock-mcp").symlink_to(tmp_path / "missing")
        with pytest.raises((InsecurePath, ConfigurationError)):
            CacheDirectory(cache_dir)
        assert not (tmp_path / "missing").exists()

    def test_a_base_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigurationError, match="MOCK_MCP_CACHE_DIR"):
            CacheDirectory(tmp_path / "file")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    def test_foreign_owned_is_refused(self, cache: CacheDirectory) -> None:
        os.chown(cache.path, 12345, -1)
        with pytest.raises(InsecurePath, match="12345"):
            CacheDirectory(cache.base)


class TestRegistry:
    @pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
    def test_its_mode_does_not_depend_on_the_umask(self, cache: CacheDirectory, umask: int) -> None:
        before = os.umask(umask)
        try:
            cache.write(info(cache))
        finally:
            os.umask(before)
        assert mode(cache.registry(ID)) == 0o600

    def test_round_trip(self, cache: CacheDirectory) -> None:
        cache.write(info(cache))
        assert cache.read(ID) == info(cache)
        assert mode(cache.registry(ID)) == 0o600
        assert set(json.loads(cache.registry(ID).read_bytes())) == {
            "projectId",
            "projectRoot",
            "ipcPath",
            "token",
            "pid",
            "startedAt",
            "version",
        }
        assert [path.name for path in cache.path.iterdir()] == [f"{ID}.json"]

    def test_the_token_is_not_shown(self, cache: CacheDirectory) -> None:
        assert "secret" not in repr(info(cache))
        assert "secret" not in str(info(cache))

    def test_it_is_replaced_whole(self, cache: CacheDirectory) -> None:
        cache.write(info(cache, project_root="/" + "x" * 10_000))
        opened = cache.registry(ID).open("rb")
        cache.write(info(cache, project_root="/short"))
        with opened:
            json.loads(opened.read())  # who had it open reads the older one, whole
        found = cache.read(ID)
        assert found is not None
        assert found.project_root == "/short"

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"null", b"[]", b"\xff", b"\0" * 70_000, b"[" * 60_000, b'{"pid":1}']
    )
    def test_garbage_is_nothing(self, cache: CacheDirectory, content: bytes) -> None:
        cache.registry(ID).write_bytes(content)
        cache.registry(ID).chmod(0o600)
        assert cache.read(ID) is None

    def test_nothing_is_nothing(self, cache: CacheDirectory) -> None:
        assert cache.read(ID) is None

    def test_another_projects_is_nothing(self, cache: CacheDirectory) -> None:
        cache.write(info(cache))
        cache.registry(ID).rename(cache.registry("f" * 16))
        assert cache.read("f" * 16) is None

    def test_another_socket_is_refused(self, cache: CacheDirectory) -> None:
        cache.write(info(cache, ipc_path="/tmp/evil.sock"))
        with pytest.raises(InsecurePath, match="evil"):
            cache.read(ID)

    def test_a_symlink_is_refused(self, cache: CacheDirectory, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("{}")
        cache.registry(ID).symlink_to(tmp_path / "x")
        with pytest.raises(InsecurePath):
            cache.read(ID)

    def test_writable_by_others_is_refused(self, cache: CacheDirectory) -> None:
        cache.write(info(cache))
        cache.registry(ID).chmod(0o666)
        with pytest.raises(InsecurePath):
            cache.read(ID)

    def test_readable_by_others_is_tightened(self, cache: CacheDirectory) -> None:
        cache.write(info(cache))
        cache.registry(ID).chmod(0o644)
        assert cache.read(ID) is not None
        assert mode(cache.registry(ID)) == 0o600

    def test_a_fifo_does_not_block(self, cache: CacheDirectory) -> None:
        fifo = cache.registry(ID)
        os.mkfifo(fifo)
        outcome: list[Exception] = []

        def read() -> None:
            try:
                cache.read(ID)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the test looks at it
                outcome.append(exc)

        thread = threading.Thread(target=read)
        thread.start()
        thread.join(3)
        blocked = thread.is_alive()
        if blocked:
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))  # lets the reader go on
        thread.join()
        assert not blocked
        assert isinstance(outcome[0], InsecurePath)

    def test_only_project_ids_are_listed(self, cache: CacheDirectory) -> None:
        for name in (
            "active-daemons.json",
            f"{ID}.json",
            f"{ID}.lock",
            f"{ID}.sock",
            "0123456789ABCDEF.json",
            "0123456789abcde.json",
            "0123456789abcdef0.json",
            ".0123456789abcdef.json",
        ):
            (cache.path / name).touch()
        assert list(cache.project_ids()) == [ID]


class TestSocketPath:
    def test_beside_the_registry(self, cache: CacheDirectory) -> None:
        assert cache.ipc_path(ID) == str(cache.path / f"{ID}.sock")

    def test_too_long(self, short_dir: Path) -> None:
        cache = CacheDirectory(short_dir / ("é" * 60))
        path = Path(cache.ipc_path(ID))
        assert len(os.fsencode(path)) <= SOCKET_PATH_BYTES
        assert mode(path.parent) == 0o700
        assert cache.ipc_path(ID) == str(path)
        assert cache.ipc_path("f" * 16) != str(path)
        other = CacheDirectory(short_dir / ("è" * 60))
        assert other.ipc_path(ID) != str(path)

    def test_the_boundary(self, short_dir: Path) -> None:
        rest = len(f"/mock-mcp/{ID}.sock")
        for size in (SOCKET_PATH_BYTES, SOCKET_PATH_BYTES + 1):
            base = short_dir / ("b" * (size - rest - len(os.fsencode(short_dir)) - 1))
            path = CacheDirectory(base).ipc_path(ID)
            assert (path == str(base / "mock-mcp" / f"{ID}.sock")) is (size == SOCKET_PATH_BYTES)


def test_parsed_contracts_are_kept_where_that_can_be_done_in_private(tmp_path: Path) -> None:
    assert contract_cache(tmp_path) == tmp_path / "mock-mcp" / "contracts"
    (tmp_path / "file").touch()
    assert contract_cache(tmp_path / "file") is None
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap" / "mock-mcp").symlink_to(tmp_path)
    assert contract_cache(tmp_path / "trap") is None
