"""``mock-mcp respond``: answer the project's batches without an MCP client."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import logging
import math
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from mock_mcp.cli import add_project_root
from mock_mcp.cli.terminal import printable_lines
from mock_mcp.errors import MissingExtra
from mock_mcp.responders.errors import ResponderUnusable
from mock_mcp.responders.report import Event, NotAnswered, event_json, event_lines
from mock_mcp.responders.serve import Responder
from mock_mcp.responders.source import Source
from mock_mcp.runtime.cache import environment
from mock_mcp.runtime.project import Project

__all__ = ["configure", "run"]

SOURCES = ("sample", "recordings", "openai", "anthropic", "ollama")
CONTRACT_BUDGET = 20_000
"""More than an assistant gets, which can open what is folded."""


class _Service(msgspec.Struct, frozen=True):
    """Where a model's API is, and which variables of the environment say so."""

    url: str
    url_env: str
    key_env: str


_SERVICES = {
    "openai": _Service("https://api.openai.com/v1", "OPENAI_BASE_URL", "OPENAI_API_KEY"),
    "anthropic": _Service("https://api.anthropic.com", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
    "ollama": _Service("http://127.0.0.1:11434", "OLLAMA_HOST", "OLLAMA_API_KEY"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--using",
        nargs="+",
        required=True,
        metavar=("SOURCE", "DIR"),
        help="who answers: sample (the contract), recordings DIR, openai, anthropic, ollama",
    )
    add_project_root(parser)
    parser.add_argument(
        "--until-idle",
        action="store_true",
        help="stop when test runs have come and none is left; 1 if a batch was not answered",
    )
    parser.add_argument(
        "--concurrency",
        type=_count,
        default=4,
        metavar="N",
        help="batches answered at once (default 4)",
    )
    parser.add_argument(
        "--seed", default="0", metavar="N", help="sample: decides every draw (default 0)"
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="the model's name at its API (default: the variable MOCK_MCP_MODEL)",
    )
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="where the API is; openai: any server that speaks it (default: the variable "
        "OPENAI_BASE_URL, ANTHROPIC_BASE_URL or OLLAMA_HOST, else the service's own)",
    )
    parser.add_argument(
        "--key-env",
        metavar="NAME",
        help="the environment variable with the key (default OPENAI_API_KEY, ANTHROPIC_API_KEY, "
        "OLLAMA_API_KEY)",
    )
    parser.add_argument(
        "--max-tokens", type=_count, metavar="N", help="limit of one answer of the model"
    )
    parser.add_argument("--rate", type=_amount, metavar="N", help="calls of the model a minute")
    parser.add_argument(
        "--contract-budget",
        type=_count,
        default=CONTRACT_BUDGET,
        metavar="N",
        help="characters that the model reads of one operation's contract, from 200 to 40000 "
        f"(default {CONTRACT_BUDGET})",
    )
    parser.add_argument(
        "--price-in", type=_amount, metavar="X", help="price of a million tokens read, for totals"
    )
    parser.add_argument(
        "--price-out", type=_amount, metavar="X", help="price of a million tokens written"
    )
    parser.add_argument("--quiet", action="store_true", help="say only what was not answered")
    parser.add_argument("--json", action="store_true", help="print JSON, one event a line")
    # What pytest says over standard input: a line for each run; an empty one, or the end, is all.
    parser.add_argument("--runs-from-stdin", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(wrong=parser.error)


def run(options: argparse.Namespace) -> int:
    """Answer until stopped; 1 when a batch was not answered."""
    level = logging.ERROR if options.quiet else logging.WARNING
    logging.basicConfig(level=level, format="mock-mcp: %(message)s")
    return asyncio.run(_respond(options))


async def _respond(options: argparse.Namespace) -> int:
    project = Project.resolve(options.project_root)
    responder = Responder(
        _source(options, project),
        project,
        tell=_teller(options),
        concurrency=options.concurrency,
        persists=options.runs_from_stdin,
    )
    totals = responder.totals
    totals.price_in, totals.price_out = options.price_in, options.price_out
    stopped = _stopped_by_signal()
    try:
        async with responder.opened():
            name = options.using[0]
            _say(
                options,
                {"event": "ready", "using": name, "projectRoot": str(project.root)},
                f"Answering the batches of {project.root} with {name}; Ctrl-C stops.",
            )
            work: list[Any] = [stopped.wait(), responder.failed()]
            if options.runs_from_stdin:
                work.append(_serve_runs(responder))
            else:
                work.append(responder.serve())
            if options.until_idle:
                work.append(responder.runs_ended())
            await _first_of(work)
    finally:
        _say(options, totals.json(), totals.line())
    return 1 if totals.failed else 0


async def _first_of(work: list[Any]) -> None:
    """Wait for the first of these to end, end the others, and raise what it raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _serve_runs(responder: Responder) -> None:
    """Answer the runs that are named on standard input, until its end."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[bytes | None] = asyncio.Queue()

    def read() -> None:
        # Not `sys.stdin`: its lock, held by a thread that waits, would stall the interpreter's end.
        rest = b""
        while chunk := os.read(0, 65_536):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, None)

    def read_quietly() -> None:
        with contextlib.suppress(OSError, RuntimeError):  # closed, as is the loop
            read()

    threading.Thread(target=read_quietly, name="mock-mcp-runs", daemon=True).start()
    async with asyncio.TaskGroup() as serving:
        tasks = []
        while line := await lines.get():
            tasks.append(serving.create_task(responder.serve(line.decode())))
        for task in tasks:
            task.cancel()


def _stopped_by_signal() -> asyncio.Event:
    """Return what is set when the process is asked to stop."""
    stopped = asyncio.Event()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None:
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises by itself
                asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


# -- Output ------------------------------------------------------------------------------------


def _teller(options: argparse.Namespace) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        if options.json or not options.quiet or isinstance(event, NotAnswered):
            _print(options, lambda: event_json(event), lambda: "\n".join(event_lines(event)))

    return tell


def _say(options: argparse.Namespace, fields: dict[str, Any], line: str) -> None:
    if options.json or not options.quiet:
        _print(options, lambda: fields, lambda: line)


def _print(
    options: argparse.Namespace, fields: Callable[[], dict[str, Any]], text: Callable[[], str]
) -> None:
    line = msgspec.json.encode(fields()).decode() if options.json else printable_lines(text())
    with contextlib.suppress(BrokenPipeError):  # nobody reads; the tests still wait
        print(line, flush=True)


# -- Who answers -------------------------------------------------------------------------------


def _source(options: argparse.Namespace, project: Project) -> Source:
    name, *rest = options.using
    takes = 1 if name == "recordings" else 0
    if name not in SOURCES:
        options.wrong(f"--using: {name!r} is none of {', '.join(SOURCES)}")
    if len(rest) != takes:
        options.wrong(
            "--using recordings takes one directory"
            if takes
            else f"--using {name} takes nothing more, not {rest[0]!r}"
        )
    if name == "sample":
        from mock_mcp.responders.plain import SampleSource

        return SampleSource(project, seed=options.seed)
    if name == "recordings":
        from mock_mcp.recordings.match import DEFAULT_MATCH, Matching
        from mock_mcp.responders.plain import RecordingSource
        from mock_mcp.settings_table import read_table

        directory = Path(rest[0])
        if not directory.is_dir():
            options.wrong(f"--using recordings: {directory} is no directory")
        table = read_table(project.root)
        matching = Matching(table.get("match", DEFAULT_MATCH), table.get("ignore", ()))
        return RecordingSource(directory, matching)
    return _model(options, name, project)


def _model(options: argparse.Namespace, name: str, project: Project) -> Source:
    if importlib.util.find_spec("httpx") is None:
        raise MissingExtra(
            f"--using {name} needs httpx: install it with `pip install 'mock-mcp[llm]'`."
        )
    from mock_mcp.responders import apis
    from mock_mcp.responders.http import Api
    from mock_mcp.responders.model import ModelSource
    from mock_mcp.runtime.cache import CacheDirectory
    from mock_mcp.serving.contracts import ContractReader

    service = _SERVICES[name]
    model = str(options.model or environment("MOCK_MCP_MODEL") or "")
    if not model:
        options.wrong(f"--using {name} needs --model, or the variable MOCK_MCP_MODEL")
    given_url = options.base_url or environment(service.url_env)
    url = given_url or service.url
    if "://" not in url:  # OLLAMA_HOST
        url = f"http://{url}"
    key_env = options.key_env or service.key_env
    key = environment(key_env)
    if key is not None and not (key.isascii() and key.isprintable()):
        # The HTTP library would quote it in its error.
        raise ResponderUnusable(f"{key_env} holds no key: not all of it can stand in a header.")
    if key is None and (options.key_env or (name != "ollama" and not given_url)):
        raise ResponderUnusable(f"{name} needs a key: set the environment variable {key_env}.")
    headers: dict[str, str] = {}
    if name == "anthropic":
        headers["anthropic-version"] = apis.ANTHROPIC_VERSION
    if key is not None:
        if name == "anthropic":
            headers["x-api-key"] = key
        else:
            headers["authorization"] = f"Bearer {key}"
    api = Api(name, url, headers=headers, key=key, rate=options.rate)
    kinds: dict[str, type[apis.OpenAI | apis.Anthropic | apis.Ollama]] = {
        "openai": apis.OpenAI,
        "anthropic": apis.Anthropic,
        "ollama": apis.Ollama,
    }
    reader = ContractReader(CacheDirectory(), project, budget=options.contract_budget)
    return ModelSource(kinds[name](api, model, options.max_tokens), reader)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not {text!r}")
    return int(text)


def _amount(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return number
