"""What replay costs a call, beside the field's other tools in the same process.

A round is one test: entering the tool, as many GETs as the row says (each another URL, each
answered with the same 100 bytes of JSON, read with ``.json()``), leaving it. mock-mcp reads a
recording and checks every call and every answer against an OpenAPI document, which the tests of a
pytest session share; vcrpy reads a cassette; the others answer from a list in memory and check
nothing. The target is set against the fastest of the others.

Under pytest, mock-mcp leaves its hooks in place from one mocked test to the next. Here the other
tools have their turn between two of ours, so the hooks go in and out in every round. What it costs
without that has rows of its own, ``hooks kept``: the hooks are put in before the clock starts.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import mock_mcp
from bench.project import is_installed, left_out
from bench.report import Row, Size
from mock_mcp.interceptors import install, keep_hooks
from mock_mcp.recordings.paths import locate
from mock_mcp.runtime.project import Project
from mock_mcp.scope import Polices, Scope, ScopeSettings

API = "https://petstore.example.com/v1"
PET = {"id": 11, "name": "Biscuit", "species": "dog", "status": "available", "price": 250.0}
DOCUMENT = Path(mock_mcp.__file__).with_name("demo") / "petstore.json"
TESTS = (1, 20, 200)
"""Calls of a test: one pays for entering alone, many show what a call costs."""

Enter = Callable[[], AbstractContextManager[Any]]
Calls = Callable[[list[str]], list[Any]]
"""Gets every URL in turn and returns the decoded answers."""


def urls(count: int) -> list[str]:
    return [f"{API}/pets/{number}" for number in range(1, count + 1)]


# -- The tools --------------------------------------------------------------------------------


def recorded(place: Path, count: int) -> str:
    """Write a project with a contract and a recording; return the recording's name."""
    (place / "pyproject.toml").write_text('[tool.mock-mcp]\nopenapi = ["petstore.json"]\n')
    (place / "petstore.json").write_bytes(DOCUMENT.read_bytes())
    name = f"calls_{count}"
    recording = place / "__mocks__" / "bench" / f"{name}.json"
    recording.parent.mkdir(parents=True, exist_ok=True)
    interactions = [
        {
            "request": {"method": "GET", "url": url},
            "response": {
                "status": 200,
                "headers": {"content-type": "application/json"},
                "body": PET,
            },
            "source": "ai",
        }
        for url in urls(count)
    ]
    fields = {"version": 1, "test": f"bench.py::{name}", "interactions": interactions}
    recording.write_text(json.dumps(fields, indent=2))
    return name


def ours(place: Path, count: int) -> Enter:
    name = recorded(place, count)
    polices = Polices(Project.resolve(None, place))
    file = place / "bench.py"  # pytest has each test's path

    @contextmanager
    def enter() -> Iterator[None]:  # what the plugin does for each test of a session
        scope = Scope(locate(file, [name]), ScopeSettings(), polices=polices)
        with install(scope):
            yield
        scope.verify()
        scope.finish(passed=True)

    return enter


def vcrpy(place: Path, count: int) -> Enter:
    import vcr

    cassette = {
        "version": 1,
        "interactions": [
            {
                "request": {"method": "GET", "uri": url, "body": None, "headers": {}},
                "response": {
                    "status": {"code": 200, "message": "OK"},
                    "headers": {"content-type": ["application/json"]},
                    "body": {"string": json.dumps(PET)},
                },
            }
            for url in urls(count)
        ],
    }
    file = place / f"cassette_{count}.json"
    file.write_text(json.dumps(cassette))
    recorder = vcr.VCR(serializer="json", record_mode=vcr.mode.NONE)
    return lambda: recorder.use_cassette(str(file))


def respx(place: Path, count: int) -> Enter:
    import respx

    @contextmanager
    def enter() -> Iterator[None]:
        with respx.mock(assert_all_called=False) as router:
            for url in urls(count):
                router.get(url).respond(json=PET)
            yield

    return enter


def pytest_httpx(place: Path, count: int) -> Enter:
    import httpx
    from pytest_httpx import HTTPXMock
    from pytest_httpx._options import _HTTPXMockOptions

    @contextmanager
    def enter() -> Iterator[None]:  # what its fixture does
        mock = HTTPXMock(_HTTPXMockOptions())
        sync, asynchronous = httpx.HTTPTransport, httpx.AsyncHTTPTransport
        before = sync.handle_request, asynchronous.handle_async_request

        async def handle(transport: Any, request: Any) -> Any:
            return await mock._handle_async_request(transport, request)

        sync.handle_request = lambda transport, request: mock._handle_request(  # noqa: PLW0108
            transport, request
        )
        asynchronous.handle_async_request = handle
        try:
            for url in urls(count):
                mock.add_response(url=url, json=PET)
            yield
        finally:
            sync.handle_request, asynchronous.handle_async_request = before

    return enter


def responses(place: Path, count: int) -> Enter:
    import responses

    @contextmanager
    def enter() -> Iterator[None]:
        with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
            for url in urls(count):
                mock.get(url, json=PET)
            yield

    return enter


def aioresponses(place: Path, count: int) -> Enter:
    import aioresponses

    @contextmanager
    def enter() -> Iterator[None]:
        with aioresponses.aioresponses() as mock:
            for url in urls(count):
                mock.get(url, payload=PET)
            yield

    return enter


# -- The libraries ----------------------------------------------------------------------------


@contextmanager
def with_httpx() -> Iterator[Calls]:
    import httpx

    with httpx.Client() as client:
        yield lambda wanted: [client.get(url).json() for url in wanted]


@contextmanager
def with_async_httpx() -> Iterator[Calls]:
    import httpx

    with asyncio.Runner() as runner:
        client = httpx.AsyncClient()

        async def get_all(wanted: list[str]) -> list[Any]:
            return [(await client.get(url)).json() for url in wanted]

        yield lambda wanted: runner.run(get_all(wanted))
        runner.run(client.aclose())


@contextmanager
def with_requests() -> Iterator[Calls]:
    import requests

    with requests.Session() as session:
        yield lambda wanted: [session.get(url).json() for url in wanted]


@contextmanager
def with_aiohttp() -> Iterator[Calls]:
    import aiohttp

    async def open_session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    with asyncio.Runner() as runner:
        session = runner.run(open_session())

        async def get_all(wanted: list[str]) -> list[Any]:
            found = []
            for url in wanted:
                async with session.get(url) as response:
                    found.append(await response.json())
            return found

        yield lambda wanted: runner.run(get_all(wanted))
        runner.run(session.close())


LIBRARIES: dict[
    str, tuple[str, Callable[[], AbstractContextManager[Calls]], list[Callable[[Path, int], Enter]]]
] = {
    "httpx": ("httpx", with_httpx, [vcrpy, respx, pytest_httpx]),
    "httpx, async": ("httpx", with_async_httpx, [vcrpy, respx, pytest_httpx]),
    "requests": ("requests", with_requests, [vcrpy, responses]),
    "aiohttp": ("aiohttp", with_aiohttp, [vcrpy, aioresponses]),
}
MODULES = {"vcrpy": "vcr"}


# -- Measuring --------------------------------------------------------------------------------


def rows(size: Size) -> Iterator[Row]:
    """Each library, with each rival and the fastest of them."""
    rounds = size.of(31, 2)
    for library, (module, calls_of, tools) in LIBRARIES.items():
        if not is_installed(module):
            left_out(module, f"replay with {library}")
            continue
        rivals = []
        for tool in tools:
            if is_installed(MODULES.get(tool.__name__, tool.__name__)):
                rivals.append(tool)
            else:
                left_out(tool.__name__, f"{library} with it")
        for count in TESTS:
            with tempfile.TemporaryDirectory(prefix="mm") as directory, calls_of() as calls:
                entries = {
                    tool.__name__: tool(Path(directory).resolve(), count)
                    for tool in (ours, *rivals)
                }
                yield from beside(library, calls, entries, urls(count), rounds)
                if count == 1:
                    kept = f"{library}, hooks kept"
                    yield from beside(kept, calls, entries, urls(count), rounds, around=keep_hooks)


def beside(
    library: str,
    calls: Calls,
    entries: dict[str, Enter],
    wanted: list[str],
    rounds: int,
    *,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[Row]:
    """Let the tools take turns; ``around`` is entered before a turn of ours, off the clock."""
    times: dict[str, list[float]] = {}
    for name, enter in entries.items():
        try:
            once(enter, calls, wanted)  # imports, patches, caches
        except TypeError as exc:  # made for another version of the library
            print(f"  {name} does not work with this {library}: {exc}", file=sys.stderr)
        else:
            times[name] = []
    for _ in range(rounds):
        for name, kept in times.items():
            with around() if name == "ours" else nullcontext():
                kept.append(once(entries[name], calls, wanted) / len(wanted) * 1e6)
    mine = times.pop("ours")
    fastest = min((name for name in times if name != "vcrpy"), key=median_of(times), default=None)
    for name, theirs in times.items():
        target = {"vcrpy": 1.0, fastest: 1.2}.get(name)
        yield Row(f"{library}, {len(wanted)} a test, a call", mine, name, theirs, "us", target)


def median_of(times: dict[str, list[float]]) -> Callable[[str], float]:
    return lambda name: statistics.median(times[name])


def once(enter: Enter, calls: Calls, wanted: list[str]) -> float:
    """Return seconds of one test."""
    gc.collect()
    start = time.perf_counter()
    with enter():
        answers = calls(wanted)
    took = time.perf_counter() - start
    assert answers[-1] == PET
    return took
