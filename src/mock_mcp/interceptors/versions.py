"""The HTTP libraries that are intercepted, and the versions the tests run against."""

from __future__ import annotations

__all__ = ["NOT_INTERCEPTED", "TESTED"]

TESTED = {
    "aiohttp": ("3.8", "3.14"),
    "httplib2": ("0.22", "0.32"),
    "httpx": ("0.27", "0.28"),
    "httpx2": ("2.16", "2.16"),
    "niquests": ("3.5", "3.21"),
    "requests": ("2.31", "2.34"),
    "urllib3": ("1.26", "2.8"),
}
"""The oldest and the newest version, by distribution; docs/interception.md says the same."""

NOT_INTERCEPTED = ("curl_cffi", "grpcio", "primp", "pycurl", "pyreqwest", "rnet", "tls-client")
"""Distributions that connect past Python's sockets, where no guard sees them."""
