"""Fixtures that several tests share (class, module, package, session), each with its own scope.

The calls of such a fixture, while it is set up and torn down, are recorded in a file of its own,
which is told from the fixture alone: its scope, its name and its parameter. So it replays whichever
subset of the tests runs, in whichever worker. Its settings are those of its class, module or
project, never those of the test that happens to come first.

Workers of xdist set up the same fixture each for itself. While one obtains its answers the others
wait, and then get the same: else tests would be recorded with the ids that their own worker got,
and the fixture with those of another.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.interceptors import install
from mock_mcp.real_files import real_files
from mock_mcp.recordings.paths import Place, locate_scope
from mock_mcp.runtime.locks import FileLock
from mock_mcp.scope import Scope

__all__ = ["SharedScope", "draft_of", "names_of", "place_of"]

_SETUPS = ("_unittest_setUpClass_", "_xunit_setup_class_", "_xunit_setup_module_")
"""How the names begin that pytest gives to the fixtures it makes of such methods and functions."""


@dataclass(slots=True, eq=False)
class SharedScope:
    """The scope of a shared fixture.

    Attributes:
        scope: The scope.
        fixture: The fixture's name.
        holders: How many fixtures hold it: one that overrides another of its name shares it.
        lock: Held while the fixture is set up, where other workers want the same answers.
        served: Whether a test that used it has passed: then its recording is worth keeping.
        spoiled: Whether its set-up or tear-down failed.
    """

    scope: Scope
    fixture: str
    lock: FileLock | None = None
    holders: int = 0
    served: bool = False
    spoiled: bool = False

    @property
    def passed(self) -> bool:
        """Whether its recording may be written."""
        return self.served and not self.spoiled

    @contextlib.contextmanager
    def setting_up(self) -> Iterator[None]:
        """Let the scope answer; no other worker sets up the same fixture meanwhile.

        Raises:
            RecordingError: What was obtained cannot be left to the other workers.
        """
        lock, self.lock = self.lock, None  # a fixture of the same name may be set up meanwhile
        if lock is None:
            with install(self.scope):
                yield
            return
        with real_files():
            lock.acquire(math.inf)
        try:
            with install(self.scope):
                yield
            self.scope.publish()
        finally:
            with real_files():
                lock.release()


def draft_of(place: Place, drafts: Path | None) -> Path | None:
    """Return where workers leave for one another what they obtain for a fixture.

    Args:
        place: Where its recording lies.
        drafts: The directory of the run's drafts; None, or gone, where there are no other workers
            on this machine.
    """
    if drafts is None or not drafts.is_dir():
        return None
    return drafts / f"{hashlib.sha256(os.fsencode(place.path)).hexdigest()[:16]}.json"


_REPEATED = "__pytest_repeat_step_number"
"""The parameter by which pytest-repeat runs a test several times; its id is ``1-3`` of three."""


def names_of(item: pytest.Item) -> list[str]:
    """Return the names of a test below its file: its classes, outermost first, and its own.

    They are read from the collected tree: plugins append to node ids. The number that
    pytest-repeat gives to each repetition is left out: all replay one recording.
    """
    chain = item.listchain()
    below = next((n for n, node in enumerate(chain) if isinstance(node, pytest.File)), -1)
    names = [node.name for node in chain[below + 1 :]] or [item.name]
    step = getattr(getattr(item, "callspec", None), "params", {}).get(_REPEATED)
    if isinstance(step, int):
        names[-1] = re.sub(rf"(?:(\[)|-){step + 1}-\d+\]$", r"\1]", names[-1]).removesuffix("[]")
    return names


def place_of(
    fixturedef: pytest.FixtureDef[Any],
    request: pytest.FixtureRequest,
    item: pytest.Item,
    root: Path,
) -> Place | None:
    """Return where a fixture's recording lies; None when it is not shared.

    Args:
        fixturedef: The fixture.
        request: The request that sets it up.
        item: The test that asked first.
        root: Where the recordings of fixtures lie that the project does not define itself.
    """
    scope, name = fixturedef.scope, fixturedef.argname + _parameter(request)
    if name.startswith(_SETUPS):
        name = f"setup_{scope}"
    if scope == "function" or (scope == "class" and request.cls is None):
        return None  # the latter is set up for each function
    if scope == "class":
        return locate_scope("class", item.path, names_of(item)[:-1], fixture=name)
    if scope == "module":
        return locate_scope("module", item.path, fixture=name)
    defined = Path(inspect.getfile(inspect.unwrap(fixturedef.func)))
    # A run over several projects has the root of one: what lies above the test is no plugin either.
    own = defined.is_relative_to(root) or item.path.is_relative_to(defined.parent)
    beside = own and "site-packages" not in defined.parts
    return locate_scope(scope, defined.parent if beside else root, fixture=name)


def _parameter(request: pytest.FixtureRequest) -> str:
    if not hasattr(request, "param"):
        return ""
    value, index = request.param, getattr(request, "param_index", 0)
    return f"[{value if isinstance(value, str | int | float | None) else index}]"
