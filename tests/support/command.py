"""Commands as a user runs them: modules of this Python, in a project, with a plain environment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.daemons import environment

HANG_S = 120
PLUGIN = ("-p", "mock_mcp.pytest_plugin", "-p", "no:cacheprovider")
"""What pytest is given by `run_module`, where it loads no plugin by itself."""

Run = Callable[..., subprocess.CompletedProcess[str]]


def execute(
    command: str | list[str], *, cwd: Path, env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command, or a line of a shell, without a terminal."""
    return subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )


def run_module(root: Path, cache_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module in a directory; no proxy, no CI and no plugin of pytest but those named."""
    env = environment(cache_dir, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    for name in ("CI", "PYTEST_ADDOPTS"):
        env.pop(name, None)
    return execute([sys.executable, "-m", *arguments], cwd=root, env=env)


def user_environment(home: Path, path: Path, cache_dir: Path) -> dict[str, str]:
    """Return what a client passes on of a user's environment, nothing of this shell's."""
    return {
        "HOME": str(home),
        "PATH": f"{path}:/usr/bin:/bin",
        "MOCK_MCP_CACHE_DIR": str(cache_dir),
    }
