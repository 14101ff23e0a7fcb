"""A file is read with care, and several are written or none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mock_mcp.setup import files
from mock_mcp.setup.errors import SetupError
from mock_mcp.setup.files import Change

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="permissions and links of POSIX")


def test_a_file_is_read_and_a_missing_one_is_none(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"x")
    assert files.read(tmp_path / "a", tmp_path) == b"x"
    assert files.read(tmp_path / "b" / "c", tmp_path) is None


def link(path: Path) -> None:
    path.with_name("real").write_bytes(b"{}")
    path.symlink_to("real")


def linked_directory(path: Path) -> None:
    path.parent.rmdir()
    path.parent.with_name("elsewhere").mkdir()
    path.parent.symlink_to("elsewhere")


def read_only(path: Path) -> None:
    path.write_bytes(b"{}")
    path.chmod(0o444)


def read_only_directory(path: Path) -> None:
    path.parent.chmod(0o555)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(files.MAX_BYTES + 1)


@POSIX
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (link, "is a symbolic link"),
        (linked_directory, "is no directory of its own"),
        (read_only, "is read-only"),
        (read_only_directory, "is read-only"),
        (huge, "is larger than"),
        (Path.mkdir, "is not a regular file"),
        (os.mkfifo, "is not a regular file"),
    ],
)
def test_what_cannot_be_changed_exactly_is_refused(tmp_path: Path, make, reason):
    path = tmp_path / "d" / "mcp.json"
    path.parent.mkdir()
    make(path)
    try:
        with pytest.raises(SetupError, match=reason) as caught:
            files.read(path, tmp_path)
        assert caught.value.file == str(path)
        assert "nothing was changed" in caught.value.reason
    finally:
        path.parent.chmod(0o755)


def test_changes_are_made_and_permissions_kept(tmp_path: Path):
    old, new, gone = tmp_path / "old", tmp_path / "d" / "new", tmp_path / "e" / "gone"
    old.write_bytes(b"1")
    old.chmod(0o640)
    gone.parent.mkdir()
    gone.write_bytes(b"2")
    files.apply(
        [
            Change(old, b"1", b"11"),
            Change(new, None, b"3"),
            Change(gone, b"2", None, (gone.parent, tmp_path)),
        ]
    )
    assert (old.read_bytes(), new.read_bytes()) == (b"11", b"3")
    if os.name == "posix":
        mask = os.umask(0)
        os.umask(mask)
        assert (_mode(old), _mode(new)) == (0o640, 0o666 & ~mask)
    assert not gone.parent.exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["d", "old"]


def test_what_changed_meanwhile_is_kept_and_the_rest_undone(tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"1")
    second.write_bytes(b"somebody else's")
    with pytest.raises(SetupError, match="changed meanwhile"):
        files.apply([Change(first, b"1", b"11"), Change(second, b"2", b"22")])
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"somebody else's")


def test_a_write_that_fails_undoes_those_before_it(tmp_path: Path):
    first = tmp_path / "first"
    (tmp_path / "file").write_bytes(b"")
    places = (first, tmp_path / "d" / "x", tmp_path / "file" / "x")
    with pytest.raises(SetupError, match="cannot be written"):
        files.apply([Change(place, None, b"1") for place in places])
    assert not first.exists()
    assert not list(tmp_path.rglob("x"))
    assert not list(tmp_path.glob(".*"))


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777
