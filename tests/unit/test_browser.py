"""What a routed page needs no browser to show."""

from __future__ import annotations

import asyncio
import re

import pytest

from mock_mcp import browser
from mock_mcp.browser import Lull
from mock_mcp.exchange import HttpRequest, HttpResponse

URL = "https://api.test/v1/users/1?page=2"


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("**/v1/**", True),
        ("**/users/**", True),
        ("**/*", True),
        ("**/*page=2", True),
        ("https://api.test/**", True),
        ("https://api.test/*/users/*", True),
        ("https://api.test/**/users/1?page=2", True),
        ("https://api.test/**/v1/users/1?page=2", True),
        ("**/{pets,users}/**", True),
        ("/v1/**", True),
        ("https://api.test/*", False),
        ("**/{pets,orders}/**", False),
        ("**/user/**", False),
        ("**/users/1", False),
        ("**/users/1.page=2", False),
        ("/users/**", False),
        (re.compile("users/[0-9]"), True),
        (re.compile("users$"), False),
        (lambda url: url.endswith("=2"), True),
    ],
)
def test_a_pattern_means_what_it_means_to_playwright(pattern, matches):
    assert browser._matcher(pattern)(URL) is matches
    url_match = pytest.importorskip(
        "playwright._impl.isomorphic.url_match", reason="needs a playwright that is built so"
    )
    assert url_match.url_matches("https://api.test", URL, pattern) is matches


def following(status: int, location: str | None, method: str = "POST") -> HttpRequest | None:
    headers = (("content-type", "text/plain"), ("authorization", "secret"), ("x-a", "1"))
    given = () if location is None else (("Location", location),)
    request = HttpRequest(method, URL, headers, b"body")
    return browser._following(request, HttpResponse(status, given, b""))


def test_a_redirect_leads_where_a_browser_would_go():
    moved = following(302, "../orders#top")
    assert moved == HttpRequest(
        "GET", "https://api.test/v1/orders", (("authorization", "secret"), ("x-a", "1"))
    )
    assert following(303, "/", "PUT").method == "GET"
    assert following(303, "/", "HEAD").method == "HEAD"
    assert following(301, "/", "PUT").method == "PUT"
    assert following(308, "/").body == b"body"
    away = following(307, "https://other.test/")
    assert away.headers == (("content-type", "text/plain"), ("x-a", "1"))


@pytest.mark.parametrize(
    ("status", "location"), [(304, "/"), (200, "/"), (302, None), (302, "app://x"), (300, "/")]
)
def test_what_is_no_redirect_leads_nowhere(status, location):
    assert following(status, location) is None


@pytest.mark.parametrize("target", [None, "page", object()])
def test_what_is_no_page_is_refused(target):
    with pytest.raises(TypeError, match="takes a Page or BrowserContext"):
        browser.route(target, "**/*", None)


@pytest.mark.asyncio
async def test_what_comes_together_goes_on_in_one_turn():
    lull = Lull(quiet_s=0.02, longest_s=60)
    turns: list[int] = []
    turn = 0

    def count() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(count)

    async def come(after: int) -> None:
        for _ in range(after):
            await asyncio.sleep(0)
        await lull.wait()
        turns.append(turn)

    loop = asyncio.get_running_loop()
    loop.call_soon(count)
    gone = asyncio.ensure_future(come(1))
    loop.call_soon(loop.call_soon, gone.cancel)  # one that leaves takes nobody along
    await asyncio.gather(*(come(after) for after in range(5)))
    assert gone.cancelled()
    assert len(set(turns)) == 1
    await lull.wait()  # and the next group is held again


@pytest.mark.asyncio
async def test_a_stream_of_requests_is_not_held_for_ever():
    lull = Lull(quiet_s=60, longest_s=0.02)
    async with asyncio.timeout(20):
        await asyncio.gather(lull.wait(), lull.wait())
