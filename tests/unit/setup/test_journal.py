"""What was done to a file, and who may read it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.setup.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(CacheDirectory(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"abc", b"abXc"), (b"aa", b"aaa"), (b"x", b""), ("ü".encode(), "öü".encode()), (b"", b"1")],
)
def test_a_change_is_undone_to_the_byte(
    journal: Journal, tmp_path: Path, before: bytes, after: bytes
) -> None:
    path = tmp_path / "file"
    journal.put(path, before, after, ())
    record = journal.get(path)
    assert record is not None
    assert record.holds(after)
    assert not record.holds(before)
    assert record.original(after) == before
    journal.drop(path)
    assert journal.get(path) is None


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_what_stood_in_a_file_is_nobody_elses_to_read(journal: Journal, tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        journal.put(tmp_path / "file", b"a secret", b"", ())
    finally:
        os.umask(mask)
    assert (tmp_path / "cache/mock-mcp/init").stat().st_mode & 0o077 == 0
