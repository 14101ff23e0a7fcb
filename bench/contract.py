"""Contract work beside its neighbours, in one process: medians, spread and ratios.

    python bench/contract.py [--json] [--rounds N] [--specs DIR]

Rows: loading a document against ``json.loads`` of the same file (cold: file to searchable index,
which is also the warm path for JSON; YAML's warm path reads the stored parse), finding an
operation against openapi-core, the first and later validations of an answer against jsonschema,
the condensed view of the answer against its raw schema in characters and rough tokens (a quarter of
the characters). openapi-core, jsonschema and PyYAML are optional: what is not installed is said,
and its rows are left out.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mock_mcp.contract.condense import condense
from mock_mcp.contract.document import Document, DocumentSource, load_document
from mock_mcp.contract.finder import Finder
from mock_mcp.contract.gate import Contracts
from mock_mcp.contract.operation import Media
from mock_mcp.contract.pointer import follow
from mock_mcp.contract.sample import sample
from mock_mcp.contract.schema import close_schema, compile_schema
from mock_mcp.types import Mock

SPECS = Path(__file__).parents[1].parent / "shared" / "specs"

ANSWERS = {
    "github-3.0.json": ("GET", "https://api.github.com/repos/o/r/issues/1"),
    "stripe-3.0.json": ("GET", "https://api.stripe.com/v1/customers/cus_1"),
    "openai-3.1.json": ("POST", "https://api.openai.com/v1/responses"),
}

RIVALS = {
    "openapi_core": "the rows on finding an operation",
    "jsonschema": "the rows on validation",
    "yaml": "the rows on YAML",
}

Row = dict[str, Any]


def once(work: Callable[[], Any], loops: int = 1) -> float:
    """Return seconds per call."""
    gc.collect()
    start = time.perf_counter()
    for _ in range(loops):
        work()
    return (time.perf_counter() - start) / loops


def measure(rounds: int, *works: tuple[Callable[[], Any], int]) -> tuple[list[float], ...]:
    """Return seconds per call of each work, one value a round; the works take turns."""
    times: tuple[list[float], ...] = tuple([] for _ in works)
    for _ in range(rounds):
        for kept, (work, loops) in zip(times, works, strict=True):
            kept.append(once(work, loops))
    return times


def row(what: str, ours: list[float], rival: str, theirs: list[float], want: str) -> Row:
    def spread(times: list[float]) -> list[float]:
        return [min(times) * 1e6, max(times) * 1e6]

    mine, other = statistics.median(ours), statistics.median(theirs)
    return {
        "what": what,
        "ours_us": mine * 1e6,
        "ours_range_us": spread(ours),
        "rival": rival,
        "rival_us": other * 1e6,
        "rival_range_us": spread(theirs),
        "ours_over_rival": mine / other,
        "wanted": want,
    }


def loading(path: Path, rounds: int) -> list[Row]:
    yaml = importlib.util.find_spec("yaml") is not None
    with tempfile.TemporaryDirectory() as name:
        # JSON is a subset of YAML: the same document must come from the stored parse.
        copy, cache = Path(name) / "api.yaml", Path(name) / "cache"
        copy.write_text("# a comment makes it YAML\n" + path.read_text())
        if yaml:
            load_document(copy, cache_dir=cache)
        plain, cold, warm = measure(
            rounds,
            (lambda: json.loads(path.read_bytes()), 1),
            (lambda: Finder(load_document(path)), 1),
            (lambda: Finder(load_document(copy, cache_dir=cache)) if yaml else None, 1),
        )
    rows = [row(f"load {path.name}, cold and warm", cold, "json.loads", plain, "<= 1")]
    if yaml:
        rows.append(row(f"load {path.name} as YAML, warm", warm, "json.loads", plain, "<= 1"))
    return rows


def finding(path: Path, rounds: int) -> list[Row]:
    document = load_document(path)
    finder = Finder(document)
    urls = []
    for operation in list(finder)[::7]:
        server = document.server_nodes(operation.node)[0]["url"].rstrip("/")
        urls.append((server + re.sub(r"\{[^}]*\}", "x1", operation.path), operation.method))
    if importlib.util.find_spec("openapi_core") is None:
        return []
    from jsonschema_path import SchemaPath
    from openapi_core.templating.paths.finders import APICallPathFinder

    theirs_finder = APICallPathFinder(SchemaPath.from_dict(document.raw))
    few = urls[:: max(1, len(urls) // 12)]
    theirs_finder.find(few[0][1], few[0][0])
    ours, theirs = measure(
        rounds,
        (lambda: [finder.find(*url) for url in urls], 5),
        (lambda: [theirs_finder.find(m, u) for u, m in few], 1),
    )
    return [
        row(
            f"find an operation, {path.name}",
            [t / len(urls) for t in ours],
            "openapi-core",
            [t / len(few) for t in theirs],
            "<= 0.02",
        )
    ]


def validating(path: Path, rounds: int) -> list[Row]:
    method, url = ANSWERS[path.name]
    document = load_document(path)
    operation = Finder(document).find(url, method).operation
    response = operation.response(200)
    media = response.pick() if response is not None else None
    assert response is not None
    assert media is not None
    assert media.schema is not None
    closed = close_schema(document, media.schema)
    compiled = compile_schema(document, media.schema, closed)
    value = sample(closed, seed=1, examples=response.examples, is_valid=compiled.is_valid)
    request = {"requestId": "r", "endpoint": url, "method": method}

    def first() -> None:
        contracts = Contracts([DocumentSource(path)])
        contracts.resolve(request)
        start = time.perf_counter()
        assert contracts.check_mock(request, Mock("r", value)).violations == ()
        firsts.append(time.perf_counter() - start)

    firsts: list[float] = []
    for _ in range(max(3, rounds // 3)):
        first()
    contracts = Contracts([DocumentSource(path)])
    if importlib.util.find_spec("jsonschema") is None:
        return []
    import jsonschema

    theirs_firsts = []
    for _ in range(max(3, rounds // 3)):
        start = time.perf_counter()
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        rival = jsonschema.Draft202012Validator(closed, format_checker=checker)
        assert rival.is_valid(value)
        theirs_firsts.append(time.perf_counter() - start)
    gate, alone, theirs = measure(
        rounds,
        (lambda: contracts.check_mock(request, Mock("r", value)), 200),
        (lambda: compiled.is_valid(value), 500),
        (lambda: rival.is_valid(value), 5),
    )
    size = len(json.dumps(value))
    return [
        row(
            f"first check of a {size} B answer, {path.name}",
            firsts,
            "jsonschema",
            theirs_firsts,
            "",
        ),
        row(f"later check (whole gate), {path.name}", gate, "jsonschema", theirs, "<= 0.1"),
        row(f"later validation alone, {path.name}", alone, "jsonschema", theirs, "<= 0.1"),
    ]


def condensing(path: Path, rounds: int) -> list[Row]:
    """Compare what an assistant reads with the raw schema: all it refers to, as the file has it."""
    method, url = ANSWERS[path.name]
    document = load_document(path)
    response = Finder(document).find(url, method).operation.response(200)
    media = response.pick() if response is not None else None
    assert response is not None
    assert media is not None
    assert media.schema is not None
    closed = close_schema(document, media.schema)
    compiled = compile_schema(document, media.schema, closed)
    examples = [value for value in response.examples if compiled.is_valid(value)]
    (times,) = measure(rounds, (lambda: condense(closed, examples=examples), 1))
    view = condense(closed, examples=examples)
    mine, raw = (len(compact(value)) for value in (view.to_json(), raw_schema(document, media)))
    return [
        {
            "what": f"condensed view of {method} {url.partition('//')[2]}",
            "characters": mine,
            "rough_tokens": mine // 4,
            "raw_characters": raw,
            "raw_rough_tokens": raw // 4,
            "ours_over_raw": mine / raw,
            "complete": view.is_complete,
            "ours_us": statistics.median(times) * 1e6,
        }
    ]


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


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--specs", type=Path, default=SPECS)
    options = parser.parse_args()
    for module, what in RIVALS.items():
        if importlib.util.find_spec(module) is None:
            print(f"{module} is not installed: left out are {what}", file=sys.stderr)
    missing = [name for name in ANSWERS if not (options.specs / name).exists()]
    if missing:
        print(f"{options.specs} has no {', '.join(missing)}: left out", file=sys.stderr)
    rows: list[Row] = []
    sizes: list[Row] = []
    for part in (loading, finding, validating):
        for name in ANSWERS:
            if (options.specs / name).exists():
                rows += part(options.specs / name, options.rounds)
    for name in ANSWERS:
        if name not in missing:
            sizes += condensing(options.specs / name, options.rounds)
    if options.json:
        print(json.dumps([*rows, *sizes], indent=2))
        return
    print(f"{'':52} {'ours µs (range)':>32} {'rival µs (range)':>42} {'ratio':>8}  wanted")
    for r in rows:
        ours = "{:.0f} ({:.0f} to {:.0f})".format(r["ours_us"], *r["ours_range_us"])
        times = (r["rival_us"], *r["rival_range_us"])
        rival = "{} {:.0f} ({:.0f} to {:.0f})".format(r["rival"], *times)
        print(f"{r['what']:52} {ours:>32} {rival:>42} {r['ours_over_rival']:8.3f}  {r['wanted']}")
    print(f"\n{'':62} {'view: characters (tokens)':>26} {'raw schema':>22} {'ratio':>8} {'µs':>8}")
    for r in sizes:
        view = f"{r['characters']} (~{r['rough_tokens']})"
        raw = f"{r['raw_characters']} (~{r['raw_rough_tokens']})"
        whole = "" if r["complete"] else "  folds required content"
        ratio = r["ours_over_raw"]
        print(f"{r['what']:62} {view:>26} {raw:>22} {ratio:8.3f} {r['ours_us']:8.0f}{whole}")


if __name__ == "__main__":
    main()
