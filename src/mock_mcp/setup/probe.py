"""Start an adapter as a client would, and see whether it speaks MCP.

This is a handshake and a listing of tools over standard streams, written out: the check must work
where the MCP SDK is what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mock_mcp._version import __version__
from mock_mcp.setup.clients import Target
from mock_mcp.setup.errors import ProbeFailed
from mock_mcp.setup.launcher import Command

__all__ = ["ANSWER_S", "expand", "probe"]

ANSWER_S = 60.0
"""How long a first answer may take: ``uvx`` may have to make an environment."""
_END_S = 5.0
_LINE_BYTES = 4 * 1024 * 1024
_TAIL_BYTES = 1000
_VARIABLE = re.compile(r"\$\{(?:env:)?(\w+)(?::-([^}]*))?\}")
_HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "mock-mcp-doctor", "version": __version__},
}


async def probe(target: Target, command: Command, env: Mapping[str, str] | None, root: Path) -> str:
    """Start the command of a client's file, list its tools, end it.

    Args:
        target: Whose file.
        command: What it says.
        env: The variables that the entry sets beside those of this user.
        root: The project.

    Returns:
        The version of mock-mcp that answered.

    Raises:
        ProbeFailed: It cannot be started, ends, or answers anything else.
    """
    given = {name: expand(value, root) for name, value in (env or {}).items()}
    program = expand(command.program, root)
    arguments = [expand(each, root) for each in command.arguments]
    shown = " ".join([program, *arguments])
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment() | given,
            cwd=root if target.root is not None else Path(root.anchor),
            limit=_LINE_BYTES,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ProbeFailed(f"`{shown}` cannot be started: {reason}.", started=False) from None
    assert process.stderr is not None
    said = asyncio.create_task(process.stderr.read())
    try:
        async with asyncio.timeout(ANSWER_S):
            version = await _shake_hands(process)
    except TimeoutError:
        raise ProbeFailed(f"`{shown}` did not answer within {ANSWER_S:g} s.") from None
    except (EOFError, OSError, ValueError, LookupError, TypeError):
        await _end(process)
        tail = (await said)[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
        reason = f"It said:\n{tail}" if tail else "It said nothing."
        raise ProbeFailed(f"`{shown}` does not speak MCP. {reason}") from None
    finally:
        await _end(process)
        said.cancel()
    return version


async def _shake_hands(process: asyncio.subprocess.Process) -> str:
    hello = await _ask(process, 1, "initialize", _HELLO)
    _send(process, {"method": "notifications/initialized"})
    tools = await _ask(process, 2, "tools/list", {})
    names = {tool["name"] for tool in tools["tools"]}
    if "claim_next_batch" not in names:
        raise ValueError("another server")
    return str(hello["serverInfo"]["version"])


async def _ask(
    process: asyncio.subprocess.Process, number: int, method: str, params: Any
) -> dict[str, Any]:
    assert process.stdout is not None
    _send(process, {"id": number, "method": method, "params": params})
    while line := await process.stdout.readline():
        message = msgspec.json.decode(line)
        if isinstance(message, dict) and message.get("id") == number:
            result = message.get("result")
            if not isinstance(result, dict):
                break
            return result
    raise EOFError


def _send(process: asyncio.subprocess.Process, message: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the server as clients do: by the end of its input, and if need be by force."""
    if process.returncode is not None:
        return
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def expand(text: str, root: Path) -> str:
    """Replace variables as clients do: ``${workspaceFolder}``, ``${NAME:-default}`` and so on."""
    known = {
        "workspaceFolder": str(root),
        "CLAUDE_PROJECT_DIR": str(root),
        "userHome": os.path.expanduser("~"),  # noqa: PTH111 - a text
    }

    def value(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        return known.get(name) or os.environ.get(name) or default or ""

    return _VARIABLE.sub(value, text)


def _environment() -> dict[str, str]:
    """Return this user's environment without the virtual environment that is active here."""
    left_out = ("VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "MOCK_MCP")
    env = {name: value for name, value in os.environ.items() if name not in left_out}
    places = env.get("PATH", "").split(os.pathsep)
    env["PATH"] = os.pathsep.join(_outside(places))
    return env


def _outside(places: Sequence[str]) -> list[str]:
    own = Path(sys.prefix)
    if sys.prefix == sys.base_prefix:
        return list(places)
    return [place for place in places if not Path(place).is_relative_to(own)]
