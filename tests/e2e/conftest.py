"""Fixtures of the tests that run commands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.command import Run, run_module


@pytest.fixture
def run(project: Path, cache_dir: Path) -> Run:
    """Run a module in the project's directory, or in ``cwd``."""

    def run(*arguments: str, cwd: Path = project) -> subprocess.CompletedProcess[str]:
        return run_module(cwd, cache_dir, *arguments)

    return run
