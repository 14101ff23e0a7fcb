"""Playwright replays an exported HAR: its own look-up, and `route_from_har` in a browser."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from mock_mcp.convert.har import to_har
from mock_mcp.recordings.bodies import wire_request, wire_response
from support.browser import CHROMIUM, FLAGS, needs_chromium
from unit.convert.samples import EVERYTHING, answer, call, recording

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

FOLLOWED = {"redirect"}
"""Playwright follows a redirect itself."""
REPEATED = {"again-3"}
"""Playwright answers equal calls with the first."""


def test_playwright_finds_every_answer(tmp_path: Path):
    tree, _ = to_har([("a.json", recording(*EVERYTHING.values()))])
    (tmp_path / "a.har").write_text(json.dumps(tree))
    with playwright.sync_playwright() as running:
        try:  # no public door leads to the look-up without a browser
            connection = running._impl_obj._connection
            utils = connection.local_utils()
            har = running._sync(utils.har_open({"file": str(tmp_path / "a.har")}))["harId"]
        except (AttributeError, TypeError):
            pytest.skip("this version of playwright is built otherwise")
        for name, interaction in EVERYTHING.items():
            if interaction.response is None or name in FOLLOWED | REPEATED:
                continue
            request = wire_request(interaction.request)
            expected = wire_response(interaction.request, interaction.response)
            query = {
                "harId": har,
                "url": request.url,
                "method": request.method,
                "headers": [{"name": key, "value": value} for key, value in request.headers],
                "postData": base64.b64encode(request.body).decode() if request.body else None,
                "isNavigationRequest": False,
            }
            found = running._sync(utils.har_lookup(query))
            assert found["action"] == "fulfill", name
            assert found["status"] == expected.status, name
            assert base64.b64decode(found["body"]) == expected.body, name
            pairs = tuple((header["name"], header["value"]) for header in found["headers"])
            assert pairs == expected.headers, name


@needs_chromium
def test_a_page_is_served_from_the_archive(tmp_path: Path):
    page_ = answer(
        call(path="/page"),
        "<script>fetch('/n', {method: 'POST', body: JSON.stringify({a: 1})})"
        ".then(r => r.json()).then(x => document.title = x.n)</script>",
        headers={"content-type": "text/html"},
    )
    posted = answer(call("POST", "/n", '{"a":1}', content_type="text/plain"), {"n": "served"})
    tree, _ = to_har([("a.json", recording(page_, posted))])
    (tmp_path / "a.har").write_text(json.dumps(tree))
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page()
            page.route_from_har(str(tmp_path / "a.har"))
            page.goto("https://api.test/page")
            page.wait_for_function("document.title === 'served'")
        finally:
            browser.close()
