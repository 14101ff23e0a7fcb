"""Loading: what is read, what is refused, and with which words."""

from __future__ import annotations

import errno
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.contract.document import DocumentSource, load_document, load_schema_file
from mock_mcp.contract.errors import ContractDocumentError
from mock_mcp.contract.finder import Finder
from mock_mcp.contract.gate import Contracts
from mock_mcp.contract.schema import close_schema
from mock_mcp.types import Mock

MINIMAL = {"openapi": "3.0.3", "paths": {}}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("head", "version"),
    [
        ({"openapi": "3.0.0"}, "3.0"),
        ({"openapi": "3.0.4"}, "3.0"),
        ({"openapi": "3.1.1"}, "3.1"),
        ({"openapi": 3.1}, "3.1"),
        ({"swagger": "2.0"}, "2.0"),
        ({"swagger": 2.0}, "2.0"),
    ],
)
def test_versions(tmp_path: Path, head: dict[str, Any], version: str) -> None:
    document = load_document(write(tmp_path / "a.json", {**head, "paths": {}}))
    assert document.version == version
    assert document.defects == ()


def test_a_later_version_is_read_as_the_last_known_and_noted(tmp_path: Path) -> None:
    document = load_document(write(tmp_path / "a.json", {"openapi": "3.2.0", "paths": {}}))
    assert document.version == "3.1"
    assert "3.2.0" in document.defects[0].message


@pytest.mark.parametrize(
    ("name", "content", "pointer", "words"),
    [
        ("a.json", '{"openapi": "3.0.0", ', "", "not valid JSON"),
        (
            "a.json",
            '{\n"openapi": "3.0.0",,',
            "",
            "not valid JSON: object keys must be strings, in line 2, column 20",
        ),
        ("a.json", "", "", "not valid JSON"),
        ("a.json", "[1, 2]", "", "not an object"),
        ("a.json", '{"info": {}}', "", "neither 'openapi' nor 'swagger'"),
        ("a.json", '{"openapi": "4.0.0", "paths": {}}', "/openapi", "not supported"),
        ("a.json", '{"swagger": "1.2", "paths": {}}', "/swagger", "not supported"),
        ("a.json", '{"openapi": "3.0.0", "paths": []}', "/paths", "must be an object"),
        ("a.json", '{"openapi": "3.0.0"}', "/paths", "must be an object"),
        ("a.json", "[" * 100_000, "", "nested"),
        ("a.json", b"\xff\xfe{\x00}\x00", "", "not valid JSON"),
        ("a.yaml", "openapi: 3.0.0\npaths: {", "", "line 3, column 1: is not valid YAML"),
        ("a.yaml", "a:\n  b: \t@", "", "line 2, column 7: is not valid YAML"),
        ("a.yaml", b"a: b\nc: \xe9", "", "UTF-8 octet sequence in position 8 (line 2, column 4)"),
        ("a.yaml", "", "", "holds no YAML document"),
        ("a.yaml", "a: !!python/object/apply:os.system ['true']", "", "tag"),
        ("a.yaml", "a: !include other.yaml", "", "tag"),
        ("a.yaml", "a: 2024-01-01\n---\nb: 1", "", "line 2, column 1: a second YAML"),
        ("a.yaml", "a:\n - &x [*x]", "", "line 2, column 8: alias *x has no finished anchor"),
        ("a.yaml", "[" * 5_000 + "]" * 5_000, "", "nested"),
        ("a.yaml", "a: {<<: 5}", "", "'<<'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_file_and_reason(
    tmp_path: Path, name: str, content: str | bytes, pointer: str, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ContractDocumentError) as caught:
        load_document(path)
    assert caught.value.code == "contract-document"
    assert str(path) in str(caught.value)
    assert caught.value.pointer == pointer
    assert words in caught.value.reason


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ContractDocumentError, match="cannot be read"):
        load_document(tmp_path / "none.json")


def special(path: Path, kind: str) -> Path:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "directory"])
@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
def test_what_is_no_regular_file_is_refused_at_once(short_dir: Path, kind: str, name: str) -> None:
    path = special(Path(tempfile.mkdtemp(dir=short_dir)) / name, kind)
    with pytest.raises(ContractDocumentError, match="cannot be read") as caught:
        load_document(path)
    assert caught.value.file == os.path.realpath(path)
    parent = write(path.parent / "parent.json", {**MINIMAL, "components": {"$ref": name}})
    with pytest.raises(ContractDocumentError, match=r"cannot be read|lies outside"):
        close_schema(load_document(parent), {"$ref": name})


def test_a_read_that_fails_later_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.json", MINIMAL)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("builtins.open", fail)
    with pytest.raises(ContractDocumentError, match="Input/output error") as caught:
        load_document(path)
    assert caught.value.file == str(path)


def test_a_nul_in_a_registered_name_is_an_error_of_the_document(tmp_path: Path) -> None:
    source = DocumentSource(Path("a\0.json"))
    request = {"requestId": "r", "endpoint": "/a", "method": "GET"}
    verdict = Contracts([source], root=tmp_path).check_mock(request, Mock("r", {}))
    assert isinstance(verdict.error, ContractDocumentError)


def test_an_anchor_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(ContractDocumentError, match="aliases expand"):
        load_document(write(tmp_path / "a.yaml", "\n".join(lines)))


def test_yaml_has_the_types_of_json(tmp_path: Path) -> None:
    text = """\
openapi: 3.0.0
paths: {}
x: {on: off, yes: no, date: 2024-01-01, octal: 0777, hex: 0x1F, inf: .inf, n: 1.5e3, i: -3,
    t: true, s: "1", k: ~, e: , big: 1_000, 200: status, sexagesimal: 12:30}
base: &base {a: 1, b: 2}
merged: {<<: *base, b: 3}
"""
    raw = load_document(write(tmp_path / "a.yaml", text)).raw
    assert raw["x"] == {
        "on": "off", "yes": "no", "date": "2024-01-01", "octal": "0777", "hex": "0x1F",
        "inf": ".inf", "n": 1500.0, "i": -3, "t": True, "s": "1", "k": None, "e": None,
        "big": "1_000", "200": "status", "sexagesimal": "12:30",
    }  # fmt: skip
    assert raw["merged"] == {"a": 1, "b": 3}


def test_parsed_yaml_is_kept_by_content(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    path = write(tmp_path / "a.yaml", "openapi: 3.0.0\npaths: {}\n")
    document = load_document(path, cache_dir=cache)
    (stored,) = cache.iterdir()
    assert document.sha256 in stored.name
    assert load_document(path, cache_dir=cache).raw == document.raw
    stored.write_text("{ broken")
    assert load_document(path, cache_dir=cache).raw == document.raw


SPELLED = """\
openapi: 3.1.0
paths:
  /x:
    get:
      responses:
        200:
          content:
            application/json:
              schema:
                required: [200, true]
                properties:
                  200: {}
                  version: {type: string, enum: [1e3, 1.10, +49, 012, 0x1F, True, no, 2024-01-01]}
                  maybe: {type: [string, 'null'], enum: [1.10, null]}
                  fixed: {type: string, const: 2.0}
                  phone: {type: string, pattern: "^[+]", example: +14155551234}
                  count: {type: integer, enum: [007]}
"""


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        *(({"version": text}, []) for text in ("1e3", "1.10", "+49", "012", "0x1F", "True", "no")),
        ({"version": "1000.0"}, ["/body/version enum"]),
        ({"version": "1.1"}, ["/body/version enum"]),
        ({"version": 1000}, ["/body/version enum", "/body/version type"]),
        ({"maybe": "1.10"}, []),
        ({"maybe": None}, []),
        ({"fixed": "2.0"}, []),
        ({"fixed": 2.0}, ["/body/fixed const", "/body/fixed type"]),
        ({"count": 7}, []),
        ({"200": 1}, []),
    ],
)
def test_yaml_text_is_as_it_is_spelled(
    tmp_path: Path, body: dict[str, Any], expected: list[str], runs: int
) -> None:
    path = write(tmp_path / "a.yaml", SPELLED)
    request = {"requestId": "r", "endpoint": "https://any.test/x", "method": "GET"}
    for _ in range(runs):  # later ones read what the first has stored
        contracts = Contracts([DocumentSource(path)], cache_dir=tmp_path / "cache")
        verdict = contracts.check_mock(request, Mock("r", {"200": 0, "true": 0} | body))
    assert verdict.checked
    assert sorted(f"{v.pointer} {v.keyword}" for v in verdict.violations) == expected


@pytest.mark.parametrize(("name", "missing"), [("200", "true"), ("true", "200")])
def test_a_required_name_of_yaml_is_text(tmp_path: Path, name: str, missing: str) -> None:
    path = write(tmp_path / "a.yaml", SPELLED)
    request = {"requestId": "r", "endpoint": "https://any.test/x", "method": "GET"}
    verdict = Contracts([DocumentSource(path)]).check_mock(request, Mock("r", {name: 0}))
    assert [v.pointer for v in verdict.violations] == [f"/body/{missing}"]


def test_an_example_of_yaml_is_the_text_it_spells(tmp_path: Path) -> None:
    document = load_document(write(tmp_path / "a.yaml", SPELLED))
    content = "/paths/~1x/get/responses/200/content/application~1json/schema"
    schema = close_schema(document, content)
    assert schema["properties"]["phone"]["examples"] == ["+14155551234"]


def test_a_swagger_parameter_has_its_text_as_it_is_spelled(tmp_path: Path) -> None:
    text = """\
swagger: "2.0"
paths:
  /x:
    get:
      parameters: [{name: v, in: query, type: string, enum: [1.10, 2.00]}]
      responses: {200: {description: d}}
"""
    contracts = Contracts([DocumentSource(write(tmp_path / "a.yaml", text))])
    for value, wrong in (("1.10", []), ("2.00", []), ("1.1", ["enum"])):
        request = {"requestId": "r", "endpoint": f"https://any.test/x?v={value}", "method": "GET"}
        assert [v.keyword for v in contracts.check_request(request)] == wrong


def test_repeated_keys_of_stored_yaml_are_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "openapi: 3.0.0\npaths: {}\nx: 1\nx: 2\n")
    for _ in range(2):
        document = load_document(path, cache_dir=tmp_path / "cache")
        assert [defect.pointer for defect in document.defects] == ["/x"]


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(MINIMAL).encode())
    assert load_document(path).version == "3.0"


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("#/components/schemas/Nope", "nothing is there"),
        ("#nope", "no such anchor"),
        ("https://example.com/a.json#/x", "never fetched"),
        ("//example.com/a.json", "never fetched"),
        ("file:///etc/passwd", "never fetched"),
        ("../outside.json", "outside"),
        ("/etc/hostname", "outside"),
        ("missing.json", "cannot be read"),
        ("broken.json", "not valid JSON"),
        ("#/components/schemas/Loop", "circular"),
    ],
)
def test_a_bad_ref_names_its_place(tmp_path: Path, ref: str, words: str) -> None:
    root = tmp_path / "project"
    write(tmp_path / "outside.json", {"type": "string"})
    write(root / "broken.json", "{")
    schemas = {
        "A": {"properties": {"x": {"$ref": ref}}, "required": ["x"]},
        "Loop": {"$ref": "#/components/schemas/Loop"},
    }
    path = write(root / "a.json", {**MINIMAL, "components": {"schemas": schemas}})
    document = load_document(path, root=root)
    with pytest.raises(ContractDocumentError) as caught:
        close_schema(document, "/components/schemas/A")
    assert words in str(caught.value)
    assert caught.value.file.endswith("a.json")
    assert caught.value.pointer.startswith("/components/schemas/")


def test_a_symlink_does_not_lead_out_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "project"
    outside = write(tmp_path / "outside.json", {"type": "string"})
    path = write(
        root / "a.json", {**MINIMAL, "components": {"schemas": {"A": {"$ref": "link.json"}}}}
    )
    (root / "link.json").symlink_to(outside)
    with pytest.raises(ContractDocumentError, match="outside"):
        close_schema(load_document(path, root=root), "/components/schemas/A")


def test_refs_to_sibling_files_are_read_against_their_file(tmp_path: Path) -> None:
    write(tmp_path / "paths" / "x.json", {
        "get": {"responses": {"200": {"content": {"application/json": {
            "schema": {"$ref": "../schemas.yaml#/defs/Pet"}}}}}},
    })  # fmt: skip
    write(
        tmp_path / "schemas.yaml",
        "defs:\n  Pet: {type: object, properties: {tag: {$ref: '#/defs/Tag'}}}\n"
        "  Tag: {type: string}\n",
    )
    path = write(
        tmp_path / "a.json", {"openapi": "3.0.0", "paths": {"/x": {"$ref": "paths/x.json"}}}
    )
    contracts = Contracts([DocumentSource(path)], root=tmp_path)
    request = {"requestId": "r", "endpoint": "/x", "method": "GET"}
    verdict = contracts.check_mock(request, Mock("r", {"tag": 1}))
    assert [v.pointer for v in verdict.violations] == ["/body/tag"]


def test_names_of_definitions_do_not_depend_on_what_came_first(tmp_path: Path) -> None:
    schemas = {
        "A": {"properties": {"x": {"$ref": "#/components/schemas/B/properties/x"}}},
        "B": {"properties": {"x": {"type": "string"}, "y": {"$ref": "#/components/schemas/C"}}},
        "C": {"properties": {"x": {"$ref": "#/components/schemas/B/properties/x"}}},
    }
    path = write(tmp_path / "a.json", {**MINIMAL, "components": {"schemas": schemas}})
    first, second = load_document(path), load_document(path)
    close_schema(second, "/components/schemas/B")
    close_schema(second, "/components/schemas/C")
    target = "/components/schemas/A"
    assert close_schema(first, target) == close_schema(second, target)


def test_defects_say_where_what_and_what_was_done(tmp_path: Path) -> None:
    schemas = {"A": {"type": "string", "minLength": "3", "pattern": "[", "required": True}}
    path = write(tmp_path / "a.json", {
        "openapi": "3.0.0",
        "paths": {"x": {}, "/y": 5, "/z": {"get": {"responses": {"20x": {}, "200": {
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/A"}}}}}}}},
        "components": {"schemas": schemas},
    })  # fmt: skip
    contracts = Contracts([DocumentSource(path)])
    request = {"requestId": "r", "endpoint": "/z", "method": "GET"}
    assert contracts.check_mock(request, Mock("r", "abc")).violations == ()
    document = contracts.resolve(request).document
    assert document is not None
    noted = {defect.pointer for defect in document.defects}
    assert {
        "/paths/x",
        "/paths/~1y",
        "/paths/~1z/get/responses/20x",
        "/components/schemas/A/minLength",
        "/components/schemas/A/required",
    } <= noted
    assert any("pattern" in defect.message for defect in document.defects)


def test_a_changed_document_is_read_again(tmp_path: Path) -> None:
    def api(kind: str) -> dict[str, Any]:
        schema = {"$ref": "schemas.json"}
        write(tmp_path / "schemas.json", {"type": kind})
        content = {"application/json": {"schema": schema}}
        return {
            "openapi": "3.0.0",
            "paths": {"/x": {"get": {"responses": {"200": {"content": content}}}}},
        }

    path = write(tmp_path / "a.json", api("string"))
    contracts = Contracts([DocumentSource(path)])
    request = {"requestId": "r", "endpoint": "/x", "method": "GET"}
    assert contracts.check_mock(request, Mock("r", "text")).violations == ()
    write(tmp_path / "schemas.json", {"type": "integer"})
    os.utime(tmp_path / "schemas.json", ns=(1, 1))
    assert len(contracts.check_mock(request, Mock("r", "text")).violations) == 1


def test_an_unusable_document_leaves_mocks_unchecked_and_stops_requests(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", "{")
    contracts = Contracts([DocumentSource(path)])
    request = {"requestId": "r", "endpoint": "/x", "method": "GET"}
    verdict = contracts.check_mock(request, Mock("r", 1))
    assert not verdict.checked
    assert "not valid JSON" in str(verdict.unchecked_reason)
    with pytest.raises(ContractDocumentError):
        contracts.check_request(request)


def test_a_deep_schema_is_refused_not_a_crash(tmp_path: Path) -> None:
    schema: dict[str, Any] = {}
    for _ in range(300):
        schema = {"properties": {"a": schema}}
    path = write(tmp_path / "a.json", {**MINIMAL, "components": {"schemas": {"A": schema}}})
    with pytest.raises(ContractDocumentError, match="nested"):
        close_schema(load_document(path), "/components/schemas/A")


def test_a_catastrophic_pattern_ends(tmp_path: Path) -> None:
    for pattern in ("^(a+)+$", "^(a+)+(?=c)$", r"^(\w+\s?)*(?!x)$"):
        schema = {"type": "string", "pattern": pattern}
        path = write(tmp_path / "a.json", {"type": "object", "$defs": {"A": schema}})
        contracts = Contracts(root=tmp_path)
        metadata = {"schemaUrl": "a.json#/$defs/A"}
        request = {"requestId": "r", "endpoint": "/", "method": "GET", "metadata": metadata}
        assert path.exists()
        assert contracts.check_mock(request, Mock("r", "a" * 5000 + "!")).checked


def test_a_plain_schema_file_is_not_an_openapi_document(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"type": "string"})
    assert load_schema_file(path).version == "schema"
    with pytest.raises(ContractDocumentError):
        load_document(path)


def test_hostile_shapes_do_not_crash_the_index(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {
        "openapi": "3.0.0", "servers": [5, {"url": 5}, {}],
        "paths": {"/a": {"get": 5, "post": {"parameters": 5, "responses": []}, "servers": "x"},
                  "/b": {"$ref": "#/paths/~1b"}, "/{": {"get": {}}, "/{}": {"get": {}},
                  "/c": {"parameters": [1, {"$ref": "#/x"}], "get": {"responses": {"200": 1}}}},
    })  # fmt: skip
    finder = Finder(load_document(path))
    assert {operation.label for operation in finder} >= {"POST /a", "GET /c"}
    contracts = Contracts([DocumentSource(path)])
    for method, endpoint in (("POST", "/a"), ("GET", "/c"), ("GET", "/b"), ("GET", "/x")):
        request = {"requestId": "r", "endpoint": endpoint, "method": method}
        contracts.check_mock(request, Mock("r", {}))
