"""The examples are what they say: copied elsewhere, their tests pass on their recordings alone."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from support.daemons import environment

HANG_S = 120
ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/pyproject.toml"))


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def missing(example: Path) -> list[str]:
    """Return what an example requires that is not installed."""
    lines = (example / "requirements.txt").read_text("utf-8").split("\n")
    names = [Requirement(line).name for line in lines if line and not line.startswith("#")]
    installed = {d.name.lower().replace("_", "-") for d in importlib.metadata.distributions()}
    return [name for name in names if name.lower().replace("_", "-") not in installed]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_replayed_as_it_is(example: Path, short_dir: Path, tmp_path: Path):
    if absent := missing(example):
        pytest.skip(f"{example.name} needs {', '.join(absent)}")
    copy, cache = tmp_path / example.name, tmp_path / "cache"
    shutil.copytree(example, copy, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    env = environment(cache, {"CI": "true", "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120"})
    env.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--block-network", "-rs"]
    before = files(copy)
    run = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, timeout=HANG_S)
    if "needs a browser" in run.stdout:
        pytest.skip(f"{example.name} needs a browser")
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"^\d+ replayed(, \d+ by hand)?$", run.stdout, re.MULTILINE), run.stdout
    assert " skipped" not in run.stdout
    assert files(copy) == before
    assert not list(cache.glob("mock-mcp/*.flock"))  # no daemon was started
