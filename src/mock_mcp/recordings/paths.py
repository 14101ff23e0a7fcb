"""Where the recording of a test, or of a fixture scope, lives: one name for one test, everywhere.

``<test dir>/__mocks__/<module>/<test>.json``. A name that every file system takes as it is
(``test_pay.json``, ``TestCart.test_add.json``, ``test_pay[eur]`` as ``test_pay-eur.json``) is kept;
any other is made safe and marked with ``~`` and a hash of the exact name, so two tests never share
a file: not with odd parameters, not on a file system that ignores case, not when names are cut.
The case of a class is kept without a hash, because that is how people look for it; two classes
that differ only in case are told apart by the test id inside the file (`store`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = [
    "DIRECTORY",
    "Place",
    "Scope",
    "locate",
    "locate_scope",
    "module_of",
    "names_at",
    "names_of",
]

DIRECTORY = "__mocks__"
STEM_CHARS = 100
"""Longest file name without extension: leaves room for sidecar suffixes and long directories."""

Scope = Literal["class", "module", "package", "session"]

_CLASS = re.compile(r"[A-Z][A-Za-z0-9_]*")
_TEST = re.compile(r"(?P<name>[a-z][a-z0-9_]*)(?:\[(?P<parameters>[a-z0-9_-]+)\])?")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.]+")
_HASH_LIKE = re.compile(r"[0-9a-f]{16}")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices, whatever their extension."""


class Place(NamedTuple):
    """The file of a recording, and the id of its test or scope as the file states it.

    The id begins with the name of the test's file, not with its directories: it stays the same
    wherever pytest is started and when a directory is moved.
    """

    file: str
    test: str

    @property
    def path(self) -> Path:
        """The file as a path: made when it is asked for, which is not for every test."""
        return Path(self.file)


def locate(test_file: Path, names: Sequence[str]) -> Place:
    """Return where the recording of a test lives.

    Args:
        test_file: The test's file.
        names: Its classes, outermost first, and its name with parameters (see `names_of`).
    """
    name, directory = _module(os.fspath(test_file))
    return Place(f"{directory}{os.sep}{_stem(names)}.json", "::".join([name, *names]))


def locate_scope(
    scope: Scope, where: Path, classes: Sequence[str] = (), *, fixture: str | None = None
) -> Place:
    """Return where the recording of the calls that a scope's fixtures make lives.

    Args:
        scope: The scope of the fixture.
        where: The test's file for a class or module; for a package its directory, for the session
            the root directory of the tests.
        classes: For a class: its name, outer classes first.
        fixture: The fixture, with its parameter (``client[eur]``): each has a file of its own, so
            it replays whichever of them run.
    """
    if scope == "class":
        stem = _stem(classes, prefix="_class.")
        name, directory = _module(os.fspath(where))
        test = "::".join([name, *classes])
    elif scope == "module":
        stem = "_module"
        test, directory = _module(os.fspath(where))
    else:
        stem, directory, test = f"_{scope}", str(where / DIRECTORY), scope
    if fixture is not None:
        stem = _stem([fixture], prefix=f"{stem}.", plain=_plain((), fixture))
    return Place(f"{directory}{os.sep}{stem}.json", test)


def names_of(node_id: str) -> tuple[str, list[str]]:
    """Return the file, and the names below it, of a pytest node id.

    ``"t/test_a.py::TestB::test_c[x::y]"`` gives ``("t/test_a.py", ["TestB", "test_c[x::y]"])``.
    """
    file, _, rest = node_id.partition("::")
    name, bracket, parameters = rest.partition("[")
    names = name.split("::") if name or bracket else []
    if names:
        names[-1] += bracket + parameters
    return file, names


def names_at(path: Path) -> list[str] | None:
    """Return the names of the test, or class of a fixture, whose recording would lie at a path.

    The last one is without parameters. None where the file's name does not tell: it is marked with
    a hash.
    """
    stem = path.name.removesuffix(".json")
    if "~" in stem:
        return None
    scope, *names = stem.split(".")
    if scope in ("_class", "_module"):
        return names[:-1]
    return [*stem.partition("-")[0].split(".")]


def module_of(directory: Path) -> Path | None:
    """Return the test file whose recordings lie in a directory, None when there is none."""
    tests = directory.parent.parent
    found = (tests / f"{directory.name}.py", tests / directory.name)
    return next((file for file in found if file.is_file()), None)


@lru_cache(maxsize=64)
def _module(test_file: str) -> tuple[str, str]:
    """Return the name of a test's file, and the directory of its recordings."""
    path = Path(test_file)
    module = path.stem if path.suffix == ".py" else path.name
    return path.name, str(path.parent / DIRECTORY / module)


def _stem(names: Sequence[str], prefix: str = "", plain: str | None = None) -> str:
    *classes, test = names
    if plain is None:
        plain = _plain(classes, test) if not prefix else _plain(names, None)
    if plain is not None and len(prefix + plain) <= STEM_CHARS:
        return prefix + plain
    exact = "::".join(names)
    digest = hashlib.sha256(exact.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    readable = prefix + _UNSAFE.sub("-", ".".join(names)).strip("-.")
    if _DEVICE.fullmatch(readable):
        readable = f"-{readable}"
    return f"{readable[: STEM_CHARS - 11]}~{digest}"


def _plain(classes: Sequence[str], test: str | None) -> str | None:
    """Return the names joined, when no other names give the same text; else None."""
    if not all(_CLASS.fullmatch(name) and not _DEVICE.fullmatch(name) for name in classes):
        return None
    if test is None:
        return ".".join(classes)
    found = _TEST.fullmatch(test)
    if found is None or _DEVICE.fullmatch(test) or _HASH_LIKE.fullmatch(test):
        return None
    parameters = found["parameters"]
    last = found["name"] if parameters is None else f"{found['name']}-{parameters}"
    return ".".join([*classes, last])
