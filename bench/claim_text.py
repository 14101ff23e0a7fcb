"""What an assistant reads of a batch of 50 requests, in characters, beside their raw metadata.

    python bench/claim_text.py [--json] [--specs DIR]

Everything is real: a daemon, a test client, an adapter and an MCP client in this process. Each row
is one batch of 50 ``GET`` requests; "raw" is the JSON of the requests with the response schema in
the metadata of each, as a client sends it that has no contract gate. Wanted: at most 25 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcp import Client
from mcp_types import TextContent

from mock_mcp import connect
from mock_mcp.adapter.server import Adapter
from mock_mcp.contract.document import DocumentSource
from mock_mcp.contract.expected import expected
from mock_mcp.contract.gate import Contracts
from mock_mcp.daemon.server import MockMcpDaemon
from mock_mcp.limits import Limits

SPECS = Path(__file__).parents[1].parent / "shared" / "specs"
REQUESTS = 50
WANTED = 0.25
WAIT_MS = 30_000

APIS: dict[str, Callable[[int], str]] = {
    "github-3.0.json": lambda n: f"https://api.github.com/repos/owner{n}/repo{n}",
    "stripe-3.0.json": lambda n: f"https://api.stripe.com/v1/customers/cus_{n}",
}


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def schema_of(document: Path, url: str) -> dict[str, Any]:
    """Return the response schema as one self-contained JSON Schema."""
    wanted = expected(
        Contracts([DocumentSource(document)]), {"requestId": "r", "endpoint": url, "method": "GET"}
    )
    assert wanted is not None
    assert wanted.schema is not None
    return wanted.schema


async def read(document: Path | None, urls: list[str], metadata: dict[str, Any] | None) -> str:
    """Return the text of the claim of one batch; the batch is answered by nobody."""
    with tempfile.TemporaryDirectory(prefix="mm") as path:
        root, cache = Path(path) / "p", Path(path) / "c"
        root.mkdir()
        listed = [] if document is None else [str(document)]
        root.joinpath("pyproject.toml").write_text(f"[tool.mock-mcp]\nopenapi = {listed}\n")
        async with (
            MockMcpDaemon(root, cache_dir=cache),
            connect(project_root=root, cache_dir=cache, enabled=True) as test,
            Client(Adapter(project_root=root, cache_dir=cache).server()) as client,
        ):
            asked = [
                asyncio.create_task(test.request_mock(url, "GET", metadata=metadata))
                for url in urls
            ]
            result = await client.call_tool("claim_next_batch", {"waitMs": WAIT_MS})
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
    (content,) = result.content
    assert isinstance(content, TextContent)
    claim = json.loads(content.text)
    assert claim["state"] == "claimed"
    assert len(claim["requests"]) == len(urls)
    return content.text


async def rows(specs: Path) -> list[dict[str, Any]]:
    found = []
    for name, url_of in APIS.items():
        document, urls = specs / name, [url_of(n) for n in range(REQUESTS)]
        metadata = {"schema": schema_of(document, urls[0]), "instructions": "A public repository."}
        raw = [
            {"requestId": f"r{n}", "endpoint": url, "method": "GET", "metadata": metadata}
            for n, url in enumerate(urls, 1)
        ]
        chars, once = len(compact(raw)), len(compact(metadata["schema"]))
        cases = {
            "schema in every request's metadata": (None, metadata),
            "document of the project": (document, None),
        }
        if chars > Limits().frame_bytes:
            del cases["schema in every request's metadata"]  # a client sends that in pieces
        for case, (registered, given) in cases.items():
            text = await read(registered, urls, given)
            found.append(
                {
                    "api": name,
                    "case": case,
                    "raw_chars": chars,
                    "raw_schema_chars": once,
                    "read_chars": len(text),
                    "read_over_raw": len(text) / chars,
                    "read_over_raw_schema": len(text) / once,
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--specs", type=Path, default=SPECS)
    options = parser.parse_args()
    if not options.specs.is_dir():
        parser.exit(1, f"the published documents are not at {options.specs}; name them: --specs\n")
    found = asyncio.run(rows(options.specs))
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{'api':16} {'contract from':35} {'raw':>11} {'schema once':>11} {'read':>7}  of raw")
    for row in found:
        print(
            f"{row['api']:16} {row['case']:35} {row['raw_chars']:11,} "
            f"{row['raw_schema_chars']:11,} {row['read_chars']:7,}  {row['read_over_raw']:.2%}"
            f"{'' if row['read_over_raw'] <= WANTED else '  TOO MUCH'}"
        )


if __name__ == "__main__":
    main()
