"""Fixtures of every test: a project, a short private cache directory, daemons that end."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.limits import Limits
from support.daemons import DaemonProcess, ServedDaemon, kill_daemons, processes_of
from support.ws import eventually


@pytest.fixture(scope="session", autouse=True)
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have HTTP clients trust one certificate: loading all takes each of them 25 ms.

    No test calls a server that a known authority vouches for. Without certifi none of them is here.
    """
    try:
        certifi = importlib.import_module("certifi")
    except ModuleNotFoundError:
        yield
        return
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    end = "-----END CERTIFICATE-----\n"
    path.write_text(Path(certifi.where()).read_text("utf-8").partition(end)[0] + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C interrupt what tests start, though a shell has told its background jobs not to.

    And let workers of xdist that are done take tests from the others: the slow ones lie together.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if getattr(config.option, "dist", "no") == "load":
        config.option.dist = "worksteal"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Start three workers for two processors: they wait for processes a third of the time."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return (os.cpu_count() or 1) * 3 // 2


def pytest_collection_finish() -> None:
    """Leave what is imported and collected out of later collections of garbage.

    A test that looks for what was not closed collects it, and every pytest that is run inside this
    process does five times at its end: each took 0.1 s. Hypothesis is imported before, for it asks
    the collector who holds the random numbers that it shall manage.
    """
    with contextlib.suppress(ModuleNotFoundError):  # interception is also tested without it
        importlib.import_module("hypothesis")
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests measured, for docs/guarantees.md."""
    reports = [each for each in terminalreporter.stats.get("passed", []) if each.user_properties]
    for report in reports:
        figures = ", ".join(f"{name} {value}" for name, value in report.user_properties)
        terminalreporter.write_line(f"measured {report.nodeid}: {figures}")


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Note figures of a test by name; the summary of the run prints them."""

    def note(**figures: object) -> None:
        for name, value in figures.items():
            record_property(name, f"{value:.3g}" if isinstance(value, float) else value)

    return note


_TESTS: dict[str, str] = {}
"""Which test a project directory was made for."""


@pytest.fixture(scope="session")
def short_dir() -> Iterator[Path]:
    """A directory whose path is short enough for sockets; no process may outlive it."""
    directory = Path(tempfile.mkdtemp(prefix="mm", dir="/tmp" if sys.platform != "win32" else None))
    yield directory.resolve()
    left = [
        (command, [test for name, test in _TESTS.items() if name in command])
        for _, command in processes_of(directory)
    ]
    shutil.rmtree(directory, ignore_errors=True)
    assert not left, f"processes outlived the tests: {left}"


@pytest.fixture
def project(short_dir: Path, request: pytest.FixtureRequest) -> Path:
    """An empty project, found by its marker."""
    directory = Path(tempfile.mkdtemp(prefix="p", dir=short_dir))
    _TESTS[str(directory)] = request.node.nodeid
    (directory / "pyproject.toml").touch()
    return directory


@pytest.fixture
def cache_dir(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh cache directory, also named by the environment; its daemons are killed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="c", dir=short_dir))
    monkeypatch.setenv("MOCK_MCP_CACHE_DIR", str(directory))
    yield directory
    kill_daemons(directory)
    if launching := [each for each in threading.enumerate() if each.name == "mock-mcp-launch"]:
        eventually(lambda: not any(each.is_alive() for each in launching))
        kill_daemons(directory)  # one that was about to start when its client was closed


@pytest.fixture
def start_daemon(project: Path, cache_dir: Path) -> Iterator[Callable[..., ServedDaemon]]:
    """Start a daemon inside this process; keyword arguments are its limits."""
    served: list[ServedDaemon] = []

    def start(options: dict[str, Any] | None = None, **limits: Any) -> ServedDaemon:
        served.append(ServedDaemon(project, cache_dir, Limits(**limits), **(options or {})))
        return served[-1]

    yield start
    for daemon in served:
        daemon.close()


@pytest.fixture
def daemon(start_daemon: Callable[..., ServedDaemon]) -> ServedDaemon:
    """A daemon inside this process, with the default limits."""
    return start_daemon()


@pytest.fixture
def start_process(project: Path, cache_dir: Path) -> Iterator[Callable[..., DaemonProcess]]:
    """Start a daemon process; it is killed and reaped at the end."""
    processes: list[DaemonProcess] = []

    def start(**options: Any) -> DaemonProcess:
        processes.append(DaemonProcess(project, cache_dir, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.close()


@pytest.fixture
def daemon_process(start_process: Callable[..., DaemonProcess]) -> DaemonProcess:
    """A daemon process that serves."""
    return start_process().wait_ready()
