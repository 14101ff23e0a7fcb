"""Call a model's HTTP API: bounded in rate, patient with what passes, plain about what does not.

Strategy: a failure is one of three. What passes (429, 5xx, a broken connection) is tried again
after a pause: the server's ``Retry-After`` if it names one, else one that doubles, with jitter so
that callers spread; a pause that the server asked for holds for every caller. What concerns this
call (a request it does not take) is `CallRefused`. What concerns every call (a wrong key, no such
model) is `ResponderUnusable`.

The key travels in a header, and no text from here contains it: what servers say is searched for it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec

from mock_mcp._version import __version__
from mock_mcp.responders.errors import CannotAnswer, ResponderUnusable

__all__ = ["Api", "CallRefused", "Patience"]

SAID_CHARS = 500
"""Length of what a server says that is passed on."""
_PASSING = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529))
_SPENT = ("insufficient_quota", "billing")
"""What the error of a 429 contains that no waiting repairs."""


class CallRefused(CannotAnswer):
    """The server does not take this call; another may do."""

    code = "call-refused"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call may take.

    Attributes:
        tries: How often it is made.
        first_s, longest_s: The first pause between two tries, which doubles, and the longest.
        asked_s: The longest pause that a server may ask for.
        timeout_s: Seconds without a byte of the answer.
    """

    tries: int = 6
    first_s: float = 1.0
    longest_s: float = 30.0
    asked_s: float = 300.0
    timeout_s: float = 600.0


class Api:
    """One server.

    Args:
        name: How it is called in errors.
        base_url: Where it is.
        headers: Sent with every call, the key among them.
        key: What must not be shown.
        rate: Calls a minute; None for no limit.
        patience: How long calls may take.
        sleep, clock, jitter: Waits some seconds; counts them; draws from 0 to 1.
        transport: In place of the network.
        logger: Where pauses are reported (warning).

    Raises:
        ResponderUnusable: ``base_url`` is no URL.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        rate: float | None = None,
        patience: Patience | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        transport: httpx.AsyncBaseTransport | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self.name = name
        self._key = key
        self._patience = patience or Patience()
        self._spacing_s = 60 / rate if rate else 0.0
        self._logger = logger or logging.getLogger(__name__)
        self._sleep, self._clock, self._jitter = sleep, clock, jitter
        self._next_at = float("-inf")
        self._paused_until = float("-inf")
        timeout = httpx.Timeout(self._patience.timeout_s, connect=10)
        try:
            self._client = httpx.AsyncClient(
                base_url=base_url.rstrip("/") + "/",
                headers={"user-agent": f"mock-mcp/{__version__}", **(headers or {})},
                timeout=timeout,
                limits=httpx.Limits(max_connections=None),
                transport=transport,
            )
        except httpx.InvalidURL as exc:
            raise ResponderUnusable(f"{name}: {base_url!r} is no URL ({exc}).") from None
        self.where = str(self._client.base_url.copy_with(userinfo=b"")).rstrip("/")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def probe(self, path: str) -> None:
        """Find out whether the server is there and takes the key; what else it says is its own.

        Raises:
            ResponderUnusable: It is not there, or refuses the key.
        """
        try:
            response = await self._client.get(path)
        except httpx.RequestError as exc:
            raise ResponderUnusable(
                f"{self.name}: nobody answers at {self.where} ({self._clean(exc)}). Is the server "
                "running, and is --base-url right?"
            ) from None
        if response.status_code in (401, 403):
            raise self._unauthorized(response)

    async def post(self, path: str, payload: Mapping[str, Any]) -> Any:
        """Return the JSON that the server answers.

        Raises:
            CallRefused: It does not take this call.
            CannotAnswer: It fails again and again.
            ResponderUnusable: It will take no call: a wrong key, an unknown model or address.
        """
        content = msgspec.json.encode(payload)
        for number in range(1, self._patience.tries + 1):
            await self._turn()
            asked_s: float | None = None
            try:
                response = await self._client.post(
                    path, content=content, headers={"content-type": "application/json"}
                )
            except httpx.ReadTimeout:  # it would take as long again
                raise CannotAnswer(
                    f"{self.name} did not answer within {self._patience.timeout_s:g} s."
                ) from None
            except httpx.RequestError as exc:
                failure = f"{self.where}: {self._clean(exc)}"
            else:
                if response.is_success:
                    try:
                        return msgspec.json.decode(response.content)
                    except (ValueError, RecursionError) as exc:
                        failure = f"its answer is not JSON: {exc}"
                else:
                    self._refused(response)
                    failure = self._said(response)
                    asked_s = _retry_after(response.headers)
            if number < self._patience.tries:
                await self._pause(number, asked_s, failure)
        raise CannotAnswer(f"{self.name} failed {self._patience.tries} times; at last: {failure}")

    # -- Inside --------------------------------------------------------------------------------

    async def _turn(self) -> None:
        """Wait for this call's turn, by the rate and by what the server asked for."""
        while True:
            now = self._clock()
            at = max(self._next_at, self._paused_until)
            if at <= now:
                break
            await self._sleep(at - now)
        self._next_at = now + self._spacing_s

    async def _pause(self, number: int, asked_s: float | None, failure: str) -> None:
        patience = self._patience
        if asked_s is None:
            longest_s = min(patience.longest_s, patience.first_s * 2 ** (number - 1))
            pause_s = longest_s * (0.5 + self._jitter() / 2)
        elif asked_s > patience.asked_s:
            raise CannotAnswer(f"{self.name} asks to wait {asked_s:.0f} s: {failure}")
        else:
            self._paused_until = max(self._paused_until, self._clock() + asked_s)
            # The others wake with this one: spread them.
            pause_s = asked_s + self._jitter() * min(1.0, patience.first_s)
        self._logger.warning(
            "%s: %s; trying again in %.1f s (%d of %d)",
            *(self.name, failure, pause_s, number, patience.tries - 1),
        )
        await self._sleep(pause_s)

    def _refused(self, response: httpx.Response) -> None:
        """Raise for what trying again does not repair."""
        status, said = response.status_code, self._said(response)
        if status in (401, 403):
            raise self._unauthorized(response)
        if status == 402 or (status == 429 and any(word in said for word in _SPENT)):
            raise ResponderUnusable(f"{self.name} wants to be paid: {said}")
        if status == 404:
            raise ResponderUnusable(
                f"{self.name} does not know the model, or {self.where} is not its address: {said}"
            )
        if status not in _PASSING:
            raise CallRefused(f"{self.name} refused the call: {said}")

    def _unauthorized(self, response: httpx.Response) -> ResponderUnusable:
        return ResponderUnusable(
            f"{self.name} refused the key, or its access: {self._said(response)}. See --key-env."
        )

    def _said(self, response: httpx.Response) -> str:
        """Return the status and what the body says of it, without the key."""
        try:
            value = msgspec.json.decode(response.content)
        except (ValueError, RecursionError):
            value = response.text
        error = value.get("error", value) if isinstance(value, dict) else value
        if isinstance(error, dict):
            words = [error.get(name) for name in ("type", "code", "message")]
            error = ": ".join(str(word) for word in words if word) or str(error)
        text = " ".join(self._clean(error).split())[:SAID_CHARS]
        return f"HTTP {response.status_code}{f' {text}' if text else ''}"

    def _clean(self, said: object) -> str:
        text = str(said) or type(said).__name__
        return text.replace(self._key, "[key]") if self._key else text


def _retry_after(headers: httpx.Headers) -> float | None:
    """Return how many seconds a server asks to wait (RFC 9110 section 10.2.3), None if not."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
