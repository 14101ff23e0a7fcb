"""The work of the plugin, registered when the first mocked test is collected.

A test's scope is installed from the beginning of its set-up to the end of its tear-down; that of a
shared fixture (`shared`) on top of it, while the fixture is set up and torn down. Whether a test
has passed is read from its report, which is also right for unittest and subtests; its recording is
written at the end of its tear-down.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Collection, Generator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from mock_mcp.errors import ConfigurationError, MockMcpError
from mock_mcp.exchange import HostRules, MocksNothing
from mock_mcp.interceptors import Installed, install, keep_hooks
from mock_mcp.pytest_plugin import BLOCKS, WORKER, is_mocked
from mock_mcp.pytest_plugin.failures import presented, presented_again, shorten, swallowed
from mock_mcp.pytest_plugin.projects import Projects
from mock_mcp.pytest_plugin.report import Report, as_typed
from mock_mcp.pytest_plugin.responder import ResponderProcess
from mock_mcp.pytest_plugin.settings import settings_of
from mock_mcp.pytest_plugin.shared import SharedScope, draft_of, names_of, place_of
from mock_mcp.pytest_plugin.waiting import WaitingDisplay
from mock_mcp.real_files import on_real_files, real_files
from mock_mcp.recordings.miss import repair_command
from mock_mcp.recordings.paths import Place, locate
from mock_mcp.responders.errors import ResponderUnusable
from mock_mcp.runtime.cache import default_cache_dir
from mock_mcp.runtime.locks import FileLock
from mock_mcp.runtime.project import Project
from mock_mcp.scope import LazyClient, Scope, resolve_mode

__all__ = ["MockedSession"]


class MockedSession:
    """One pytest process with mocked tests.

    Raises:
        pytest.UsageError: The project's settings cannot be used.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        # A worker of xdist reports to its controller, which speaks, and removes what is unused.
        workerinput = getattr(config, "workerinput", {})
        worker = self._worker = workerinput.get("workerid")
        told = workerinput.get(WORKER, {})
        self._drafts = Path(told["drafts"]) if told else None
        self._project = Project.resolve(None, config.rootpath)
        self._projects = Projects(self._project)
        if worker is None:  # a worker can only fail its tests
            try:
                self._projects.of(str(self._project.root))
            except ConfigurationError as exc:
                raise pytest.UsageError(exc.message) from None
        self._run = told["run"] if told else uuid.uuid4().hex
        cache_dir = _cache_dir()
        self._client = LazyClient(
            project_root=self._project.root,
            run_id=_run_id(self._run, worker),
            timeout_s=None,
            cache_dir=cache_dir,
        )
        self._scopes: dict[pytest.Item, Scope] = {}
        self._installed: dict[pytest.Item, Installed] = {}
        self._hooks: Installed | None = None
        self._passed: set[pytest.Item] = set()
        self._failed: set[str] = set()
        self._raised: dict[pytest.Item, BaseException] = {}
        self._presented: WeakKeyDictionary[MockMcpError, str] = WeakKeyDictionary()
        self._shared: dict[Path, SharedScope] = {}
        self._ended: list[SharedScope] = []
        self._mocked_fixtures: set[str] = set()
        self._report = Report(
            config.rootpath,
            config.invocation_params.dir,
            prunes=bool(config.getoption("mock_prune")),
            knows_all=_collects_whole_modules(config),
            whole=_whole_directories(config),
        )
        self._blocks = bool(config.getoption(BLOCKS, default=False))
        reporter = None if worker else config.pluginmanager.get_plugin("terminalreporter")
        self._display = reporter and WaitingDisplay(reporter, self._project, self._run, cache_dir)
        self._responder: ResponderProcess | None = None

    def collected(self, items: Collection[pytest.Item], *, all_run: bool) -> None:
        """Note what the collected tests use, those that were deselected too."""
        self._report.ran_all &= all_run
        for item in items:
            self._report.known.add(_place(item).path)
            if is_mocked(item):
                self._mocked_fixtures.update(getattr(item, "fixturenames", ()))

    def start_responder(self) -> None:
        """Start the responder of the command line.

        Raises:
            pytest.UsageError: It did not start.
        """
        option = self._config.getoption
        using = option("mock_responder")
        if resolve_mode(option("mock_mode"), asks_nobody=True) == "none":
            self._report.notes.append(
                f"responder {using} was not started: nothing is asked with --mock-mode=none, "
                "which holds where CI is set unless the command line names another mode"
            )
        elif not option("collectonly"):
            try:
                self._responder = ResponderProcess(using, self._project.root)
            except ResponderUnusable as exc:
                raise pytest.UsageError(exc.message) from None
            self._responder.serve(self._run)

    def watch(self, worker: str) -> dict[str, str]:
        """Say what waits in a worker of this controller; return what the worker is told.

        Returns:
            ``run``, how its run's id begins, and ``drafts``, a directory of this run.
        """
        if self._drafts is None:
            self._drafts = Path(tempfile.mkdtemp(prefix="mock-mcp-"))
        if self._display:
            self._display.start()
        if self._responder is not None:
            self._responder.serve(_run_id(self._run, worker))
        return {"run": self._run, "drafts": str(self._drafts)}

    def scope_of(self, item: pytest.Item) -> Scope:
        """Return the scope of the test that is being set up."""
        if item not in self._scopes:  # the fixture was asked for by name while the test runs
            self._report.knows_all &= bool(self._report.known)
            self._begin(item)
        return self._scopes[item]

    def has_begun(self, item: pytest.Item) -> bool:
        """Return whether the calls of the test that runs are mocked."""
        return item in self._scopes

    # -- The test ------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Install the test's scope before its fixtures are set up."""
        self._passed.discard(item)
        self._failed.discard(item.nodeid)
        if is_mocked(item):
            self._begin(item)
        elif self._blocks:
            settings = self._projects.of(str(item.path.parent)).settings
            rules = HostRules((), passthrough=settings.get("passthrough", ()))
            self._installed[item] = install(MocksNothing(rules.decide), why=_NOT_MOCKED)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Fail the test for what its code swallowed, too."""
        result = yield
        if item in self._scopes:
            self._scopes[item].verify()
        return result

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, Any, Any]:
        """Take the scope out after the fixtures are torn down; write the recording of a pass."""
        scope = self._scopes.get(item)
        told = len(scope.failures) if scope is not None else 0
        passed, torn = False, True
        try:
            result = yield
            torn = False
            if scope is not None and scope.failures[told:]:
                raise scope.failures[told]
            passed = item in self._passed and item.nodeid not in self._failed
        finally:
            self._keep_hooks(scope is not None and nextitem is not None and is_mocked(nextitem))
            if (installed := self._installed.pop(item, None)) is not None:
                installed.close()
            self._scopes.pop(item, None)
            if scope is not None:
                failed = torn or item.nodeid in self._failed
                self._finish(scope, passed=passed, failed=failed)
            self._finish_shared(spoiled=torn)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure that is reported by itself (a subtest's), and that a test was skipped."""
        if report.failed:
            self._failed.add(report.nodeid)
        elif report.skipped:
            self._report.ran_all = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note whether the test passed, and what its code swallowed."""
        report = yield
        error = self._raised.pop(item, None)
        if isinstance(error, MockMcpError):
            shorten(report, error)
        if call.when == "call" and report.passed:
            self._passed.add(item)
            asked = getattr(item, "_request", item)  # which knows what was asked for by name, too
            names = getattr(asked, "fixturenames", ())
            for shared in self._shared.values():
                shared.served = shared.served or shared.fixture in names
        scope = self._scopes.get(item)
        if scope is not None and call.when == "call" and report.failed:
            hidden = swallowed(scope.failures, error)
            if hidden:
                text = "\n".join(failure.message for failure in hidden)
                report.sections.append(("mock-mcp: what the code under test did not let out", text))
        return report

    @pytest.hookimpl(specname="pytest_runtest_makereport")
    def pytest_makereport_presented(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
        """Show errors of ours without the frames between; pytest has put in those of unittest."""
        error = call.excinfo.value if call.excinfo is not None else None
        if error is not None:
            self._raised[item] = error
        whole = self._config.getoption("fulltrace", default=False)
        if isinstance(error, MockMcpError) and not whole:
            first = self._presented.setdefault(error, item.nodeid)
            if first == item.nodeid:
                call.excinfo = presented(error, self._config.rootpath)
            else:
                call.excinfo = presented_again(error, first)

    # -- Fixtures that several tests share -----------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        """Give a shared fixture of mocked tests its own scope while it is set up and torn down."""
        item: pytest.Item = request._pyfuncitem  # noqa: SLF001 - request.node is the class or module
        name = fixturedef.argname
        if not (item in self._scopes or name in self._mocked_fixtures):
            return (yield)
        place = place_of(fixturedef, request, item, self._project.root)
        if place is None:
            return (yield)
        self._finish_shared(spoiled=False)
        with real_files():
            path = place.path
            self._report.known.add(path)
            shared = self._shared.get(path)
            if shared is None:
                shared = self._shared[path] = self._make_shared(place, fixturedef, request, item)
        shared.holders += 1
        # Finalizers run in reverse: this one after the fixture's own, the one below before it.
        installed: list[Installed] = []
        fixturedef.addfinalizer(lambda: self._end_fixture(path, installed))
        try:
            with shared.setting_up():
                result = yield
            shared.scope.verify()
        except BaseException:
            shared.spoiled = True
            raise
        fixturedef.addfinalizer(lambda: installed.append(install(shared.scope)))
        return result

    def _make_shared(
        self,
        place: Place,
        fixturedef: pytest.FixtureDef[Any],
        request: pytest.FixtureRequest,
        item: pytest.Item,
    ) -> SharedScope:
        name, doc = fixturedef.argname, getattr(fixturedef.func, "__doc__", None)
        draft = draft_of(place, self._drafts)
        scope = self._make_scope(item, place, request.node, fixture=name, doc=doc, draft=draft)
        lock = FileLock(draft.with_suffix(".lock")) if draft and scope.shares else None
        return SharedScope(scope, name, lock)

    def _end_fixture(self, path: Path, installed: list[Installed]) -> None:
        """Take the scope out after the fixture is torn down."""
        if installed:
            installed.pop().close()
        shared = self._shared[path]
        shared.holders -= 1
        if not shared.holders:
            self._ended.append(self._shared.pop(path))
        if not shared.spoiled:
            try:
                shared.scope.verify()
            except MockMcpError:
                shared.spoiled = True
                raise

    def _finish_shared(self, *, spoiled: bool) -> None:
        """Write the recordings of the fixtures that were torn down."""
        ended, self._ended = self._ended, []
        for shared in ended:
            scope = shared.scope
            if self._worker and scope.live and scope.file and scope.file.staged:
                self._report.really_asked(scope.file.path)
            self._finish(scope, passed=shared.passed and not spoiled, failed=True)

    # -- The end -------------------------------------------------------------------------------

    def pytest_deselected(self) -> None:
        """Note that not every test runs."""
        self._report.ran_all = False

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> Generator[None, Any, Any]:
        """Leave nothing installed and nobody waiting, and tell the controller."""
        try:
            return (yield)
        finally:
            for installed in self._installed.values():  # pytest was interrupted
                installed.close()
            self._installed.clear()
            self._keep_hooks(False)
            self._scopes.clear()
            self._report.ran_all &= exitstatus == pytest.ExitCode.OK
            try:
                self._finish_shared(spoiled=False)
            except MockMcpError as exc:
                self._report.notes.append(exc.message)
            if self._display:
                self._display.stop()
            self._report.corrected(self._client.corrected)
            self._client.close()
            if self._responder is not None:
                self._responder.stop()
                self._report.notes += self._responder.lines()
            if self._drafts is not None and not self._worker:
                shutil.rmtree(self._drafts, ignore_errors=True)
            if self._worker:
                output: Any = self._config  # which xdist gives a new attribute
                output.workeroutput[WORKER] = self._report.dump()

    def add_worker(self, output: Any) -> None:
        """Take what an xdist worker reports at its end."""
        self._report.add(output)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what was replayed, obtained and written, and what nobody needs any more."""
        lines = [] if self._worker else list(self._report.lines())
        if lines:
            terminalreporter.section("mock-mcp")
            for line in lines:
                terminalreporter.write_line(line)

    # -- Inside --------------------------------------------------------------------------------

    def _begin(self, item: pytest.Item) -> None:
        self._scopes[item] = scope = self._make_scope(
            item,
            _place(item),
            item,
            doc=getattr(getattr(item, "function", None), "__doc__", None),
        )
        self._installed[item] = install(scope)

    def _make_scope(
        self,
        item: pytest.Item,
        place: Place,
        node: pytest.Item | pytest.Collector,
        *,
        doc: str | None,
        draft: Path | None = None,
        **context: Any,
    ) -> Scope:
        """Return a scope for the calls of a test, or of a fixture of a class, module or more."""
        assert item.parent is not None
        project = self._projects.of(os.path.dirname(place.file))  # noqa: PTH120 - for each test
        settings = project.complete(settings_of(node, project.settings))
        node_id = f"{item.parent.nodeid}::{names_of(item)[-1]}"
        asks = settings.mode != "none" and settings.source == "ai"
        if asks and self._display:
            self._display.start()
        test = {"testFile": str(item.path), "testName": node_id, "doc": doc and doc.strip()}
        return Scope(
            place,
            settings,
            polices=project.polices,
            client=self._client if asks else None,
            repair=lambda source: repair_command(source, self._typed(item.path, node_id)),
            test=test | context,
            draft=draft,
        )

    def _keep_hooks(self, keep: bool) -> None:
        """Leave the hooks in place from one mocked test to the next; no other test finds them."""
        if keep and self._hooks is None:
            self._hooks = keep_hooks()
        elif not keep and self._hooks is not None:
            self._hooks.close()
            self._hooks = None

    def _typed(self, file: Path, node_id: str) -> str:
        """Return a node id as it is typed in the folder where pytest was started.

        The file is not read from the id, which begins with anything outside pytest's root.
        """
        _, separator, name = node_id.partition("::")
        return as_typed(file, self._config.invocation_params.dir) + separator + name

    @on_real_files
    def _finish(self, scope: Scope, *, passed: bool, failed: bool) -> None:
        self._report.count(scope, passed=passed, failed=failed)
        outcome = scope.finish(passed=passed, prune=self._report.prunes)
        assert scope.file is not None
        if outcome in ("written", "removed"):
            self._report.changed(scope.file.path, outcome)


def _cache_dir() -> Path | None:
    """Return where the daemon is looked for as the environment says now: tests change it."""
    try:
        return default_cache_dir()
    except MockMcpError:  # who asks is told
        return None


def _run_id(run: str, worker: str | None) -> str:
    return f"{run}-{worker}" if worker else run


def _place(item: pytest.Item) -> Place:
    return locate(item.path, names_of(item))


def _collects_whole_modules(config: pytest.Config) -> bool:
    """Return whether a recording that no collected test uses is used by none."""
    option = config.getoption
    return not (
        any("::" in argument for argument in config.args)
        or option("lf", default=False)
        or option("collectonly", default=False)
    )


def _whole_directories(config: pytest.Config) -> list[Path]:
    """Return the directories of which every test is collected."""
    if config.getoption("ignore") or config.getoption("ignore_glob"):
        return []
    if config.args_source is config.ArgsSource.TESTPATHS:
        return [config.rootpath]
    named = (config.invocation_params.dir / argument for argument in config.args)
    return [path for path in named if path.is_dir()]


_NOT_MOCKED = (
    "--block-network holds in every test, and this one is not mocked. Mark it with mock_mcp to "
    "mock its calls, or name the host in passthrough of [tool.mock-mcp] to let it reach the "
    "network."
)
