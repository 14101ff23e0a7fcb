"""Contract work beside its neighbours: loading, finding an operation, validating, condensing.

JSON is decoded each time, because that is as fast as any cache; the warm load of YAML reads the
stored parse. The documents of 11 and 14 MB are GitHub's with every path repeated under other
prefixes: two, because a size decides whether a collection of all garbage falls into either work.
"""

from __future__ import annotations

import gc
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.project import SPECS, is_installed, left_out
from bench.report import Row, Size
from mock_mcp.contract.condense import condense
from mock_mcp.contract.document import Document, DocumentSource, load_document
from mock_mcp.contract.finder import Finder
from mock_mcp.contract.gate import Contracts
from mock_mcp.contract.operation import Media, ResponseContract
from mock_mcp.contract.pointer import follow
from mock_mcp.contract.sample import sample
from mock_mcp.contract.schema import close_schema, compile_schema
from mock_mcp.types import Mock

ANSWERS = {
    "github-3.0.json": ("GET", "https://api.github.com/repos/o/r/issues/1"),
    "stripe-3.0.json": ("GET", "https://api.stripe.com/v1/customers/cus_1"),
    "openai-3.1.json": ("POST", "https://api.openai.com/v1/responses"),
}


def rows(size: Size) -> Iterator[Row]:
    """Each published document; the large one only for loading."""
    rounds = size.of(9, 1)
    with tempfile.TemporaryDirectory(prefix="mm") as directory:
        for name, call in ANSWERS.items():
            path = SPECS / name
            if not path.exists():
                print(f"  {name} is not there: left out")
                continue
            yield from loading(path, Path(directory), rounds, call)
            if name.startswith("github") and not size.smoke:
                for times in (6, 8):
                    large = repeated(path, Path(directory), times)
                    yield from loading(large, Path(directory), rounds, call)
            yield from finding(path, rounds)
            yield from validating(path, rounds)
            yield condensing(path)


def loading(path: Path, directory: Path, rounds: int, call: tuple[str, str]) -> Iterator[Row]:
    """Load a document and find the operation of a first call, which pays for part of the index."""
    method, url = call
    copy, cache = directory / f"{path.stem}.yaml", directory / "cache"
    # JSON is a subset of YAML: the same document must come from the stored parse.
    copy.write_text("# a comment makes it YAML\n" + path.read_text())
    yaml = is_installed("yaml")
    if yaml:
        load_document(copy, cache_dir=cache)
    else:
        left_out("yaml", f"{path.name} as YAML")
    plain, cold, warm = measure(
        rounds,
        (lambda: json.loads(path.read_bytes()), 1),
        (lambda: Finder(load_document(path)).find(url, method), 1),
        (
            lambda: (
                Finder(load_document(copy, cache_dir=cache)).find(url, method) if yaml else None
            ),
            1,
        ),
    )
    what = f"load {path.name}, {path.stat().st_size / 1e6:.0f} MB"
    yield Row(what, cold, "json.loads", plain, "ms", 1.2)
    if yaml:
        yield Row(f"{what}, as YAML, warm", warm, "json.loads", plain, "ms", 1.2)


def repeated(path: Path, directory: Path, times: int) -> Path:
    """Write a document of 11 (6 times) or 14 MB (8 times)."""
    tree = json.loads(path.read_bytes())
    paths = dict(tree["paths"])
    for number in range(times):
        tree["paths"] |= {f"/again{number}{key}": item for key, item in paths.items()}
    large = directory / f"large{times}-{path.name}"
    large.write_text(compact(tree))
    return large


def finding(path: Path, rounds: int) -> Iterator[Row]:
    if not is_installed("openapi_core"):
        left_out("openapi_core", f"finding an operation in {path.name}")
        return
    from jsonschema_path import SchemaPath
    from openapi_core.templating.paths.finders import APICallPathFinder

    document = load_document(path)
    finder = Finder(document)
    urls = []
    for operation in list(finder)[::7]:
        server = document.server_nodes(operation.node)[0]["url"].rstrip("/")
        urls.append((server + re.sub(r"\{[^}]*\}", "x1", operation.path), operation.method))
    rival = APICallPathFinder(SchemaPath.from_dict(document.raw))
    few = urls[:: max(1, len(urls) // 12)]
    rival.find(few[0][1], few[0][0])
    ours, theirs = measure(
        rounds,
        (lambda: [finder.find(*url) for url in urls], 5),
        (lambda: [rival.find(method, url) for url, method in few], 1),
    )
    yield Row(
        f"find an operation, {path.name}",
        [value / len(urls) for value in ours],
        "openapi-core",
        [value / len(few) for value in theirs],
        "ms",
        0.1,
    )


def validating(path: Path, rounds: int) -> Iterator[Row]:
    if not is_installed("jsonschema"):
        left_out("jsonschema", f"validating answers of {path.name}")
        return
    import jsonschema

    method, url = ANSWERS[path.name]
    document, response, media = answer_of(path)
    assert media.schema is not None
    closed = close_schema(document, media.schema)
    compiled = compile_schema(document, media.schema, closed)
    value = sample(closed, seed=1, examples=response.examples, is_valid=compiled.is_valid)
    request = {"requestId": "r", "endpoint": url, "method": method}

    def checker() -> Any:
        draft = jsonschema.Draft202012Validator
        return draft(closed, format_checker=draft.FORMAT_CHECKER)

    firsts, rival_firsts = [], []
    for _ in range(max(2, rounds // 3)):
        contracts = Contracts([DocumentSource(path)])
        contracts.resolve(request)
        firsts.append(once(lambda c=contracts: c.check_mock(request, Mock("r", value))))
        rival_firsts.append(once(lambda: checker().is_valid(value)))
    rival = checker()
    gate, theirs = measure(
        rounds,
        (lambda: contracts.check_mock(request, Mock("r", value)), 200),
        (lambda: rival.is_valid(value), 5),
    )
    what = f"{len(compact(value))} B answer, {path.name}"
    yield Row(f"first check of a {what}", firsts, "jsonschema", rival_firsts, "ms")
    yield Row(f"later check of a {what}", gate, "jsonschema", theirs, "ms", 0.1)


def condensing(path: Path) -> Row:
    """Compare what an assistant reads with the raw schema: all it refers to, as the file has it."""
    method, url = ANSWERS[path.name]
    document, response, media = answer_of(path)
    assert media.schema is not None
    closed = close_schema(document, media.schema)
    compiled = compile_schema(document, media.schema, closed)
    examples = [value for value in response.examples if compiled.is_valid(value)]
    view = condense(closed, examples=examples)
    mine, raw = (len(compact(value)) for value in (view.to_json(), raw_schema(document, media)))
    note = "" if view.is_complete else "folds required content"
    what = f"condensed view, {method} {url.rpartition('/v1')[2][-30:]}"
    return Row(what, [mine], "raw schema", [raw], "characters", note=note)


def answer_of(path: Path) -> tuple[Document, ResponseContract, Media]:
    method, url = ANSWERS[path.name]
    document = load_document(path)
    response = Finder(document).find(url, method).operation.response(200)
    assert response is not None
    media = response.pick()
    assert media is not None
    return document, response, media


def raw_schema(document: Document, media: Media) -> dict[str, Any]:
    """Return the schema and every schema its references reach, each once, unchanged."""
    assert media.schema is not None
    found: dict[str, Any] = {}
    todo = [media.schema]
    while todo:
        place = todo.pop()
        if str(place) in found:
            continue
        node = found[str(place)] = follow(place.file.tree, place.pointer)
        stack = [node]
        while stack:
            part = stack.pop()
            if isinstance(part, dict):
                if isinstance(part.get("$ref"), str):
                    todo.append(document.resolve(place, part["$ref"])[0])
                stack += part.values()
            elif isinstance(part, list):
                stack += part
    return {name.rpartition("/")[2]: node for name, node in found.items()}


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def once(work: Callable[[], Any], loops: int = 1) -> float:
    """Return milliseconds per call."""
    gc.collect()
    start = time.perf_counter()
    for _ in range(loops):
        work()
    return (time.perf_counter() - start) / loops * 1e3


def measure(rounds: int, *works: tuple[Callable[[], Any], int]) -> tuple[list[float], ...]:
    """Return milliseconds per call of each work, one value a round; the works take turns."""
    times: tuple[list[float], ...] = tuple([] for _ in works)
    for _ in range(rounds):
        for kept, (work, loops) in zip(times, works, strict=True):
            kept.append(once(work, loops))
    return times
