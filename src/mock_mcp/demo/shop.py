"""A shop's front page, which needs three answers from an API that does not exist."""

from __future__ import annotations

import asyncio
import json
import sys

from mock_mcp import connect

API = "https://petstore.example.com/v1"


async def main() -> None:
    """Ask for the page's data and print it."""
    async with connect(file_path=__file__, test_name="test_front_page") as client:
        pets, pet, order = await asyncio.gather(
            client.request_mock(f"{API}/pets?status=available"),
            client.request_mock(
                f"{API}/pets/11", metadata={"instructions": "A parrot that was born in 2021."}
            ),
            client.request_mock(f"{API}/orders", "POST", body={"petId": 11, "quantity": 2}),
        )
        for mock in (pets, pet, order):
            print(json.dumps({"status": mock.status or 200, "data": mock.data}))
    sys.stdout.flush()


asyncio.run(main())
