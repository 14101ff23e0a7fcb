"""The test of a shop's front page, whose data comes from an API that does not exist."""

import json
import urllib.request

import httpx
import pytest

API = "https://petstore.example.com/v1"


@pytest.mark.mock_mcp(instructions="A small pet shop with a friendly dog.")
def test_front_page():
    pets = httpx.get(f"{API}/pets", params={"status": "available"}).raise_for_status().json()
    with urllib.request.urlopen(f"{API}/pets/{pets[0]['id']}") as answer:
        pet = json.load(answer)
    order = httpx.post(f"{API}/orders", json={"petId": pet["id"], "quantity": 1})
    assert order.status_code == 201
    assert order.json()["state"] in ("placed", "approved")
