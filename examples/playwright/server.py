"""Serve the page. The API behind it does not exist yet; its contract does."""

from __future__ import annotations

import http.server
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("index.html")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every request with the page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(PAGE.read_bytes())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def make_server(port: int = 0) -> http.server.ThreadingHTTPServer:
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    make_server(8000).serve_forever()
