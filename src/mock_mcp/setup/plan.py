"""What ``mock-mcp init`` is about to change, worked out before anything is.

Every file is read and every change made on its text first; one that cannot be changed exactly
refuses the whole plan. What is shown to the user is what is then written.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mock_mcp.errors import ConfigurationError, MockMcpError
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.project import display_path
from mock_mcp.setup import files, jsonc, toml_text
from mock_mcp.setup.clients import CLIENTS, SERVER, System, Target, detect, target
from mock_mcp.setup.documents import find_documents
from mock_mcp.setup.errors import SetupError
from mock_mcp.setup.files import Change
from mock_mcp.setup.journal import Journal
from mock_mcp.setup.launcher import (
    REQUIREMENT,
    Command,
    Launcher,
    choose_launcher,
    command_of,
    make_command,
)

__all__ = ["Entry", "Plan", "Planner", "read_entry"]

_TABLE = ("tool", "mock-mcp")


@dataclass(frozen=True, slots=True)
class Entry:
    """The entry of mock-mcp in a client's file; ``command`` None if it starts something else."""

    fields: dict[str, Any]
    command: Command | None


@dataclass(slots=True)
class Plan:
    """The changes, and what to say about what is not changed."""

    changes: list[Change] = field(default_factory=list)
    replaced: set[Path] = field(default_factory=set)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def diff(self) -> Iterator[str]:
        """Yield the lines of a unified diff of all changes."""
        for change in self.changes:
            name = display_path(change.path)
            yield from difflib.unified_diff(
                _lines(change.before),
                _lines(change.after),
                "/dev/null" if change.before is None else name,
                "/dev/null" if change.after is None else name,
                lineterm="",
            )


def _targets_of(
    names: Sequence[str], system: System, root: Path | None, notes: list[str]
) -> list[Target]:
    """Return the files of the clients to configure: the named ones, else those in use.

    Raises:
        ConfigurationError: A client has no file of a project, or none is in use.
    """
    chosen = [CLIENTS[name] for name in dict.fromkeys(names)] or detect(system, root)
    found = []
    for client in chosen:
        place = target(client, system, root)
        if place is not None:
            found.append(place)
            continue
        why = (
            f"{client.label} has no configuration of a project: "
            f"`mock-mcp init --global --client {client.id}` adds it for all projects."
        )
        if names:
            raise ConfigurationError(why)
        notes.append(why)
    if not found:
        raise ConfigurationError(
            "No MCP client was found here; name yours with --client "
            f"({', '.join(CLIENTS)}), for all projects with --global."
        )
    return found


class Planner:
    """Makes plans.

    Args:
        system: Whose files.
        root: The project; None for the files of all projects.
        cache: Where is noted what was done.
    """

    def __init__(self, system: System, root: Path | None, cache: CacheDirectory) -> None:
        self._system = system
        self._root = root
        self._cache = cache
        self._journal = Journal(cache)

    # -- Setting up --------------------------------------------------------------------------

    def add(self, names: Sequence[str], asked: Launcher | None) -> Plan:
        """Plan to configure clients, and the project's contract.

        Raises:
            ConfigurationError: There is no such client, or no command for it.
            MissingExtra: The adapter could not run.
            SetupError: A file cannot be changed.
        """
        plan = Plan()
        plan.targets = _targets_of(names, self._system, self._root, plan.notes)
        for place in plan.targets:
            self._add_server(plan, place, asked)
        if self._root is not None:
            self._add_contract(plan, self._root)
        return plan

    def _add_server(self, plan: Plan, place: Target, asked: Launcher | None) -> None:
        content = files.read(place.path, place.base)
        entry = _entry(place, content)
        path = self._system.environ.get("PATH")
        if entry is not None and entry.command is None:
            raise SetupError(
                display_path(place.path),
                f"already has a server named {SERVER!r} that starts something else; rename or "
                "remove it, then try again. Nothing was changed.",
            )
        if entry is not None and entry.command is not None and _is_good(entry.command, asked):
            plan.notes.append(f"{place.label}: already there.")
            return
        command = make_command(choose_launcher(asked, path), place, path)
        after = _with_entry(place, content, entry, command)
        if after == content:
            plan.notes.append(f"{place.label}: already there.")
            return
        plan.changes.append(Change(place.path, content, after))
        if entry is not None:
            plan.replaced.add(place.path)
        if command.names_machine and place.root is not None:
            plan.notes.append(
                f"{place.label}: the command is a path of this machine, so do not commit the file; "
                "with uv installed, `--launcher uvx` writes one that works everywhere."
            )

    def _add_contract(self, plan: Plan, root: Path) -> None:
        path = root / "pyproject.toml"
        content = files.read(path, root)
        text = files.read_text(path, content or b"")
        data = _toml(path, text)
        tool = data.get("tool", {})
        settings = tool.get("mock-mcp", {}) if isinstance(tool, dict) else None
        if not isinstance(settings, dict):
            raise SetupError(
                display_path(path), "[tool.mock-mcp] must be a table; nothing was changed."
            )
        if "openapi" in settings:
            plan.notes.append("pyproject.toml: names its OpenAPI documents already.")
            return
        found = find_documents(root, self._cache.contracts())
        plan.notes += [f"not registered: {problem}" for problem in found.problems]
        if not found.documents:
            plan.notes.append(
                "No OpenAPI document was found; once there is one, name it in pyproject.toml under "
                '[tool.mock-mcp]: openapi = ["openapi.json"].'
            )
            return
        documents = list(found.documents)
        try:
            if "mock-mcp" in tool:
                changed = toml_text.add_key(text, _TABLE, "openapi", documents)
            else:
                changed = toml_text.add_table(text, _TABLE, {"openapi": documents})
        except toml_text.CannotEdit:
            raise SetupError(
                display_path(path),
                "its table tool.mock-mcp has no header of its own; add openapi = "
                f"{toml_text.write_value(documents)} to it by hand. Nothing was changed.",
            ) from None
        plan.changes.append(Change(path, content, files.encode_like(content, changed)))

    # -- Undoing it --------------------------------------------------------------------------

    def remove(self, names: Sequence[str]) -> Plan:
        """Plan to take away what `add` wrote.

        A file that is still as it was left is restored exactly; from one that was edited since,
        only the server's entry is taken.

        Raises:
            SetupError: A file cannot be changed.
        """
        plan = Plan()
        for client in [CLIENTS[name] for name in dict.fromkeys(names)] or CLIENTS.values():
            place = target(client, self._system, self._root)
            if place is not None:
                self._remove_server(plan, place)
        if self._root is not None and not names:
            self._remove_contract(plan, self._root)
        return plan

    def _remove_server(self, plan: Plan, place: Target) -> None:
        content = files.read(place.path, place.base)
        if content is None or self._restore(plan, place.path, content):
            return
        entry = _entry(place, content)
        if entry is None:
            return
        if entry.command is None:
            plan.notes.append(
                f"{place.label}: its server {SERVER!r} starts something else; it stays."
            )
            return
        text = files.read_text(place.path, content)
        keys = (place.client.key, SERVER)
        try:
            if place.client.form == "json":
                text = jsonc.remove_member(text, keys)
            else:
                text = toml_text.remove_table(text, keys)
        except (jsonc.Malformed, toml_text.CannotEdit) as error:
            raise _wrong(place.path, error) from None
        plan.changes.append(Change(place.path, content, files.encode_like(content, text)))

    def _remove_contract(self, plan: Plan, root: Path) -> None:
        path = root / "pyproject.toml"
        content = files.read(path, root)
        if content is None or self._restore(plan, path, content):
            return
        record = self._journal.get(path)
        after = record.without(content) if record is not None else None
        if after is not None:
            plan.changes.append(Change(path, content, after))
        elif b"mock-mcp" in content:
            plan.notes.append("pyproject.toml: what it says of mock-mcp was edited; it stays.")

    def _restore(self, plan: Plan, path: Path, content: bytes) -> bool:
        record = self._journal.get(path)
        if record is None or not record.holds(content):
            return False
        made = tuple(Path(each) for each in reversed(record.directories))
        plan.changes.append(Change(path, content, record.original(content), made))
        return True

    # -- Writing -----------------------------------------------------------------------------

    def carry_out(self, plan: Plan, *, removing: bool = False) -> None:
        """Write a plan's changes, all or none, and note them.

        Raises:
            SetupError: One cannot be written; nothing is changed.
        """
        made = {change.path: files.missing_directories(change.path) for change in plan.changes}
        files.apply(plan.changes)
        for change in plan.changes:
            if removing or change.after is None:
                self._journal.drop(change.path)
                continue
            before, directories = change.before, tuple(map(display_path, made[change.path]))
            if change.path in plan.replaced:
                record = self._journal.get(change.path)
                if record is None or before is None or not record.holds(before):
                    self._journal.drop(change.path)  # what was there first is not known
                    continue
                before, directories = record.original(before), record.directories
            self._journal.put(change.path, before, change.after, directories)


# -- Entries ----------------------------------------------------------------------------------


def read_entry(place: Target) -> Entry | None:
    """Return the entry of mock-mcp in a client's file; None if there is none.

    Raises:
        SetupError: The file cannot be read or is malformed.
    """
    try:
        content = place.path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error})"
        raise SetupError(display_path(place.path), reason) from None
    return _entry(place, content)


def _entry(place: Target, content: bytes | None) -> Entry | None:
    text = files.read_text(place.path, content or b"")
    if place.client.form == "toml":
        data: Any = _toml(place.path, text)
    else:
        try:
            root = jsonc.parse(text)
        except jsonc.Malformed as error:
            raise _wrong(place.path, error) from None
        data = {} if root is None else root.data
    where = "$"
    for key in (place.client.key, SERVER):
        if not isinstance(data, dict):
            reason = "must be an object; nothing was changed."
            raise SetupError(display_path(place.path), reason, path=where)
        if key not in data:
            return None
        data, where = data[key], f"{where}.{key}"
    if not isinstance(data, dict):
        raise SetupError(
            display_path(place.path), "must be an object; nothing was changed.", path=where
        )
    return Entry(data, command_of(data.get("command"), data.get("args", [])))


def _is_good(command: Command, asked: Launcher | None) -> bool:
    """Return whether an entry that is there may stay: whoever wrote it, it does what is wanted."""
    if asked is not None and command.launcher != asked:
        return False
    if command.requirement is not None:
        return command.requirement == REQUIREMENT
    return not command.names_machine or Path(command.program).exists()


def _with_entry(
    place: Target, content: bytes | None, entry: Entry | None, command: Command
) -> bytes:
    text = files.read_text(place.path, content or b"")
    keys = (place.client.key, SERVER)
    fields = {"command": command.program, "args": list(command.arguments)}
    try:
        if place.client.form == "toml":
            if entry is not None:
                ours = {"command", "args", *place.client.fields}
                if set(entry.fields) - ours:
                    raise toml_text.CannotEdit("has settings of its own; change it by hand")
                text = toml_text.remove_table(text, keys)
            values = {**fields, "args": tuple(command.arguments), **place.client.fields}
            text = toml_text.add_table(text, keys, values)
        elif entry is None:
            text = jsonc.set_member(text, keys, {**place.client.fields, **fields})
        else:
            for name, value in fields.items():
                if entry.fields.get(name) != value:
                    text = jsonc.set_member(text, (*keys, name), value)
    except (jsonc.Malformed, toml_text.CannotEdit) as error:
        raise _wrong(place.path, error) from None
    return files.encode_like(content, text)


def _toml(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SetupError(display_path(path), f"is no TOML: {error}; nothing was changed.") from None


def _wrong(path: Path, error: jsonc.Malformed | toml_text.CannotEdit) -> MockMcpError:
    line = error.line if isinstance(error, jsonc.Malformed) else None
    return SetupError(display_path(path), f"{error}; nothing was changed.", line=line)


def _lines(content: bytes | None) -> list[str]:
    return [] if content is None else content.decode("utf-8", "replace").splitlines()
