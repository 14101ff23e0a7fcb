"""Start the adapter, or say which extra is missing; importing this needs no extra."""

from __future__ import annotations

import logging
import os

from mock_mcp.errors import MissingExtra

__all__ = ["run_adapter"]


def run_adapter(
    *,
    project_root: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    logger: logging.Logger | None = None,
    timeout_s: float = 10.0,
    adapter_id: str | None = None,
    contract_budget: int | None = None,
) -> int:
    """Serve MCP on stdin and stdout until the client goes away.

    Args:
        project_root: The adapter's own project; found from the working directory when None.
        cache_dir: The directory that holds ``mock-mcp/``, where daemons are found.
        logger: Where problems are logged (warning and above); never stdout.
        timeout_s: Seconds one call to a daemon may take.
        adapter_id: This responder's name in claims; a fresh one when None.
        contract_budget: Characters that the condensed view of one contract may take, from 200 to
            40 000; 6 000 when None.

    Returns:
        The exit code: 0.

    Raises:
        MissingExtra: The ``mcp`` package is not installed.
        ConfigurationError: The project root or the cache directory cannot be used, the contract
            budget is out of range, or standard input or output is closed.
        InsecurePath: The cache directory is not private.
    """
    try:
        from mock_mcp.adapter import server
    except ModuleNotFoundError as exc:
        if exc.name not in ("anyio", "mcp", "mcp_types"):
            raise
        raise MissingExtra(
            "The adapter needs the MCP SDK: install it with `pip install 'mock-mcp[adapter]'`."
        ) from None

    return server.run_adapter(
        project_root=project_root,
        cache_dir=cache_dir,
        logger=logger,
        timeout_s=timeout_s,
        adapter_id=adapter_id,
        contract_budget=contract_budget,
    )
