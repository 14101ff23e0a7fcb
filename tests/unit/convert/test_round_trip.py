"""recording → another format → recording loses nothing that the format can carry."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from mock_mcp.convert.accept import accept
from mock_mcp.convert.har import from_har, to_har
from mock_mcp.convert.wiremock_export import to_wiremock
from mock_mcp.convert.wiremock_import import from_wiremock
from mock_mcp.recordings.format import RecordedInteraction
from mock_mcp.recordings.redact import Redaction
from unit.convert.samples import EVERYTHING, FAILURES, answer, call, recording

FORMATS = {"har": (to_har, from_har), "wiremock": (to_wiremock, from_wiremock)}


def there_and_back(kind: str, *interactions: RecordedInteraction) -> list[RecordedInteraction]:
    write, read = FORMATS[kind]
    tree, exported = write([("a.json", recording(*interactions))])
    assert exported.losses == []
    imported = read(json.loads(json.dumps(tree)), "a.har")
    assert imported.losses == []
    return accept(imported, Redaction())


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", EVERYTHING)
def test_a_call_comes_back_as_it_was(kind, name):
    expected = Redaction().interaction(EVERYTHING[name])
    assert there_and_back(kind, EVERYTHING[name]) == [expected]


@pytest.mark.parametrize("kind", FORMATS)
def test_everything_comes_back_in_order(kind):
    expected = [Redaction().interaction(item) for item in EVERYTHING.values()]
    assert there_and_back(kind, *EVERYTHING.values()) == expected


@pytest.mark.parametrize("name", FAILURES)
def test_a_har_keeps_failures(name):
    assert there_and_back("har", FAILURES[name]) == [FAILURES[name]]


@pytest.mark.parametrize("name", FAILURES)
def test_failures_that_wiremock_has_not_are_listed(name):
    tree, exported = to_wiremock([("a.json", recording(FAILURES[name]))])
    assert tree["mappings"] == []
    [loss] = exported.losses
    assert (loss.file, loss.place, loss.call) == ("a.json", "$.interactions[0].error", True)
    assert name in loss.reason


@pytest.mark.parametrize("kind", FORMATS)
def test_the_output_depends_on_the_recordings_only(kind):
    write, _ = FORMATS[kind]
    source = [("a.json", recording(*EVERYTHING.values()))]
    assert json.dumps(write(source)[0]) == json.dumps(write(source)[0])


@pytest.mark.parametrize("kind", FORMATS)
def test_what_a_check_found_is_left_to_the_next_check(kind):
    checked = msgspec.structs.replace(
        answer(call(path="/a"), {}), contract="c" * 64, operation="GET /a"
    )
    [back] = there_and_back(kind, checked)
    assert (back.contract, back.operation) == (None, None)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("headers", "body"),
    [({"x\ny": "1"}, {}), ({"a": "b\r\nc: d"}, {}), ({}, {"$base64": "?"})],
    ids=["name", "value", "base64"],
)
def test_what_a_replay_could_not_send_is_listed(kind, headers: Any, body):
    write, _ = FORMATS[kind]
    _, exported = write([("a.json", recording(answer(call(), body, headers=headers)))])
    assert [(loss.place, loss.call) for loss in exported.losses] == [("$.interactions[0]", True)]
