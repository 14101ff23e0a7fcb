"""The installed exchanges, and which of them answers a call.

One immutable tuple for the whole process, innermost last, replaced under the lock of
`mock_mcp.interceptors`: hooks read it without one, and threads a test starts see what the test
installed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mock_mcp.exchange import Decision, Exchange, NetworkBlocked, Origin, bypass, is_bypassed

__all__ = [
    "Installation",
    "check_connection",
    "current",
    "exchange_for",
    "forwarding",
    "is_forwarding",
    "push",
    "remove",
]

_REFUSED = "not allowed in this test and none of the hosts that hosts= names"


class Installation(NamedTuple):
    """One installed exchange; with ``block_network`` what it refuses is stopped.

    ``why`` is what is said of a refusal in place of the usual, which speaks of the hosts.
    """

    exchange: Exchange
    block_network: bool
    why: str | None = None


_installations: tuple[Installation, ...] = ()


def current() -> tuple[Installation, ...]:
    """Return the installations, innermost last."""
    return _installations


def push(installation: Installation) -> None:
    """Make an installation the innermost."""
    global _installations  # noqa: PLW0603 - process-wide on purpose
    _installations = (*_installations, installation)


def remove(installation: Installation) -> None:
    """Take an installation out, wherever it stands."""
    global _installations  # noqa: PLW0603 - process-wide on purpose
    _installations = tuple(kept for kept in _installations if kept is not installation)


def exchange_for(origin: Origin, what: str) -> Exchange | None:
    """Return who answers an HTTP call; None when it goes its way.

    The innermost installation decides; what it refuses is offered to the next outer one.

    Args:
        origin: Where the call goes.
        what: Names the call in the error, such as ``GET http://…``.

    Raises:
        NetworkBlocked: No installation mocks it or lets it pass.
    """
    decision, installation = _decide(origin)
    if installation is None or decision is Decision.PASS:
        return None
    if decision is Decision.MOCK:
        return installation.exchange
    raise _refusal(
        installation,
        what,
        f"{origin} is {_REFUSED}. Correct hosts= if it was meant, or add it there to mock it, or "
        "to passthrough= to let it reach the network.",
    )


def check_connection(origins: Sequence[Origin], what: str) -> None:
    """Check that a connection below HTTP may leave the process.

    Args:
        origins: The peer by its address and by the names it was found under; one of them allowed
            is enough.
        what: Names the operation in the error, such as ``socket.connect to …``.

    Raises:
        NetworkBlocked: It may not.
    """
    verdicts = [_decide(origin) for origin in origins]
    if any(
        decision is Decision.PASS or installation is None or not installation.block_network
        for decision, installation in verdicts
    ):
        return
    decision, installation = verdicts[-1]
    assert installation is not None
    if decision is Decision.MOCK:
        reason = (
            "HTTP to it is mocked, but this connection is not HTTP (a WebSocket, a database), or "
            "made by a library that mock-mcp does not intercept. Ask for the answer where the "
            "code calls that library (request_mock), or add"
        )
    else:
        reason = f"it is {_REFUSED}. Add"
    raise _refusal(
        installation,
        what,
        f"{reason} the host to passthrough= to let it reach the network.",
    )


_forwarded = 0
_forwarding = threading.Lock()


@contextlib.contextmanager
def forwarding() -> Iterator[None]:
    """Let a call through that an exchange wants to be really made.

    Event loops look names up in threads of a pool, where the context of the call is not known; so
    as long as a call is under way, look-ups are let through in every thread.
    """
    global _forwarded  # noqa: PLW0603 - process-wide on purpose
    with _forwarding:
        _forwarded += 1
    try:
        with bypass():
            yield
    finally:
        with _forwarding:
            _forwarded -= 1


def is_forwarding() -> bool:
    """Tell whether any call is being really made."""
    return _forwarded > 0


def _decide(origin: Origin) -> tuple[Decision, Installation | None]:
    """Return the decision and whose it is; nobody's when the call is free."""
    if is_bypassed():
        return Decision.PASS, None
    refused_by = None
    for installation in reversed(_installations):
        decision = installation.exchange.decide(origin)
        if decision is not Decision.REFUSE:
            return decision, installation
        if installation.block_network and refused_by is None:
            refused_by = installation
    return Decision.REFUSE, refused_by


def _refusal(installation: Installation, what: str, why: str) -> NetworkBlocked:
    shown = what.partition("?")[0]  # a query may hold secrets
    error = NetworkBlocked(f"{shown} was refused: {installation.why or why}")
    installation.exchange.blocked(error)
    return error
