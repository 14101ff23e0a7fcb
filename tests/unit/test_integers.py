"""A whole float is an integer, wherever a value comes from; another one is none."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import pytest

from mock_mcp.adapter.tools import arguments_of
from mock_mcp.cli.draft import read_draft
from mock_mcp.errors import InvalidMessage, InvalidParams
from mock_mcp.integers import convert
from mock_mcp.limits import Limits
from mock_mcp.recordings.errors import RecordingError
from mock_mcp.recordings.format import decode_recording
from mock_mcp.serving.mocks import given
from mock_mcp.types import Mock
from mock_mcp.wire import channel, control


class Inner(msgspec.Struct, rename="camel"):
    some_size: int
    any_size: Any = None
    ratio: float | int = 0


class Outer(msgspec.Struct):
    one: Inner | None = None
    many: list[Inner] = []
    pairs: tuple[int, ...] = ()
    port: Annotated[int, msgspec.Meta(ge=1, le=10)] | str | None = None


def types(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: types(part) for key, part in value.items()}
    return [types(part) for part in value] if isinstance(value, list) else repr(value)


def test_every_integer_and_nothing_else() -> None:
    given_ = {
        "one": {"someSize": 2.0, "anySize": [2.0], "ratio": 2.0},
        "many": [{"someSize": 3}, {"someSize": 1e3}],
        "pairs": [1.0, 2],
        "port": 9.0,
    }
    before = json.dumps(given_)
    assert types(json.loads(msgspec.json.encode(convert(given_, Outer)))) == types(
        {
            "one": {"someSize": 2, "anySize": [2.0], "ratio": 2.0},
            "many": [
                {"someSize": 3, "anySize": None, "ratio": 0},
                {"someSize": 1000, "anySize": None, "ratio": 0},
            ],
            "pairs": [1, 2],
            "port": 9,
        }
    )
    assert json.dumps(given_) == before


@pytest.mark.parametrize("size", [2.5, float("inf"), float("nan"), "2", True, None, [2.0], 1e-9])
def test_what_is_no_integer_is_refused(size: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.one\.someSize"):
        convert({"one": {"someSize": size}, "pairs": [1.0]}, Outer)


def test_a_range_holds() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"<= 10 - at `\$\.port`"):
        convert({"port": 11.0}, Outer)


def mock(status: Any) -> dict[str, Any]:
    return {"requestId": "r", "data": {"x": 1.0}, "status": status}


def from_control(status: Any) -> Mock:
    params = {"adapterId": "a", "batchId": "b", "claimToken": "t", "mocks": [mock(status)]}
    call = {"jsonrpc": "2.0", "id": 1, "method": "provideBatch", "params": params}
    try:
        _, decoded = control.decode_call(json.dumps(call).encode(), 100)
    except control.CallRefused as refused:
        raise refused.error from None
    assert isinstance(decoded, control.ProvideBatch)
    return decoded.mocks[0]


def from_daemon(status: Any) -> Mock:
    message = {"type": "BATCH_MOCK_RESULT", "batchId": "b", "mocks": [mock(status)]}
    decoded = channel.decode_from_daemon(json.dumps(message).encode(), Limits())
    assert isinstance(decoded, channel.BatchMockResult)
    return decoded.mocks[0]


def from_tool(status: Any) -> Mock:
    arguments = {"batchId": "b", "claimToken": "t", "mocks": [mock(status)]}
    found: Mock = arguments_of("provide_batch_mock_data", arguments).mocks[0].mock()
    return found


def from_editor(status: Any) -> Mock:
    found = read_draft(json.dumps([mock(status)]))
    assert found is not None
    return found[0]


SOURCES = {
    from_control: InvalidParams,
    from_daemon: InvalidMessage,
    from_tool: InvalidParams,
    from_editor: InvalidParams,
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_status(source: Any) -> None:
    found = source(201.0)
    assert (repr(found.status), repr(found.data)) == ("201", "{'x': 1.0}")
    for wrong in (200.5, 600.0, "200"):
        with pytest.raises(SOURCES[source], match=r"\.status"):
            source(wrong)


def test_other_integers_of_the_wire() -> None:
    hello = {"type": "HELLO_TEST", "token": "t", "runId": "r", "pid": 7.0, "cwd": "/"}
    text = json.dumps({**hello, "protocol": 1.0, "session": 3.0}).encode()
    decoded = channel.decode_from_client(text, Limits())
    assert isinstance(decoded, channel.HelloTest)
    assert (repr(decoded.protocol), repr(decoded.session)) == ("1", "3")
    arguments = arguments_of("claim_next_batch", {"maxBatches": 2.0, "waitMs": 5.0})
    assert repr(given(arguments.max_batches)) == "2"


def recording(status: Any) -> bytes:
    interaction = {
        "request": {"method": "GET", "url": "https://api.test/x"},
        "response": {"status": status, "body": 1.0},
        "source": "hand",
    }
    return json.dumps({"version": 1, "test": "t", "interactions": [interaction]}).encode()


def test_a_status_of_a_recording() -> None:
    response = decode_recording(recording(204.0), "f").interactions[0].response
    assert response is not None
    assert (repr(response.status), repr(response.body)) == ("204", "1.0")
    with pytest.raises(RecordingError, match="status"):
        decode_recording(recording(204.5), "f")
