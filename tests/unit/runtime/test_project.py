"""The project's root and id."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from mock_mcp.errors import ConfigurationError
from mock_mcp.runtime.project import (
    Project,
    compute_project_id,
    display_path,
    resolve_project_root,
)


@pytest.mark.parametrize("marker", [".git", "pyproject.toml", "package.json"])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_the_nearest_marker_wins(tmp_path: Path, marker: str, kind: str) -> None:
    inner = tmp_path / "outer" / "inner"
    deep = inner / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "outer" / "pyproject.toml").touch()
    if kind == "file":
        (inner / marker).touch()  # .git is a file in a worktree
    else:
        (inner / marker).mkdir()
    assert resolve_project_root(deep) == inner
    assert resolve_project_root(deep / "test_x.py") == inner
    assert resolve_project_root(inner) == inner


def test_the_working_directory_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package.json").touch()
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path / "src")
    assert resolve_project_root() == tmp_path.resolve()
    assert Project.resolve().root == tmp_path.resolve()


def test_the_id_is_the_hash_of_the_real_path(tmp_path: Path) -> None:
    real = tmp_path / "réal"
    real.mkdir()
    link = tmp_path / "link"
    link.symlink_to(real)
    expected = hashlib.sha256(os.fsencode(real.resolve())).hexdigest()[:16]
    assert compute_project_id(real) == compute_project_id(link) == expected
    assert compute_project_id(str(real) + "/") == expected
    assert Project.resolve(link) == Project(real.resolve(), expected)


def test_the_order_argument_file_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("argument", "file", "cwd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path / "cwd")
    file = tmp_path / "file" / "test_x.py"
    assert Project.resolve(tmp_path / "argument", file).root.name == "argument"
    assert Project.resolve(None, file).root.name == "file"
    assert Project.resolve().root.name == "cwd"


def test_a_given_root_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "sub").mkdir()
    assert Project.resolve(tmp_path / "sub").root == (tmp_path / "sub").resolve()


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_root_that_is_no_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=name):
        Project.resolve(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on Unix only")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    Path(odd).mkdir()
    assert len(compute_project_id(odd)) == 16
    display_path(odd).encode()
