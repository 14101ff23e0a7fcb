"""Files that are damaged, enormous, or made to do harm: refused with their name and the place."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from mock_mcp.convert import read as reading
from mock_mcp.convert import values
from mock_mcp.convert.errors import ConversionError
from mock_mcp.convert.read import MAX_FILE_BYTES, format_of, read_conversion, read_tree
from mock_mcp.errors import MissingExtra


def refused(path: Path, content: bytes) -> ConversionError:
    path.write_bytes(content)
    with pytest.raises(ConversionError) as caught:
        read_conversion(path)
    error = caught.value
    assert error.file == str(path)
    assert error.message.startswith(str(path))
    assert error.data["reason"] == error.reason
    return error


@pytest.fixture
def yaml():
    return pytest.importorskip("yaml", reason="needs the extra yaml")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'{"log": {\n"entries": [\n}', 3),
        (b"{", 1),
        (b'{"log":\n "\xff"}', 2),
        (b'{"log":\n NaN}', 2),
        (b'{\n"log": 1}\n}', 3),
        (b"[1,\n2", 2),
    ],
)
def test_damaged_json(tmp_path, content, line):
    assert refused(tmp_path / "a.har", content).line == line


@pytest.mark.parametrize("name", ["a.har", "a.json", "a.yaml", "a.bin"])
@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"\xff\xfe\x00", b"GIF89a", b"7", b"[]"])
def test_other_files(tmp_path, yaml, name, content):
    refused(tmp_path / name, content)


def test_what_a_file_is_is_seen_from_its_content(tmp_path):
    assert format_of({"log": {}}) == "har"
    assert format_of({"version": 1, "interactions": []}) == "vcr"
    assert format_of({"http_interactions": []}) == "vcr"
    assert format_of({"mappings": []}) == "wiremock"
    assert format_of({"request": {}, "response": {}}) == "wiremock"
    assert format_of({"openapi": "3.1.0"}) is None
    error = refused(tmp_path / "a.json", b'{"version":1,"test":"t","interactions":[]}')
    assert "a recording already" in error.reason
    assert "neither" in refused(tmp_path / "a.json", b'{"openapi": "3.1.0"}').reason
    assert "unpack it" in refused(tmp_path / "a.har", b"PK\x03\x04").reason


def test_a_byte_order_mark_is_no_error(tmp_path):
    path = tmp_path / "a.har"
    path.write_bytes(b'\xef\xbb\xbf{"log": {"entries": []}}')
    assert read_conversion(path).calls == []


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConversionError, match="cannot be read"):
        read_conversion(tmp_path / "a.har")
    with pytest.raises(ConversionError, match="name the files in it"):
        read_conversion(tmp_path)


# -- Enormous ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.har", "a.yaml"])
def test_fifty_megabytes_are_not_read(tmp_path, name):
    path = tmp_path / name
    line = b'{"log": {"entries": []}}' + b" " * 999 + b"\n"
    with path.open("wb") as file:
        file.writelines([line] * (50 * 1024 * 1024 // len(line) + 1))
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError, match=f"after byte {MAX_FILE_BYTES}") as caught:
            read_conversion(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.file == str(path)
    assert caught.value.line == MAX_FILE_BYTES // len(line) + 1
    assert peak < 3 * MAX_FILE_BYTES


def test_a_large_file_within_the_limit_is_read(tmp_path):
    text = json.dumps({"data": ["a, b, {c}"] * 1000})
    content = {"text": text, "mimeType": "application/json"}
    entry = {
        "request": {"method": "GET", "url": "https://api.test/a", "headers": []},
        "response": {
            "status": 200,
            "headers": [{"name": "content-type", "value": "application/json"}],
            "content": content,
        },
    }
    path = tmp_path / "a.har"
    path.write_text(json.dumps({"log": {"entries": [entry] * 1000}}))
    conversion = read_conversion(path)
    assert (len(conversion.calls), conversion.losses) == (1000, [])


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"0,", b'"",'])
def test_a_file_of_nothing_but_values(tmp_path, monkeypatch, unit):
    monkeypatch.setattr(reading, "MAX_VALUES", 10_000)
    content = b'{"log": {"entries": [' + unit * 20_000 + b"0]}}"
    assert "more than 10000 values" in refused(tmp_path / "a.har", content).reason


def test_a_file_of_more_calls_than_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(values, "MAX_CALLS", 10)
    for name, content in [
        ("$.log.entries", {"log": {"entries": [0] * 11}}),
        ("$.interactions", {"interactions": [0] * 11}),
        ("$.mappings", {"mappings": [0] * 11}),
    ]:
        error = refused(tmp_path / "a.json", json.dumps(content).encode())
        assert error.path == name


def test_marks_inside_texts_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_VALUES", 1000)
    path = tmp_path / "a.har"
    path.write_text(json.dumps({"log": {"entries": [], "comment": '\\",{[' * 5000}}))
    assert read_conversion(path).calls == []


@pytest.mark.parametrize("unit", [b"[", b'{"a":'])
@pytest.mark.parametrize("count", [250, 100_000])
def test_a_deep_file(tmp_path, unit, count):
    close = b"]" if unit == b"[" else b"}"
    content = b'{"log": ' + unit * count + b"1" + close * count + b"}"
    assert "deep" in refused(tmp_path / "a.har", content).reason


# -- YAML -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("interactions:\n- request: !!python/object/apply:os.system ['true']\n", 2),
        ("interactions:\n- !!python/object/new:subprocess.Popen\n  args: [x]\n", 2),
        ("interactions: []\nx: !!python/name:os.system ''\n", 2),
        ("interactions: []\nx: !!python/module:os ''\n", 2),
        ("interactions: []\nx: !custom {}\n", 2),
        ("interactions: []\nx: !!binary '%%%'\n", 2),
        ("interactions: []\nx: !!python/object/new:_io.BytesIO {state: 7}\n", 2),
        ("interactions: []\nx: !!python/object/apply:builtins.iter {args: [[{}]]}\n", 2),
        ("interactions: []\nx: !!python/object/apply:builtins.iter [[a]]\n", 2),
        ("interactions: []\nx: !!binary [a]\n", 2),
        ("interactions: [\n", 2),
        ("interactions:\n\t- x\n", 2),
        ("a: *missing\n", 1),
        ("? {a: b}\n: c\n", 1),
        ("interactions: &a [*a]\n", 1),
    ],
)
def test_yaml_that_is_not_plain_data(tmp_path, yaml, text, line):
    assert refused(tmp_path / "c.yaml", text.encode()).line == line


def test_several_yaml_documents(tmp_path, yaml):
    error = refused(tmp_path / "c.yaml", b"a: 1\n---\nb: 2\n")
    assert error.line == 2
    assert "second YAML document" in error.reason


def test_a_bomb_of_aliases(tmp_path, yaml):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 12):
        inner = ", ".join([f"*a{n - 1}"] * 10)
        lines.append(f"a{n}: &a{n} [{inner}]")
    error = refused(tmp_path / "c.yaml", "\n".join(lines).encode())
    assert "aliases expanded" in error.reason
    assert error.line is not None


def test_deep_yaml(tmp_path, yaml):
    assert "deep" in refused(tmp_path / "c.yaml", b"a: " + b"[" * 100_000).reason


def test_yaml_values_are_text(tmp_path, yaml):
    path = tmp_path / "c.yaml"
    path.write_text("a: 1e3\nb: null\nc: yes\nd: 0x1f\ne: !!binary AP8=\nf: 2026-01-01\n")
    assert read_tree(path) == {
        "a": "1e3",
        "b": None,
        "c": "yes",
        "d": "0x1f",
        "e": b"\x00\xff",
        "f": "2026-01-01",
    }


@pytest.mark.parametrize(
    ("written", "body"),
    [
        ("{a: 1, b: [true, null, '2'], c: 1.5}", {"a": 1, "b": [True, None, "2"], "c": 1.5}),
        ("{encoding: UTF-8, string: 1.50}", {"encoding": "UTF-8", "string": "1.50"}),
        ("1.50", "1.50"),
        ("!!python/object/new:_io.BytesIO {state: [!!binary AP8=, 0, null]}", b"\x00\xff"),
        ("!!python/object/apply:builtins.iter {args: [[!!binary YQ==, b]], state: 0}", b"ab"),
    ],
    ids=["value", "wrapped", "text", "file", "iterator"],
)
def test_bodies_of_requests_as_vcrpy_writes_them(tmp_path, yaml, written, body):
    path = tmp_path / "c.yaml"
    path.write_text(f"interactions:\n- request: {{body: {written}}}\n")
    assert read_tree(path) == {"interactions": [{"request": {"body": body}}]}


def test_a_bomb_of_compressed_bodies(tmp_path):
    packed = base64.b64encode(gzip.compress(bytes(2**20))).decode()
    assert len(packed) < 5000
    call = {
        "request": {"method": "GET", "uri": "https://api.test/a", "body": None, "headers": {}},
        "response": {
            "status": {"code": 200},
            "headers": {"Content-Type": ["application/x"], "Content-Encoding": ["gzip"]},
            "body": {"base64_string": packed},
        },
    }
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"interactions": [call] * 80}))
    conversion = read_conversion(path)
    assert len(conversion.calls) == 64
    assert {loss.place for loss in conversion.losses} == {
        f"$.interactions[{n}].response" for n in range(64, 80)
    }


def test_yaml_without_the_extra(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("interactions: []\n")
    code = (
        "import sys; sys.modules['yaml'] = None\n"
        "from pathlib import Path\n"
        "from mock_mcp.convert.read import read_conversion\n"
        "from mock_mcp.errors import MissingExtra\n"
        "try: read_conversion(Path(sys.argv[1]))\n"
        "except MissingExtra as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert "mock-mcp[yaml]" in run.stdout
    assert issubclass(MissingExtra, ImportError)
