"""What replay costs beside its neighbours, in one process, and what the unused plugin costs pytest.

    python bench/replay.py [--json] [--rounds N] [--quick]

Every row is one test's worth of calls: entering the tool, as many GETs as the row says (each
another URL, each answered with the same 100 bytes of JSON, read with ``.json()``), leaving it. The
figure is microseconds a call. mock-mcp reads a recording and checks every call and every answer
against an OpenAPI document, which the tests of a pytest session share (``intercept()``, without
pytest, reads the document for each block); vcrpy reads a cassette; the others answer from a list in
memory and check nothing. The bare client, with a transport that returns a constant, is the floor.
Tools that are not installed are left out, saying so. The works take turns; medians, and the range.

Start-up is the wall time of ``pytest`` on one empty test, in pairs: with the plugin, and with
``-p no:mock_mcp``.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx

import mock_mcp
from mock_mcp.interceptors import install
from mock_mcp.recordings.paths import locate
from mock_mcp.runtime.project import Project
from mock_mcp.scope import Polices, Scope, ScopeSettings

API = "https://petstore.example.com/v1"
PET = {"id": 11, "name": "Biscuit", "species": "dog", "status": "available", "price": 250.0}
DOCUMENT = Path(mock_mcp.__file__).with_name("demo") / "petstore.json"
TESTS = (1, 20, 200)
"""Calls of a test: one pays for entering alone, many show what a call costs."""

Enter = Callable[[], AbstractContextManager[Any]]
Get = Callable[[str], Any]


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

    @contextmanager
    def enter() -> Iterator[None]:  # what the plugin does for each test of a session
        scope = Scope(locate(place / "bench.py", [name]), ScopeSettings(), polices=polices)
        with install(scope):
            yield
        scope.verify()
        scope.finish(passed=True)

    return enter


def ours_alone(place: Path, count: int) -> Enter:
    name = recorded(place, count)
    return lambda: mock_mcp.intercept(name, file=str(place / "bench.py"), mode="none")


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
    from pytest_httpx import HTTPXMock
    from pytest_httpx._options import _HTTPXMockOptions

    @contextmanager
    def enter() -> Iterator[None]:  # what its fixture does
        mock = HTTPXMock(_HTTPXMockOptions())
        before = httpx.HTTPTransport.handle_request
        httpx.HTTPTransport.handle_request = (
            lambda transport, request: mock._handle_request(transport, request)  # noqa: PLW0108
        )
        try:
            for url in urls(count):
                mock.add_response(url=url, json=PET)
            yield
        finally:
            httpx.HTTPTransport.handle_request = before

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


def httpx_get() -> Get:
    return httpx.Client().get


def requests_get() -> Get:
    import requests

    return requests.Session().get


def floor_get() -> Get:
    body = json.dumps(PET).encode()
    headers = {"content-type": "application/json"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=body))
    return httpx.Client(transport=transport).get


ROWS: dict[str, list[tuple[str, Callable[[Path, int], Enter] | None, Callable[[], Get]]]] = {
    "httpx": [
        ("mock-mcp", ours, httpx_get),
        ("intercept()", ours_alone, httpx_get),
        ("vcrpy", vcrpy, httpx_get),
        ("respx", respx, httpx_get),
        ("pytest-httpx", pytest_httpx, httpx_get),
        ("bare", None, floor_get),
    ],
    "requests": [
        ("mock-mcp", ours, requests_get),
        ("vcrpy", vcrpy, requests_get),
        ("responses", responses, requests_get),
    ],
}
MODULES = {
    "bare": "httpx",
    "intercept()": "mock_mcp",
    "mock-mcp": "mock_mcp",
    "pytest-httpx": "pytest_httpx",
    "vcrpy": "vcr",
}


def is_installed(tool: str) -> bool:
    return importlib.util.find_spec(MODULES.get(tool, tool)) is not None


# -- Measuring --------------------------------------------------------------------------------


def once(enter: Enter, get: Get, wanted: list[str]) -> float:
    """Return seconds of one test."""
    gc.collect()
    start = time.perf_counter()
    with enter():
        for url in wanted:
            answer = get(url).json()
    took = time.perf_counter() - start
    assert answer == PET
    return took


def replaying(library: str, count: int, rounds: int, place: Path) -> list[dict[str, Any]]:
    wanted = urls(count)
    works = [
        (tool, prepare(place, count) if prepare else nullcontext, get_of())
        for tool, prepare, get_of in ROWS[library]
        if is_installed(tool)
    ]
    times: dict[str, list[float]] = {tool: [] for tool, _, _ in works}
    for _, enter, get in works:
        once(enter, get, wanted)  # imports, patches, caches
    for _ in range(rounds):
        for tool, enter, get in works:
            times[tool].append(once(enter, get, wanted) / count * 1e6)
    return [
        {"library": library, "calls": count, "tool": tool, **figures(values)}
        for tool, values in times.items()
    ]


def figures(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "range": [min(values), max(values)]}


def starting(rounds: int, place: Path) -> list[dict[str, Any]]:
    """Return milliseconds of pytest with and without the plugin, and of the pairs' difference."""
    directory = place / "start"
    directory.mkdir()
    (directory / "pytest.ini").write_text("[pytest]\n")
    (directory / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}

    def run(*arguments: str) -> float:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        start = time.perf_counter()
        subprocess.run(command, cwd=directory, env=env, check=True, capture_output=True)
        return (time.perf_counter() - start) * 1e3

    run(), run("-p", "no:mock_mcp")
    pairs = []
    for number in range(rounds):  # each goes first as often as the other
        order = ((), ("-p", "no:mock_mcp"))
        took = [run(*order[(number + turn) % 2]) for turn in range(2)]
        pairs.append(took if number % 2 == 0 else took[::-1])
    return [
        {"what": "pytest, plugin unused", **figures([one for one, _ in pairs])},
        {"what": "pytest -p no:mock_mcp", **figures([other for _, other in pairs])},
        {"what": "difference of the pairs", **figures([one - other for one, other in pairs])},
    ]


def main() -> None:
    """Print the tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--quick", action="store_true", help="few rounds: it still runs")
    options = parser.parse_args()
    rounds = 3 if options.quick else options.rounds
    absent = sorted({tool for row in ROWS.values() for tool, *_ in row if not is_installed(tool)})
    with tempfile.TemporaryDirectory(prefix="mock-mcp-bench-") as directory:
        place = Path(directory).resolve()
        replays = [
            found
            for library in ROWS
            if is_installed(library)
            for count in TESTS
            for found in replaying(library, count, rounds, place)
        ]
        starts = starting(max(3, rounds // 2), place)
    if options.json:
        print(json.dumps({"replay": replays, "start": starts, "absent": absent}, indent=2))
        return
    print(f"Replay, microseconds a call: median (range) of {rounds} rounds")
    for r in replays:
        mine = next(
            m["median"]
            for m in replays
            if (m["library"], m["calls"], m["tool"]) == (r["library"], r["calls"], "mock-mcp")
        )
        spread = "({:.0f} to {:.0f})".format(*r["range"])
        what = f"{r['library']}, {r['calls']} calls"
        print(
            f"  {what:22} {r['tool']:13} {r['median']:8.0f} {spread:18}"
            f" mock-mcp takes {mine / r['median']:.2f} of it"
        )
    print("Start-up, milliseconds: median (range)")
    for r in starts:
        print("  {:25} {:7.1f} ({:.1f} to {:.1f})".format(r["what"], r["median"], *r["range"]))
    for tool in absent:
        print(f"{tool} is not installed: left out")


if __name__ == "__main__":
    main()
