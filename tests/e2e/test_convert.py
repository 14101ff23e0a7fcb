"""`mock-mcp export` and `mock-mcp import`: what pytest recorded goes out, comes in, and replays."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from mock_mcp.recordings.paths import locate
from mock_mcp.recordings.store import RecordingFile, read_recording
from support.command import PLUGIN
from unit.convert.samples import EVERYTHING, FAILURES

CASSETTES = Path(__file__).parents[1] / "unit" / "convert"

TEST = """
    import pytest
    import requests

    API = "https://api.test"

    @pytest.mark.mock_mcp
    def test_b():
        asked = requests.get(f"{API}/json", params={"api_key": "other"}, auth=("ann", "pw"))
        assert asked.json() == {"a": [1, 2], "access_token": "REDACTED"}
        assert requests.get(f"{API}/gzip").json() == {"z": "ü"}
        assert requests.get(f"{API}/png").content == b"\\x89PNG\\r\\n\\x1a\\n\\x00\\xff"
        files = {"f": ("a.bin", b"\\x00\\xff")}
        assert requests.post(f"{API}/json", data={"t": "x"}, files=files).ok
        headers = {"content-type": "application/octet-stream"}
        assert requests.put(f"{API}/json", data=b"\\x00\\xff", headers=headers).ok
        cookies = requests.get(f"{API}/cookies").cookies
        assert cookies.get_dict() == {"a": "REDACTED", "b": "REDACTED"}
        assert requests.get(f"{API}/redirect").json()["a"] == [1, 2]
        assert requests.post(f"{API}/json", data={"a": "1", "password": "new"}).ok
        assert requests.post(f"{API}/json", json={"é": 1}).ok
"""


@pytest.fixture
def recorded(project: Path) -> Path:
    """The recording of a test, with a sidecar too."""
    (project / "test_a.py").touch()
    place = locate(project / "test_a.py", ["test_b"])
    file = RecordingFile(*place)
    for interaction in EVERYTHING.values():
        file.stage(interaction)
    file.promote("none")
    return place.path


def test_an_imported_cassette_replays(project, run):
    pytest.importorskip("yaml", reason="needs the extra yaml")
    (project / "test_a.py").write_text(textwrap.dedent(TEST))
    cassette = str(CASSETTES / "cassette.yaml")
    made = run("mock_mcp", "import", cassette, "--test", "test_a.py::test_b")
    assert made.returncode == 0, made.stderr
    written = project / "__mocks__/test_a/test_b.json"
    place, said = made.stdout.splitlines()[-1].split(": ")
    assert project / place == written
    assert said == "10 calls of test_a.py::test_b (10 not checked by a contract)"
    texts = written.read_text("utf-8") + "".join(
        path.read_text("latin-1") for path in written.parent.iterdir()
    )
    assert not any(secret in texts for secret in ("k3y", "s3cret", "t0p", '"pw"'))
    replayed = run("pytest", *PLUGIN, "--mock-mode=none")
    assert replayed.returncode == 0, replayed.stdout


@pytest.mark.parametrize("kind", ["har", "wiremock"])
def test_a_recording_goes_out_and_comes_back(project, run, recorded, kind):
    out = project / f"out.{kind}.json"
    gone = run("mock_mcp", "export", str(recorded), "--format", kind, "--out", str(out))
    assert (gone.returncode, gone.stderr) == (0, "")
    count = len(EVERYTHING)
    assert gone.stdout == f"{out}: {count} of {count} calls of 1 recording\n"
    back = project / "back" / "__mocks__" / "test_a" / "test_b.json"
    came = run("mock_mcp", "import", str(out), "--out", str(back), "--json")
    assert (came.returncode, came.stderr) == (0, "")
    told = json.loads(came.stdout)
    assert told == {
        "recording": str(back),
        "test": "test_a.py::test_b",
        "calls": count,
        "unchecked": count,
        "otherHosts": 0,
        "headersLeftOut": [],
        "notImported": [],
        "notCarriedOver": [],
    }
    assert read_recording(back) == read_recording(recorded)
    assert back.read_bytes() == recorded.read_bytes()


def test_the_whole_project_is_exported_to_standard_output(project, run, recorded):
    gone = run("mock_mcp", "export", "--format", "har", "--out", "-")
    assert (gone.returncode, gone.stderr) == (0, "")
    log = json.loads(gone.stdout)["log"]
    assert [page["title"] for page in log["pages"]] == ["test_a.py::test_b"]
    again = run("mock_mcp", "export", ".", str(recorded), "--format", "har", "--out", "-")
    assert again.stdout == gone.stdout


def test_what_is_not_exported_is_said(project, run):
    place = locate(project / "test_a.py", ["test_b"])
    file = RecordingFile(*place)
    for interaction in (FAILURES["refused"], EVERYTHING["json"]):
        file.stage(interaction)
    file.promote("none")
    gone = run("mock_mcp", "export", str(place.path), "--format", "wiremock", "--out", "s.json")
    assert gone.returncode == 0
    assert gone.stdout == "s.json: 1 of 2 calls of 1 recording\n"
    said = "$.interactions[0].error: not exported: WireMock cannot fail with 'refused'"
    assert gone.stderr == f"{place.path}: {said}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("export", "--format", "har", "--out", "x"), "no recorded call"),
        (("export", "gone", "--format", "har", "--out", "x"), "gone is not there"),
        (("import", "gone.har"), "gone.har: it cannot be read"),
        (("import", "bad.har"), "bad.har:2: Not JSON"),
        (("import", "bad.har", "--test", "gone.py::test_x"), "gone.py is not there"),
        (("import", "bad.har", "--test", "test_a.py"), "names no test"),
        (("import", "bad.har", "--test", "test_a.py::test_x"), "test_a.py has no test test_x"),
        (("import", "bad.har", "--out", "x.txt"), "must end in .json"),
        (("import", "bad.har", "--out", "there.json"), "--replace"),
    ],
)
def test_errors_name_the_file_and_what_to_do(project, run, arguments, said):
    (project / "bad.har").write_text('{"log":\n')
    (project / "test_a.py").touch()
    (project / "there.json").write_text("kept")
    done = run("mock_mcp", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert (project / "there.json").read_text() == "kept"


def har(*urls: str) -> str:
    entries = [
        {
            "request": {"method": "GET", "url": url, "headers": []},
            "response": {"status": 204, "headers": []},
        }
        for url in urls
    ]
    return json.dumps({"log": {"entries": [*entries, {}]}})


def test_without_a_target_nothing_is_written(project, run):
    (project / "a.har").write_text(har("https://api.test/a"))
    before = sorted(project.rglob("*"))
    told = run("mock_mcp", "import", "a.har")
    assert told.returncode == 0
    title, lost, blank, summary = told.stdout.splitlines()
    assert (title, blank) == ("Not imported:", "")
    assert lost == "  a.har: $.log.entries[1].request: `request` is missing"
    assert summary.startswith("1 call can be imported (1 not checked by a contract); name the")
    assert sorted(project.rglob("*")) == before


def test_stubs_without_a_host_are_said_to_go_where_wiremock_listens(project, run):
    stub = {"request": {"method": "GET", "url": "/users/1"}, "response": {"status": 204}}
    (project / "stub.json").write_text(json.dumps(stub))
    told = run("mock_mcp", "import", "stub.json")
    assert "1 call to http://localhost:8080, where WireMock listens" in told.stdout
    assert "--base-url" in told.stdout
    named = ("--base-url", "https://api.test")
    made = run("mock_mcp", "import", "stub.json", *named, "--out", "r.json")
    assert made.stdout == "r.json: 1 call of r (1 not checked by a contract)\n"
    (call,) = read_recording(project / "r.json").interactions
    assert call.request.url == "https://api.test/users/1"


def test_several_files_make_one_recording_of_one_host(project, run):
    (project / "a.har").write_text(har("https://api.test/a", "https://cdn.test/x"))
    (project / "b.har").write_text(har("https://v2.api.test/b"))
    hosts = ("--host", "api.test", "--host", "*.api.test")
    done = run("mock_mcp", "import", "a.har", "b.har", *hosts, "--out", "r.json")
    assert done.returncode == 0
    assert "1 call to another host was left out." in done.stdout
    urls = [item.request.url for item in read_recording(project / "r.json").interactions]
    assert urls == ["https://api.test/a", "https://v2.api.test/b"]
    replaced = run("mock_mcp", "import", "b.har", "--out", "r.json", "--replace")
    assert replaced.returncode == 0
    assert len(read_recording(project / "r.json").interactions) == 1


def test_no_call_at_all_is_exit_code_1_and_writes_nothing(project, run):
    (project / "a.har").write_text(har())
    done = run("mock_mcp", "import", "a.har", "--out", "r.json")
    assert done.returncode == 1
    assert not (project / "r.json").exists()


def test_the_projects_secrets_and_contract_count(project, run):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    content = {"application/json": {"schema": schema}}
    openapi = {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "servers": [{"url": "https://api.test"}],
        "paths": {"/n": {"get": {"responses": {"200": {"description": "", "content": content}}}}},
    }
    (project / "openapi.json").write_text(json.dumps(openapi))
    settings = '[tool.mock-mcp]\nopenapi = ["openapi.json"]\nredact = "pin"\n'
    (project / "pyproject.toml").write_text(settings)
    stubs = [
        {
            "request": {"method": "GET", "url": url},
            "response": {"jsonBody": body, "headers": {"Content-Type": "application/json"}},
        }
        for url, body in [("/n?pin=1234", {"n": 1}), ("/n", {"n": "x"}), ("/other", {})]
    ]
    (project / "s.json").write_text(json.dumps({"mappings": stubs}))
    to_api = ("--base-url", "https://api.test")
    done = run("mock_mcp", "import", "s.json", *to_api, "--out", "r.json", "--json")
    told = json.loads(done.stdout)
    assert (told["calls"], told["unchecked"]) == (1, 0)
    assert [loss["place"] for loss in told["notImported"]] == ["$.mappings[1]", "$.mappings[2]"]
    [found] = read_recording(project / "r.json").interactions
    assert (found.request.url, found.operation) == ("https://api.test/n?pin=REDACTED", "GET /n")
    assert found.source == "hand"


@pytest.mark.parametrize("where", ["project", "marker", "default"])
def test_the_headers_that_a_test_compares_are_imported(project, run, where):
    header = "range" if where == "default" else "x-tenant"
    match = f'["method", "host", "path", "headers:{header}"]'
    table = f"match = {match}\n" if where == "project" else ""
    (project / "pyproject.toml").write_text(f"[tool.mock-mcp]\n{table}")
    (project / "test_a.py").write_text(
        "import pytest, urllib.request as u\n"
        f"@pytest.mark.mock_mcp({f'match={match}' if where == 'marker' else ''})\n"
        "def test_b():\n"
        f"    asked = u.Request('https://api.test/a', headers={{'{header}': 'bytes=0-1'}})\n"
        "    assert u.urlopen(asked).read() == b'ab'\n"
    )
    response = {"status": {"code": 200, "message": "OK"}, "headers": {}, "body": {"string": "ab"}}
    request = {"method": "GET", "uri": "https://api.test/a", "headers": {header: ["bytes=0-1"]}}
    cassette = {"version": 1, "interactions": [{"request": request, "response": response}]}
    (project / "c.json").write_text(json.dumps(cassette))
    done = run("mock_mcp", "import", "c.json", "--test", "test_a.py::test_b")
    assert done.returncode == 0, done.stderr
    replayed = run("pytest", *PLUGIN, "--mock-mode=none")
    assert replayed.returncode == 0, replayed.stdout


def test_the_response_headers_of_project_and_contract_are_imported(project, run):
    declared = {"200": {"description": "", "headers": {"X-Total": {"schema": {}}}}}
    openapi = {"openapi": "3.1.0", "info": {}, "paths": {"/a": {"get": {"responses": declared}}}}
    (project / "openapi.json").write_text(json.dumps(openapi))
    settings = '[tool.mock-mcp]\nopenapi = ["openapi.json"]\nresponse_headers = ["x-cost"]\n'
    (project / "pyproject.toml").write_text(settings)
    response = {
        "status": {"code": 200, "message": "OK"},
        "headers": {"X-Cost": ["7"], "X-Noise": ["a"], "X-Total": ["1"], "Date": ["today"]},
        "body": {"string": ""},
    }
    request = {"method": "GET", "uri": "https://api.test/a", "headers": {}, "body": None}
    cassette = {"version": 1, "interactions": [{"request": request, "response": response}]}
    (project / "c.json").write_text(json.dumps(cassette))
    done = run("mock_mcp", "import", "c.json", "--out", "r.json")
    [found] = read_recording(project / "r.json").interactions
    assert found.response is not None
    assert found.response.headers == {"x-cost": "7", "x-total": "1"}
    assert "Headers of answers left out: date, x-noise. Name those" in done.stdout
