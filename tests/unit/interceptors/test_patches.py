from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mock_mcp.interceptors.patches import ImportWatch, Patches


class Base:
    def inherited(self) -> str:
        return "inherited"


class Owner(Base):
    def own(self) -> str:
        """Documented."""
        return "own"


def shout(original: Any) -> Any:
    return lambda self: original(self).upper()


def test_undo_is_exact() -> None:
    before = dict(vars(Owner))
    patches = Patches()
    patches.replace(Owner, "own", shout)
    patches.replace(Owner, "inherited", shout)
    assert (Owner().own(), Owner().inherited()) == ("OWN", "INHERITED")
    assert Base().inherited() == "inherited"
    assert (Owner.own.__name__, Owner.own.__doc__) == ("own", "Documented.")
    patches.undo()
    assert dict(vars(Owner)) == before


def test_what_somebody_replaced_later_is_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    patches = Patches()
    patches.replace(Owner, "own", shout)
    monkeypatch.setattr(Owner, "own", lambda self: "theirs")
    patches.undo()
    assert Owner().own() == "theirs"
    monkeypatch.undo()
    monkeypatch.delattr(Owner, "own")
    monkeypatch.undo()


def test_what_was_undone_can_be_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(vars(Owner))
    calls: list[int] = []
    patches = Patches()
    patches.replace(Owner, "own", shout)
    patches.replace(Owner, "inherited", shout)
    patches.at_undo(lambda: calls.append(1))
    replaced = dict(vars(Owner))
    patches.undo()
    assert patches.redo()
    assert dict(vars(Owner)) == replaced
    patches.undo()
    assert dict(vars(Owner)) == before
    assert calls == [1, 1]


@pytest.mark.parametrize("change", ["own", "inherited", "class"])
def test_nothing_is_done_again_where_anything_is_new(
    monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    patches = Patches()
    patches.replace(Owner, "own", shout)
    patches.replace(Owner, "inherited", shout)
    patches.undo()
    if change == "own":
        monkeypatch.setattr(Owner, "own", lambda self: "theirs")
    elif change == "inherited":
        monkeypatch.setattr(Base, "inherited", lambda self: "theirs")
    else:
        monkeypatch.setattr(sys.modules[__name__], "Owner", type("Owner", (Base,), {}))
    before = dict(vars(Owner))
    assert not patches.redo()
    assert dict(vars(Owner)) == before


def test_undo_calls_back_once() -> None:
    calls: list[int] = []
    patches = Patches()
    patches.at_undo(lambda: calls.append(1))
    patches.undo()
    patches.undo()
    assert calls == [1]


@pytest.fixture
def module_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that can be imported, and is not yet."""
    name = "mock_mcp_watched_module"
    (tmp_path / f"{name}.py").write_text("import inspect\nVALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_an_import_is_seen_once_it_is_done(module_name: str) -> None:
    seen: list[tuple[str, int]] = []

    def imported(name: str, module: ModuleType) -> None:
        seen.append((name, module.VALUE))

    watch = ImportWatch(frozenset({module_name}), imported)
    before = list(sys.meta_path)
    watch.install()
    try:
        module = importlib.import_module(module_name)
        importlib.import_module(module_name)
        assert seen == [(module_name, 1)]
        importlib.reload(module)
        assert len(seen) == 2
    finally:
        watch.remove()
    assert sys.meta_path == before
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__
    assert type(module.__loader__).__module__.startswith("_frozen_importlib")


def test_a_module_that_does_not_exist_still_does_not(module_name: str) -> None:
    watch = ImportWatch(frozenset({"mock_mcp_no_such_module"}), lambda name, module: None)
    watch.install()
    try:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("mock_mcp_no_such_module")
    finally:
        watch.remove()
