"""What an assistant reads of a batch of 50 requests, in characters, beside their raw metadata.

Everything is real: a daemon, a test client, an adapter and an MCP client in this process. Each row
is one batch of 50 ``GET`` requests; "raw" is the JSON of the requests with the response schema in
the metadata of each, as a client sends it that has no contract gate.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mcp import Client
from mcp_types import TextContent

from bench.project import SPECS
from bench.report import Row, Size
from mock_mcp import connect
from mock_mcp.adapter.server import Adapter
from mock_mcp.contract.document import DocumentSource
from mock_mcp.contract.expected import expected
from mock_mcp.contract.gate import Contracts
from mock_mcp.daemon.server import MockMcpDaemon
from mock_mcp.limits import Limits

REQUESTS = 50
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


def rows(size: Size) -> Iterator[Row]:
    """Each API, with the contract from the project's document and from the requests."""
    for name, url_of in APIS.items():
        if not (SPECS / name).exists():
            print(f"  {name} is not there: left out is what is read of it")
            continue
        document, urls = SPECS / name, [url_of(n) for n in range(REQUESTS)]
        metadata = {"schema": schema_of(document, urls[0]), "instructions": "A public repository."}
        raw = [
            {"requestId": f"r{n}", "endpoint": url, "method": "GET", "metadata": metadata}
            for n, url in enumerate(urls, 1)
        ]
        chars = len(compact(raw))
        cases = {
            "schema in every request's metadata": (None, metadata),
            "document of the project": (document, None),
        }
        if chars > Limits().frame_bytes:
            del cases["schema in every request's metadata"]  # a client sends that in pieces
        for case, (registered, given) in cases.items():
            text = asyncio.run(read(registered, urls, given))
            what = f"{name}, {case}"
            yield Row(what, [len(text)], "raw requests", [chars], "characters", 0.25)
