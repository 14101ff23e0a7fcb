from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from app import app

pytestmark = pytest.mark.mock_mcp
client = TestClient(app)


def test_a_walk():
    answer = client.get("/walks/Lisbon").json()
    assert answer["city"] == "Lisbon"
    assert answer["go"] in (True, False)
    assert "mm of rain" in answer["because"]


def test_a_city_nobody_knows(mock_mcp):
    unknown = {"detail": "No such city."}
    mock_mcp.add_response("GET", "/v1/forecast", unknown, status=404)
    assert client.get("/walks/Atlantis").status_code == 404


def test_the_weather_service_is_down(mock_mcp):
    mock_mcp.add_response("GET", "/v1/forecast", error="read_timeout")
    assert client.get("/walks/Lisbon").status_code == 503
