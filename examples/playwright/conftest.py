from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from server import make_server

MINUTES = 10 * 60 * 1000
"""What an assistant may need while answers are recorded, in milliseconds."""


@pytest.fixture(scope="session")
def shop() -> Iterator[str]:
    """The address of the page."""
    server = make_server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: the system's, else the one that ``playwright install chromium`` puts there."""
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("needs a browser: playwright install chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    if os.environ.get("MOCK_MCP"):
        page.set_default_timeout(MINUTES)
        expect.set_options(timeout=MINUTES)
    yield page
    page.close()
