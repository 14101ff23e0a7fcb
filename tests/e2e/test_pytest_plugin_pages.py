"""Tests of pages, run by pytest: what the page swallows, the report says."""

from __future__ import annotations

import pytest

from support.browser import CHROMIUM, FLAGS, Site, needs_chromium, site
from support.plugin import PluginProject, tests

__all__ = ["site", "tests"]
pytest_plugins = ("pytester",)

pytest.importorskip("playwright", reason="needs playwright")
pytestmark = needs_chromium

PAGE = f"""
import mock_mcp as mock_mcp_module
from playwright.sync_api import sync_playwright

@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path={CHROMIUM!r}, args={list(FLAGS)})
        yield browser
        browser.close()

@pytest.fixture
def page(browser):
    return browser.new_page()
"""
FETCH = "fetch('https://api.test/users/1').then(a => a.json(), () => 'swallowed')"


def write(tests: PluginProject, site: Site, code: str) -> None:
    lines = code.format(site=site.url, fetch=FETCH).strip("\n").splitlines()
    tests.write(PAGE + "\n".join(line[4:] for line in lines))


def test_a_page_is_recorded_and_replayed(tests: PluginProject, site: Site):
    write(
        tests,
        site,
        """
    @pytest.mark.mock_mcp
    def test_one(page):
        mock_mcp_module.route(page, "https://api.test/**")
        page.goto("{site}")
        assert page.evaluate("{fetch}")["id"] > 0
    """,
    )
    recorded = tests.spawn("--mock-source=example", "--mock-mode=once")
    assert "1 from the contract, 1 written" in recorded.text
    replayed = tests.spawn(CI="1")
    assert replayed.outcomes() == {"passed": 1}, replayed.text
    assert "1 replayed" in replayed.text


def test_a_page_is_recorded_from_the_real_api(tests: PluginProject, site: Site):
    write(
        tests,
        site,
        """
    @pytest.mark.mock_mcp
    def test_one(page):
        mock_mcp_module.route(page, "**/api/**")
        page.goto("{site}")
        asked = "fetch('/api/greeting').then(answer => answer.text())"
        assert page.evaluate(asked) == "from the site"
    """,
    )
    recorded = tests.spawn("--mock-source=live")
    assert "1 from the real API, 1 written" in recorded.text
    assert site.asked == ["GET /api/greeting"]


def test_what_a_page_swallows_fails_its_test(tests: PluginProject, site: Site):
    write(
        tests,
        site,
        """
    def test_swallowed(mock_mcp, page):
        mock_mcp.route(page, "https://api.test/**")
        page.goto("{site}")
        assert page.evaluate("{fetch}") == "swallowed"

    def test_failed(mock_mcp, page):
        mock_mcp.route(page, "https://api.test/**")
        page.goto("{site}")
        assert page.evaluate("{fetch}") == {{"id": 1}}
    """,
    )
    result = tests.spawn()
    assert result.outcomes() == {"failed": 2}
    _, swallowed, failed = result.text.split("\n___")
    for text in (swallowed, failed):
        assert "No recorded answer for GET https://api.test/users/1" in text
        assert "To obtain the answer" in text
    assert "did not let out" not in swallowed
    assert "assert 'swallowed' == {'id': 1}" in failed
    assert "what the code under test did not let out" in failed
