"""`mock_mcp.intercept` mocks the calls of a block of code, without pytest; `route` a page's."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from mock_mcp.browser import UrlMatch
from mock_mcp.errors import ConfigurationError
from mock_mcp.interceptors import Installed, install, stack
from mock_mcp.real_files import real_files
from mock_mcp.recordings.miss import repair_of_block
from mock_mcp.recordings.paths import locate
from mock_mcp.runtime.project import Project
from mock_mcp.scope import LazyClient, Polices, Scope, make_settings, resolve_mode

__all__ = ["Intercepted", "intercept", "route"]


def intercept(
    name: str, *, file: str | os.PathLike[str] | None = None, **settings: Any
) -> Intercepted:
    """Mock the HTTP calls of a block of code, in a ``with`` statement.

    The block's recording is replayed, or what it lacks is obtained and written when the block ends
    without an error. Blocks nest: the innermost is asked first. The calls of every thread and task
    are mocked while the block runs.

    Args:
        name: The recording's name: ``__mocks__/<file>/<name>.json`` beside ``file``.
        file: The file the recording belongs to; the one that calls ``intercept`` when None.
        settings: The fields of `mock_mcp.scope.ScopeSettings`. ``mode``, when it is not given or
            None, is ``once`` when ``MOCK_MCP`` is set and ``CI`` is not, else ``none``.

    Returns:
        A context manager that gives the `mock_mcp.scope.Scope` (``calls``, ``add_response`` and the
        rest). Its end raises what went wrong below the block, even if the code swallowed it.

    Raises:
        ConfigurationError: A setting cannot be used, or the caller is not in a file.
    """
    caller = sys._getframe(1).f_code.co_filename  # noqa: SLF001 - inspect.stack() reads sources
    if settings.get("mode") is None:
        settings["mode"] = resolve_mode(None, asks_nobody=False)
    made = make_settings(settings)
    with real_files():
        if file is None and not Path(caller).is_file():
            raise ConfigurationError(
                f"intercept is called from {caller}, which is no file; name one with file=, the "
                "recording lies beside it."
            )
        path = Path(os.path.abspath(file or caller))  # noqa: PTH100 - pyfakefs has a pure Path fail
        project = Project.resolve(None, path)
    client = None
    if made.mode != "none" and made.source == "ai":
        client = LazyClient(
            project_root=project.root, file_path=path, test_name=name, timeout_s=None
        )
    scope = Scope(
        locate(path, [name]),
        made,
        polices=Polices(project),
        client=client,
        repair=lambda source: repair_of_block(source, name),
        test={"testFile": str(path), "testName": name},
    )
    return Intercepted(scope, client)


def route(page: Any, url: UrlMatch) -> Any:
    """Answer the requests of a Playwright page whose URL matches, in a mocked test or block.

    It is `mock_mcp.scope.Scope.route` of the innermost one, where that is not at hand.

    Raises:
        ConfigurationError: Nothing is mocked.
        TypeError: ``page`` is no page and no browser context.
    """
    for installation in reversed(stack.current()):
        if isinstance(installation.exchange, Scope):
            return installation.exchange.route(page, url)
    raise ConfigurationError(
        "route: no test or block is mocked here; use the fixture or the marker mock_mcp, or "
        "mock_mcp.intercept."
    )


class Intercepted:
    """What `intercept` returns; it is entered once.

    Args:
        scope: Whose calls these are.
        client: The assistant's client, closed at the end.
    """

    def __init__(self, scope: Scope, client: LazyClient | None) -> None:
        self._scope = scope
        self._client = client
        self._installed: Installed | None = None

    def __enter__(self) -> Scope:
        self._installed = install(self._scope)
        return self._scope

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._installed is not None
        self._installed.close()
        passed = False
        try:
            if exc is None:
                self._scope.verify()
                passed = True
        finally:
            try:
                self._scope.finish(passed=passed)
            finally:
                if self._client is not None:
                    self._client.close()
