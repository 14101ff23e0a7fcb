"""The pytest plugin: options, marker and fixture. The rest is imported when a test is mocked.

This file is what every pytest run imports, so it imports nothing of the house.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from mock_mcp.pytest_plugin.session import MockedSession
    from mock_mcp.scope import Scope

MODES = ("none", "once", "new_episodes", "all", "rewrite")
SOURCES = ("ai", "example", "live")
WORKER = "mock_mcp"
"""Key of what an xdist controller tells its workers, and what they report at their end."""
BLOCKS = "mock_block_network"
"""Where the command line keeps our --block-network: another plugin's does not concern us."""
_GROUP = ("mock-mcp", "AI-written, contract-checked HTTP mocks")
_MARKER = (
    "mock_mcp(instructions=, openapi=, mode=, source=, timeout=, contract=, match=, ignore=, "
    "hosts=, passthrough=, redact=, response_headers=, before_record=, before_match=): "
    "mock the HTTP calls of this test"
)
_TOO_LATE = (
    "The marker mock_mcp was added to this test while it was set up, and calls are mocked from the "
    "beginning of the set-up. Add it in the hook pytest_collection_modifyitems, or have the "
    "fixture that added it ask for the fixture mock_mcp."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup(*_GROUP)
    group.addoption(
        "--mock-mode",
        choices=MODES,
        help="replay or obtain: none (replay only; the default, and in CI), once (the default with "
        "MOCK_MCP=1), new_episodes, all, rewrite",
    )
    group.addoption(
        "--mock-source",
        choices=SOURCES,
        help="where new answers come from: ai (an assistant; the default), example (the contract), "
        "live (the real API, whose answers are checked)",
    )
    group.addoption(
        "--mock-timeout",
        type=float,
        metavar="SECONDS",
        help="how long a call waits for the assistant (default 600)",
    )
    group.addoption(
        "--mock-responder",
        metavar="SOURCE",
        help="start a responder for this run, and ask it: sample, recordings DIR, openai, "
        "anthropic, ollama, with more options of `mock-mcp respond` after it",
    )
    group.addoption(
        "--mock-prune",
        action="store_true",
        help="remove recorded calls that passing tests did not make, and recordings of no test",
    )


@pytest.hookimpl(trylast=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser) -> None:
    """Add --block-network once all plugins are loaded, unless it is pytest-recording's."""
    if hasattr(early_config.known_args_namespace, "block_network"):
        return
    parser.getgroup(*_GROUP).addoption(
        "--block-network",
        action="store_true",
        dest=BLOCKS,
        help="refuse what leaves the process in every test, mocked or not; loopback is allowed",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)
    timeout_s = config.getoption("mock_timeout")
    if timeout_s is not None and not 0 < timeout_s < float("inf"):
        raise pytest.UsageError(
            f"--mock-timeout must be a positive number of seconds, not {timeout_s:g}."
        )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin at once what holds without a mocked test."""
    config = session.config
    option = config.getoption
    # What is wrong with the settings is said before xdist starts workers, which it would leave.
    watches = config.pluginmanager.hasplugin("dsession") and _may_obtain(config)
    if option(BLOCKS, default=False) or option("mock_prune") or watches:
        _session(config)
    if option("mock_responder") and not hasattr(config, "workerinput"):
        _session(config).start_responder()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, Any, Any]:
    """Begin a mocked session when any collected test is mocked, be it by another hook."""
    before = list(items)  # other hooks deselect some, add some, and mark some
    result = yield
    collected = {*before, *items}
    if any(is_mocked(item) for item in collected):
        _session(config).collected(collected, all_run=len(items) == len(collected))
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Refuse a marker that came too late: the test would really call."""
    if is_mocked(item) and not _session(item.config).has_begun(item):
        pytest.fail(_TOO_LATE, pytrace=False)


@pytest.fixture
def mock_mcp(request: pytest.FixtureRequest) -> Scope:
    """Mock the HTTP calls of this test; see `mock_mcp.scope.Scope` for what it offers."""
    return _session(request.config).scope_of(request.node)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Name the runs of an xdist worker, so that its controller can tell what they wait for."""
    if _may_obtain(node.config):
        node.workerinput[WORKER] = _session(node.config).watch(node.workerinput["workerid"])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what an xdist worker reports at its end."""
    output = getattr(node, "workeroutput", {}).get(WORKER)
    if output is not None:
        _session(node.config).add_worker(output)


def is_mocked(item: pytest.Item) -> bool:
    """Tell whether a test asks for mocks, by the marker or the fixture."""
    return item.get_closest_marker("mock_mcp") is not None or "mock_mcp" in getattr(
        item, "fixturenames", ()
    )


def _may_obtain(config: pytest.Config) -> bool:
    """Tell whether a test may have to wait for an answer, as far as is known before any runs."""
    import os

    option = config.getoption
    is_enabled = os.environ.get("MOCK_MCP", "").lower() not in ("", "0", "false")
    return is_enabled or bool(option("mock_responder")) or option("mock_mode") not in (None, "none")


def _session(config: pytest.Config) -> MockedSession:
    """Return the plugin object that does the work, making it the first time.

    Raises:
        pytest.UsageError: The project's settings cannot be used.
    """
    found: Any = config.pluginmanager.get_plugin("mock-mcp-session")
    if found is None:
        from mock_mcp.pytest_plugin.session import MockedSession

        found = MockedSession(config)
        config.pluginmanager.register(found, "mock-mcp-session")
    return found  # type: ignore[no-any-return]
