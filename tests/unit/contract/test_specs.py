"""The published documents: every operation is found, every response schema compiles."""

# ruff: noqa: E501 - cases are tables

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_mcp.contract.document import Document, DocumentSource, load_document
from mock_mcp.contract.finder import Finder
from mock_mcp.contract.gate import Contracts
from mock_mcp.contract.operation import Media, Operation
from mock_mcp.contract.schema import close_schema, compile_schema
from mock_mcp.types import Mock

SPECS = Path(__file__).parents[3].parent / "shared" / "specs"
OPERATIONS = {
    "petstore-3.0.yaml": 19,
    "github-3.0.json": 874,
    "stripe-3.0.json": 417,
    "openai-3.1.json": 288,
}

pytestmark = pytest.mark.skipif(not SPECS.is_dir(), reason=f"{SPECS} is absent")


@pytest.fixture(params=OPERATIONS, scope="module")
def document(request: pytest.FixtureRequest) -> Document:
    return load_document(SPECS / request.param)


def concrete(operation: Operation) -> str:
    server = operation.document.server_nodes(operation.node)[0]["url"].rstrip("/")
    values = iter(range(1000))
    return server + re.sub(r"\{[^}]*\}", lambda _: f"value-{next(values)}", operation.path)


def bodies(operation: Operation) -> Iterator[Media]:
    for response in operation.responses.values():
        yield from (media for media in response.media if media.schema is not None)


def test_every_operation_is_found_from_a_url_of_its_template(document: Document) -> None:
    finder = Finder(document)
    operations = list(finder)
    assert document.path is not None
    assert len(operations) == OPERATIONS[document.path.name]
    for operation in operations:
        url = concrete(operation)
        match = finder.find(url, operation.method.upper())
        assert match.operation is operation, url
        values = re.findall(r"value-[0-9]+", url)
        assert list(match.path_parameters.values()) == values


def test_every_response_schema_compiles(document: Document) -> None:
    """Definitions have one name in a document, so all closed schemas make one valid schema."""
    roots, definitions, count = [], {}, 0
    for operation in Finder(document):
        for media in bodies(operation):
            assert media.schema is not None
            closed = dict(close_schema(document, media.schema))
            definitions.update(closed.pop("$defs", {}))
            roots.append(closed)
            count += 1
    assert count > 20
    every = {"anyOf": roots, "$defs": definitions}
    noted = len(document.defects)
    compile_schema(document, document.place, every)
    assert len(document.defects) == noted, document.defects[noted:]


def test_every_request_schema_compiles(document: Document) -> None:
    roots, definitions = [], {}
    for operation in Finder(document):
        places = [media.schema for media in operation.request_media]
        places += [parameter.schema for parameter in operation.parameters]
        for place in filter(None, places):
            closed = dict(close_schema(document, place, direction="request"))
            definitions.update(closed.pop("$defs", {}))
            roots.append(closed)
    noted = len(document.defects)
    compile_schema(document, document.place, {"anyOf": roots, "$defs": definitions})
    assert len(document.defects) == noted, document.defects[noted:]


def test_a_wrong_answer_of_each_api_is_explained() -> None:
    contracts = Contracts([DocumentSource(SPECS / name) for name in OPERATIONS], root=SPECS)
    cases = [
        ("https://petstore3.swagger.io/api/v3/pet/1", {"name": "a", "photoUrls": [], "status": "solt"},
         {"/body/status": "sold"}),
        ("https://api.github.com/repos/a/b/topics", {"names": ["x", 1]}, {"/body/names/1": "quotes"}),
        ("https://api.stripe.com/v1/customers/cus_1",
         {"id": "cus_1", "object": "customer", "created": 1, "livemode": False,
          "shipping": {"name": 5}}, {"/body/shipping/name": "quotes"}),
        ("https://api.openai.com/v1/models/gpt", {"id": "gpt", "object": "modle", "created": 1, "owned_by": "x"},
         {"/body/object": "model"}),
    ]  # fmt: skip
    for endpoint, body, expected in cases:
        request = {"requestId": "r", "endpoint": endpoint, "method": "GET"}
        verdict = contracts.check_mock(request, Mock("r", body))
        found = {violation.pointer: violation.hint for violation in verdict.violations}
        assert found.keys() == expected.keys(), found
        assert all(words in found[pointer] for pointer, words in expected.items()), found
