"""Messages of a client on their way to the SDK: what it does with them is not always enough.

It drops calls that it cannot parse, and their caller would wait for ever: a model that cuts an
emoji in half writes a lone surrogate, and clients in JavaScript pass it on. And it ignores that a
call was cancelled when its answer is on its way already, though nobody will read that answer.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import anyio
import mcp_types as types
from anyio.abc import ObjectSendStream
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

__all__ = ["relay"]

_ID_DIGITS = 18


async def relay(
    read: Any,
    readable: ObjectSendStream[SessionMessage | Exception],
    write: Any,
    cancelled: Callable[[Any], None],
) -> None:
    """Pass on the messages of a transport until its end, but for calls nobody could read.

    Args:
        read: Messages of the client, and errors in place of those that could not be parsed.
        readable: Where messages go, and errors of what is no call.
        write: Where a call that could not be parsed is answered with the reason.
        cancelled: Told the id of each call that was cancelled.
    """
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        async with read, readable:
            async for item in read:
                refusal = _refusal(item) if isinstance(item, ValidationError) else None
                if refusal is not None:
                    await write.send(SessionMessage(refusal))
                    continue
                await readable.send(item)
                message = getattr(item, "message", None)
                if (
                    isinstance(message, types.JSONRPCNotification)
                    and message.method == "notifications/cancelled"
                    and isinstance(call_id := (message.params or {}).get("requestId"), str | int)
                ):
                    cancelled(call_id)


def _refusal(error: ValidationError) -> types.JSONRPCError | None:
    """Return the answer to a call that could not be parsed; None for what is no call."""
    for found in error.errors(include_url=False, include_context=False):
        call_id = _id_of(found["input"])
        if call_id is None:
            continue
        is_json = found["type"] != "json_invalid"
        said = types.ErrorData(
            code=types.INVALID_REQUEST if is_json else types.PARSE_ERROR,
            message="Not a call of JSON-RPC 2.0: params must be an object."
            if is_json
            else f"The call was not read. {found['msg']}. Send it again without lone surrogates "
            "(half of an emoji), numbers of thousands of digits or deep nesting.",
        )
        return types.JSONRPCError(jsonrpc="2.0", id=call_id, error=said)
    return None


def _id_of(value: Any) -> str | int | None:
    """Return the id of a call, given as its text or parsed."""
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_int=_integer)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, dict) or not isinstance(value.get("method"), str):
        return None
    call_id = value.get("id")
    return call_id if isinstance(call_id, str | int) and not isinstance(call_id, bool) else None


def _integer(digits: str) -> int | None:
    """Return an integer as an id may be one; a longer one may have too many digits to be read."""
    return int(digits) if len(digits) <= _ID_DIGITS else None
