"""Chromium under Playwright's sync and async API, and a site on loopback for it to visit."""

from __future__ import annotations

import asyncio
import http.server
import inspect
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from support.ws import HANG_S

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: install chromium")

Step = Callable[[Any], Any]
"""What is done with a page; a result that has to be awaited is."""


class Site:
    """Serves an empty page at every path; ``asked`` are the requests for others than ``/``."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("content-length", 0))
                body = self.rfile.read(length).decode()
                if self.path not in ("/", "/favicon.ico"):
                    site.asked.append(f"{self.command} {self.path} {body}".strip())
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(b"from the site")

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def until(condition: Callable[[], Any]) -> Step:
    """Return a step that ends when a condition holds; the browser's events are handled meanwhile.

    It returns what the condition does.
    """

    def sync(page: Any) -> Any:
        ends_at = time.monotonic() + HANG_S
        while not (found := condition()):
            assert time.monotonic() < ends_at, "the condition never held"
            page.wait_for_timeout(10)
        return found

    async def asynchronous(page: Any) -> Any:
        ends_at = time.monotonic() + HANG_S
        while not (found := condition()):
            assert time.monotonic() < ends_at, "the condition never held"
            await page.wait_for_timeout(10)
        return found

    def step(page: Any) -> Any:
        return (asynchronous if inspect.iscoroutinefunction(page.goto) else sync)(page)

    return step


class Chromium:
    """One browser, driven from a thread of its own through one of Playwright's APIs."""

    def __init__(self, api: str) -> None:
        self.api = api
        self._jobs: queue.SimpleQueue[tuple[tuple[Step, ...], Future[list[Any]]] | None] = (
            queue.SimpleQueue()
        )
        serve = self._serve_sync if api == "sync" else lambda: asyncio.run(self._serve())
        self._thread = threading.Thread(target=serve)
        self._thread.start()
        self.visit()  # a process that starts later would belong to a test: to its environment

    def visit(self, *steps: Step) -> list[Any]:
        """Do the steps, one after another, with a page of a new context; return their results."""
        results: Future[list[Any]] = Future()
        self._jobs.put((steps, results))
        return results.result(3 * HANG_S)

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join(HANG_S)
        assert not self._thread.is_alive()

    def _serve_sync(self) -> None:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            while (job := self._jobs.get()) is not None:
                steps, results = job
                context = browser.new_context()
                try:
                    page = context.new_page()
                    page.set_default_timeout(HANG_S * 1000)
                    results.set_result([step(page) for step in steps])
                except BaseException as error:  # noqa: BLE001 - raised by `visit`
                    results.set_exception(error)
                context.close()
            browser.close()

    async def _serve(self) -> None:
        from playwright.async_api import async_playwright

        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            while (job := await asyncio.to_thread(self._jobs.get)) is not None:
                steps, results = job
                context = await browser.new_context()
                try:
                    page = await context.new_page()
                    page.set_default_timeout(HANG_S * 1000)
                    results.set_result([await self._do(step, page) for step in steps])
                except BaseException as error:  # noqa: BLE001 - raised by `visit`
                    results.set_exception(error)
                await context.close()
            await browser.close()

    async def _do(self, step: Step, page: Any) -> Any:
        result = step(page)
        return await result if inspect.isawaitable(result) else result


@pytest.fixture(scope="module", params=["sync", "async"])
def chromium(request: pytest.FixtureRequest) -> Iterator[Chromium]:
    """A browser for the tests of a module, under each API."""
    browser = Chromium(request.param)
    yield browser
    browser.close()


@pytest.fixture
def site() -> Iterator[Site]:
    """A site on loopback."""
    served = Site()
    yield served
    served.close()
