"""Fixtures of the tests in which things go wrong."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.place import Place, descriptors
from support.script import Script
from support.ws import eventually

collect_ignore_glob = ["*"] if sys.platform == "win32" else []


@pytest.fixture
def place(project: Path, cache_dir: Path) -> Place:
    return Place(project, cache_dir)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random, and the same in every run: a test's name is its seed."""
    return random.Random(request.node.nodeid)


@pytest.fixture
def no_leak() -> Iterator[None]:
    """No descriptor and no thread of a client stays."""
    before = descriptors()
    yield
    eventually(lambda: descriptors() <= before)


@pytest.fixture
def script(place: Place) -> Iterator[Callable[[str], Script]]:
    """Start a test process that runs some code."""
    scripts: list[Script] = []

    def start(code: str) -> Script:
        scripts.append(Script(place.root, place.cache_dir, code))
        return scripts[-1]

    yield start
    for each in scripts:
        each.close()
