"""Replace attributes of other modules, now or when they are imported, and put all back exactly."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["ImportWatch", "Patches"]

_ABSENT: Any = object()
Replace = Callable[[Any], Callable[..., Any]]
"""Takes the original function and returns its replacement."""


class Patches:
    """A list of replaced attributes that can be undone, and done again as they were prepared."""

    def __init__(self) -> None:
        self._done: list[_Replaced] = []
        self._owners: dict[Any, tuple[str, str | None]] = {}
        self._at_undo: list[Callable[[], object]] = []
        self._is_applied = True

    def replace(self, owner: Any, name: str, make: Replace) -> None:
        """Replace a function of a class or module by what ``make`` returns for the original."""
        original = getattr(owner, name)
        replacement = functools.wraps(original)(make(original))
        found = vars(owner).get(name, _ABSENT)
        self._owners[owner] = _name_of(owner)
        self._done.append(_Replaced(owner, name, found, original, replacement))
        setattr(owner, name, replacement)

    def at_undo(self, action: Callable[[], object]) -> None:
        """Call ``action`` once everything is undone."""
        self._at_undo.append(action)

    def undo(self) -> None:
        """Put back every attribute as it was found, inherited ones by deletion.

        One that somebody replaced after us is left to them: ours lets every call through once
        nothing is installed.
        """
        if not self._is_applied:
            return
        self._is_applied = False
        _put_back(self._done)
        for action in self._at_undo:
            action()

    def redo(self) -> bool:
        """Do again what was undone; False, and nothing is done, when anything there is new."""
        for owner, (module, within) in self._owners.items():
            in_use = sys.modules.get(module)
            if (in_use if within is None else getattr(in_use, within, None)) is not owner:
                return False
        for index, (owner, name, found, original, replacement) in enumerate(self._done):
            own = vars(owner).get(name, _ABSENT)
            if own is not found or (own is not original and getattr(owner, name) is not original):
                _put_back(self._done[:index])
                return False
            setattr(owner, name, replacement)
        self._is_applied = True
        return True


class _Replaced(NamedTuple):
    """One attribute: what its owner had itself, what it was looked up as, and what it is now."""

    owner: Any
    name: str
    found: Any
    original: Any
    replacement: Any


def _put_back(replaced: Sequence[_Replaced]) -> None:
    """Give attributes back to their owners, the last first, but for those that others replaced."""
    for owner, name, found, _, replacement in reversed(replaced):
        if vars(owner).get(name) is not replacement:
            continue
        if found is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, found)


def _name_of(owner: Any) -> tuple[str, str | None]:
    """Return the module where a class is found, and its name there; for a module its own name."""
    is_class = isinstance(owner, type)
    return (owner.__module__, owner.__qualname__) if is_class else (owner.__name__, None)


class ImportWatch:
    """Call ``imported(name, module)`` whenever one of ``names`` has been imported.

    It finds nothing by itself: it asks the other finders and wraps the loader they give. The
    module sees its own loader, as without the watch.
    """

    def __init__(self, names: frozenset[str], imported: Callable[[str, ModuleType], None]) -> None:
        self._names = names
        self._imported = imported

    def install(self) -> None:
        """Begin to watch."""
        sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Stop watching."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that another finder has for a watched module."""
        if fullname not in self._names:
            return None
        for finder in list(sys.meta_path):
            if finder is self:
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    # Not derived from importlib.abc, whose import costs more than this package.
                    spec.loader = _WatchedLoader(spec.loader, self._imported)  # type: ignore[assignment]
                return spec
        return None


class _WatchedLoader:
    def __init__(self, loader: Any, imported: Callable[[str, ModuleType], None]) -> None:
        self._loader = loader
        self._imported = imported

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._imported(module.__name__, module)
