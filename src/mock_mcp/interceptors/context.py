"""`mock_mcp.intercept`: mock the calls of a block of code, without pytest."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mock_mcp.interceptors import install
from mock_mcp.recordings.paths import locate
from mock_mcp.runtime.project import Project
from mock_mcp.scope import Client, Scope, ScopeSettings

__all__ = ["intercept"]


@contextmanager
def intercept(name: str, *, file: str | None = None, **settings: Any) -> Iterator[Scope]:
    """Mock the HTTP calls of a block: replay its recording, or obtain it, and write it at the end.

    Args:
        name: The recording's name: ``__mocks__/<file>/<name>.json`` beside ``file``.
        file: The file the recording belongs to; the caller's when None.
        settings: The fields of `ScopeSettings`: ``mode`` (``once`` when ``MOCK_MCP`` is set, else
            ``none``), ``source``, ``instructions``, ``hosts`` and so on.

    Yields:
        The `Scope`: ``calls``, ``add_response`` and the rest.

    Raises:
        MockMcpError: What went wrong below the code of the block, even if that swallowed it.
    """
    from mock_mcp.client.connect import is_enabled

    if file is None:
        frame = inspect.stack()[2]  # past contextmanager's helper
        file = frame.filename
    settings.setdefault("mode", "once" if is_enabled() else "none")
    made = ScopeSettings(**settings)
    project = Project.resolve(None, file)
    client = None
    if made.mode != "none" and made.source == "ai":
        client = Client(project_root=project.root, file_path=file, test_name=name)
    scope = Scope(
        locate(Path(file).absolute(), [name]),
        made,
        project=project,
        client=client,
        repair="run it with MOCK_MCP=1 and mode='new_episodes'",
        test={"testFile": file, "testName": name},
    )
    passed = False
    try:
        with install(scope):
            yield scope
        scope.verify()
        passed = True
    finally:
        try:
            scope.finish(passed=passed)
        finally:
            if client is not None:
                client.close()
