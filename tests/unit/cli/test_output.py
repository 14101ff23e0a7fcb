"""Commands whose output is closed, full, read by nobody, or of another encoding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mock_mcp.runtime.project import compute_project_id
from support.daemons import environment
from support.ws import HANG_S

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="descriptors and devices of POSIX")
NAME = "prœjet é 中 🦊"


@pytest.fixture
def root(project: Path) -> Path:
    """A project whose path is not ASCII."""
    directory = project / NAME
    directory.mkdir()
    return directory


def run(
    cache_dir: Path, *arguments: object, shell: str = "", encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    """Run a command, by a shell if there is a line for it; ``encoding`` is that of its output."""
    command = [sys.executable, "-m", "mock_mcp", *map(str, arguments)]
    if shell:
        command = ["/bin/sh", "-c", shell, "sh", *command]
    return subprocess.run(
        command,
        env=environment(cache_dir, {"PYTHONIOENCODING": encoding}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding=encoding,
        timeout=HANG_S,
    )


@POSIX
@pytest.mark.parametrize(
    ("arguments", "code"), [(["status"], 3), (["stop"], 3), (["status", "--json"], 3), (["-V"], 0)]
)
def test_a_closed_output_changes_nothing(
    project: Path, cache_dir: Path, arguments: list[str], code: int
) -> None:
    where = [] if arguments == ["-V"] else ["--project-root", project]
    ended = run(cache_dir, *arguments, *where, shell='"$@" >&-')
    assert (ended.returncode, ended.stderr) == (code, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")  # noqa: PTH110
@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["daemon"], ["version"]])
def test_an_output_that_takes_nothing_is_one_line(
    project: Path, cache_dir: Path, arguments: list[str]
) -> None:
    where = [] if arguments == ["version"] else ["--project-root", project]
    ended = run(cache_dir, *arguments, *where, shell='"$@" >/dev/full')
    assert ended.returncode == 1
    assert ended.stderr == "mock-mcp: [Errno 28] No space left on device\n"
    left = {path.name for path in cache_dir.rglob("*")}
    assert not left & {f"{compute_project_id(project)}.{end}" for end in ("json", "sock")}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_any_name_can_be_printed(root: Path, cache_dir: Path, encoding: str) -> None:
    where = ["--project-root", root]
    ended = run(cache_dir, "status", *where, encoding=encoding)
    assert (ended.returncode, ended.stderr) == (3, "")
    assert "\\u4e2d" in ended.stdout
    ended = run(cache_dir, "status", "--json", *where, encoding=encoding)
    assert json.loads(ended.stdout)["projectRoot"] == str(root)


def test_what_the_encoding_has_is_not_escaped(root: Path, cache_dir: Path) -> None:
    ended = run(cache_dir, "status", "--project-root", root)
    assert NAME in ended.stdout


@POSIX
def test_all_daemons_are_shown_from_a_directory_that_is_gone(
    project: Path, cache_dir: Path
) -> None:
    gone = project / "gone"
    gone.mkdir()
    ended = run(cache_dir, "status", "--all", shell=f'cd {gone} && rmdir {gone} && "$@"')
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "No daemon is running.\n", "")
