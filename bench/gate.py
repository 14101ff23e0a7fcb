"""Providing with the contract check: 50 answers that are GitHub repositories."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

from bench.project import SPECS, BenchProject, project, timed_ms
from bench.report import Row, Size
from mock_mcp import DaemonClient, Mock, connect
from mock_mcp.contract.document import DocumentSource
from mock_mcp.contract.expected import sample_mock
from mock_mcp.contract.gate import Contracts

DOCUMENT = SPECS / "github-3.0.json"
URLS = [f"https://api.github.com/repos/owner{number}/repo{number}" for number in range(50)]


def rows(size: Size) -> Iterator[Row]:
    """A provide with and without the document registered."""
    if not DOCUMENT.exists():
        print(f"  {DOCUMENT.name} is not there: left out is the gate")
        return
    contracts = Contracts([DocumentSource(DOCUMENT)])
    request = {"requestId": "r", "endpoint": URLS[0], "method": "GET"}
    answer = sample_mock(contracts, request, seed=1).data
    rounds = size.of(30, 2)
    with project() as place:
        without = asyncio.run(provides_ms(place, answer, rounds))
    with project() as place:
        settings = f"[tool.mock-mcp]\nopenapi = [{json.dumps(str(DOCUMENT))}]\n"
        (place.root / "pyproject.toml").write_text(settings)
        checked = asyncio.run(provides_ms(place, answer, rounds))
    yield Row("provide 50 repositories, checked", checked, "unchecked", without, "ms", 1.5)


async def provides_ms(place: BenchProject, answer: object, rounds: int) -> list[float]:
    times: list[float] = []
    async with DaemonClient.of(place.daemon()) as control, connect(**place.options) as client:
        for _ in range(rounds + 1):
            asked = asyncio.gather(*(client.request_mock(url) for url in URLS))
            claim = await control.claim_next_batch("bench", wait_ms=30_000)
            assert claim is not None
            mocks = [Mock(request["requestId"], answer) for request in claim.requests]
            times += await timed_ms(
                1,
                lambda claim=claim, mocks=mocks: control.provide_batch(
                    "bench", claim.batch_id, claim.claim_token, mocks
                ),
            )
            await asked
    return times[1:]  # the first one loads the document
