"""What a connection does with calls that wait; the rest is tested over real sockets."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from mock_mcp.daemon.http import HttpConnection
from mock_mcp.daemon.pending import Pending
from mock_mcp.limits import Limits

BODY = b'{"jsonrpc": "2.0", "id": 1, "method": "waitForBatch", "params": {"waitMs": 1}}'
CALL = b"POST /control HTTP/1.1\r\nx-mock-mcp-token: t\r\ncontent-length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


class Transport(asyncio.Transport):
    """Writes nowhere; its end is told to nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Waiting:
    """A control channel whose only answer comes later."""

    def __init__(self) -> None:
        self.answer: Pending[dict[str, bool]] = Pending()

    def call(self, params: object) -> Pending[dict[str, bool]]:
        return self.answer


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["eof_received", "connection_lost"])
async def test_a_call_that_waits_ends_with_its_connection(end: str) -> None:
    control, transport = Waiting(), Transport()
    connection = HttpConnection(
        control,  # type: ignore[arg-type]
        "t",
        lambda: pytest.fail("nobody asks for a WebSocket"),
        Limits(),
        on_made=lambda _: None,
        on_lost=lambda _: None,
        logger=logging.getLogger(__name__),
    )
    connection.connection_made(transport)
    connection.data_received(CALL)
    assert not control.answer.done
    if end == "eof_received":
        connection.eof_received()  # the transport says so before it tells that it is closed
    else:
        connection.connection_lost(None)
    assert control.answer.done, "a batch that is submitted now would be claimed for nobody"
    assert not transport.written
