"""The work of the plugin, registered when the first mocked test is collected.

A test's scope is installed from the beginning of its set-up to the end of its tear-down. A fixture
that several tests share (class, module, package, session) has a scope of its own, on top of the
test's, while it is set up and torn down: its calls are recorded beside the tests' and replay
whichever of them runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.errors import MockMcpError
from mock_mcp.exchange import Decision, HostRules, HttpRequest, HttpResponse, NetworkBlocked, Origin
from mock_mcp.interceptors import Installed, install
from mock_mcp.pytest_plugin import WORKER_OUTPUT, is_mocked
from mock_mcp.pytest_plugin.settings import project_settings, settings_of
from mock_mcp.pytest_plugin.waiting import WaitingDisplay
from mock_mcp.recordings.miss import repair_command
from mock_mcp.recordings.paths import Place, locate, locate_scope, names_of
from mock_mcp.runtime.project import Project
from mock_mcp.scope import Client, Scope

__all__ = ["MockedSession"]


class MockedSession:
    """One pytest process with mocked tests."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._project = Project.resolve(None, config.rootpath)
        self._settings = project_settings(self._project.root)
        self._client = Client(project_root=self._project.root, timeout_s=None)
        self._scopes: dict[pytest.Item, Scope] = {}
        self._installed: dict[pytest.Item, Installed] = {}
        self._failed: set[pytest.Item] = set()
        self._shared: dict[Path, Scope] = {}
        self._spoiled: set[Path] = set()
        self._counts: Counter[str] = Counter()
        self._notes: list[str] = []
        self._known: set[Path] = set()
        self._block = bool(config.getoption("block_network"))
        self._prune = bool(config.getoption("mock_prune"))
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        self._display = WaitingDisplay(reporter, self._client, self._waiting)

    def collected(self, items: list[pytest.Item]) -> None:
        """Note which recordings the collected tests use, before any are deselected."""
        for item in items:
            place = self._place(item)
            self._known.add(place.path)
            directory = place.path.parent
            self._known.add(directory / "_module.json")
            classes = names_of(item.nodeid)[1][:-1]
            for depth in range(1, len(classes) + 1):
                self._known.add(locate_scope("class", item.path, classes[:depth]).path)
            for parent in item.path.parents:
                for scope in ("package", "session"):
                    self._known.add(parent / directory.parent.name / f"_{scope}.json")

    def scope_of(self, item: pytest.Item) -> Scope:
        """Return the scope of the test that is being set up."""
        return self._scopes[item]

    # -- The test ------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Install the test's scope before its fixtures are set up."""
        self._failed.discard(item)
        if is_mocked(item):
            self._scopes[item] = scope = self._make_scope(item)
            self._installed[item] = install(scope)
        elif self._block:
            self._installed[item] = install(_Blocked())
        try:
            return (yield)
        except BaseException:
            self._failed.add(item)
            raise

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Fail the test for what its code swallowed, too."""
        try:
            result = yield
            scope = self._scopes.get(item)
            if scope is not None:
                scope.verify()
        except BaseException:
            self._failed.add(item)
            raise
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Take the scope out after the fixtures are torn down; write the recording of a pass."""
        try:
            result = yield
        except BaseException:
            self._failed.add(item)
            raise
        finally:
            installed = self._installed.pop(item, None)
            if installed is not None:
                installed.close()
            scope = self._scopes.pop(item, None)
            if scope is not None:
                self._finish(scope, passed=item not in self._failed)
        return result

    # -- Fixtures that several tests share -----------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        """Give a shared fixture its own scope while it is set up and torn down."""
        item = getattr(request, "_pyfuncitem", None)
        if fixturedef.scope == "function" or item not in self._scopes:
            return (yield)
        place = self._shared_place(fixturedef.scope, request, item)
        scope = self._shared.get(place.path)
        if scope is None:
            scope = self._shared[place.path] = self._make_scope(item, place)
        # Finalizers run in reverse: this one after the fixture's own, the one below before it.
        removals: list[Installed] = []
        fixturedef.addfinalizer(lambda: removals.pop().close() if removals else None)
        try:
            with install(scope):
                result = yield
            scope.verify()
        except BaseException:
            self._spoiled.add(place.path)
            raise
        fixturedef.addfinalizer(lambda: removals.append(install(scope)))
        return result

    # -- The end -------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the shared recordings, disconnect, and tell the controller."""
        self._display.stop()
        for path, scope in self._shared.items():
            try:
                self._finish(scope, passed=path not in self._spoiled)
            except MockMcpError as exc:
                self._notes.append(exc.message)
        self._client.close()
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[WORKER_OUTPUT] = {
                "counts": dict(self._counts),
                "notes": self._notes,
                "known": [str(path) for path in self._known],
            }

    def add_worker(self, output: Any) -> None:
        """Take what an xdist worker reports at its end."""
        self._counts.update(output["counts"])
        self._notes += [note for note in output["notes"] if note not in self._notes]
        self._known.update(Path(path) for path in output["known"])

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what was replayed, obtained and written, and what nobody needs any more."""
        lines = [*_summary(self._counts), *self._notes, *self._orphans()]
        if lines:
            terminalreporter.section("mock-mcp")
            for line in lines:
                terminalreporter.write_line(line)

    # -- Inside --------------------------------------------------------------------------------

    def _place(self, item: pytest.Item) -> Place:
        return locate(item.path, names_of(item.nodeid)[1] or [item.name])

    def _shared_place(self, scope: Any, request: pytest.FixtureRequest, item: pytest.Item) -> Place:
        if scope == "session":
            return locate_scope("session", self._config.rootpath)
        if scope == "package":
            return locate_scope("package", item.path.parent)
        classes = names_of(item.nodeid)[1][:-1]
        if scope == "class" and request.cls is not None:
            return locate_scope("class", item.path, classes)
        return locate_scope("module", item.path)

    def _make_scope(self, item: pytest.Item, place: Place | None = None) -> Scope:
        doc = getattr(getattr(item, "function", None), "__doc__", None)
        return Scope(
            place or self._place(item),
            settings_of(item, self._settings),
            project=self._project,
            client=self._client,
            repair=repair_command(item.nodeid),
            test={
                "testFile": str(item.path),
                "testName": item.nodeid,
                "doc": doc and doc.strip(),
            },
        )

    def _finish(self, scope: Scope, *, passed: bool) -> None:
        for call in scope.calls:
            if call.source is not None:
                self._counts[call.source] += 1
        if passed and scope.file is not None:
            mode = scope.settings.mode
            if scope.file.exists() and mode not in ("all", "rewrite") and not self._prune:
                unused = len(scope.file.unused())
                if unused:
                    self._counts["unused"] += unused
                    self._notes.append(
                        f"{self._shown(scope.file.path)}: {unused} recorded "
                        f"call{'s were' if unused != 1 else ' was'} not made (--mock-prune removes)"
                    )
        outcome = scope.finish(passed=passed, prune=self._prune)
        if outcome in ("written", "removed") and scope.file is not None:
            self._counts["files"] += 1
            self._notes.append(f"{outcome} {self._shown(scope.file.path)}")

    def _shown(self, path: Path) -> str:
        root = self._config.rootpath
        return str(path.relative_to(root) if path.is_relative_to(root) else path)

    def _waiting(self) -> list[str]:
        """Return what waits for the assistant, as text."""
        scopes = (*self._scopes.values(), *self._shared.values())
        return [
            f"{call.method} {call.url}" for scope in scopes for call in list(scope.waiting.values())
        ]

    def _orphans(self) -> list[str]:
        from mock_mcp.recordings.survey import prune, survey

        if not self._known:
            return []
        found = survey(self._config.rootpath, self._known)
        lines = [error.message for error in found.unreadable]
        if self._prune:
            lines += [f"removed {self._shown(path)}" for path in prune(found)]
        else:
            lines += [
                f"{self._shown(orphan.path)}: {orphan.reason} (--mock-prune removes)"
                for orphan in found.orphans
            ]
        return lines


class _Blocked:
    """The exchange of a test that is not mocked, under ``--block-network``."""

    _rules = HostRules(())

    def decide(self, origin: Origin) -> Decision:
        return self._rules.decide(origin)

    def handle(self, request: HttpRequest) -> HttpResponse:
        raise AssertionError("nothing is mocked here")

    async def handle_async(self, request: HttpRequest) -> HttpResponse:
        raise AssertionError("nothing is mocked here")

    def blocked(self, error: NetworkBlocked) -> None:
        """The code under test has it; the test is not mocked and may expect it."""


def _summary(counts: Counter[str]) -> list[str]:
    words = {
        "recording": "replayed",
        "ai": "from the assistant",
        "example": "from the contract",
        "hand": "by hand",
        "unused": "unused",
        "files": "files written",
    }
    parts = [f"{counts[key]} {word}" for key, word in words.items() if counts[key]]
    return [", ".join(parts)] if parts else []
