from __future__ import annotations

import json

import pytest

from mock_mcp.errors import MockMcpError
from mock_mcp.recordings.errors import RecordingError
from mock_mcp.recordings.match import Matching
from mock_mcp.responders.errors import CannotAnswer, ResponderUnusable
from mock_mcp.responders.plain import RecordingSource, SampleSource
from mock_mcp.runtime.project import Project
from mock_mcp.serving.claims import Next
from mock_mcp.types import Claim
from support.plugin import DOCUMENT

pytestmark = pytest.mark.asyncio


def request(url="https://api.test/users/1", method="GET", *, test="test_app.py::test_a", **more):
    metadata = {"test": {"testName": test}} if test else {}
    return {"requestId": "r1", "endpoint": url, "method": method, "metadata": metadata, **more}


async def answer(source, *requests, run="run-1"):
    claim = Claim("b1", run, list(requests), "token", 0)
    return list(await source.begin(Next(None, claim, None)).write(None))


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.mock-mcp]\nopenapi = ["openapi.json"]\n')
    (tmp_path / "openapi.json").write_text(json.dumps(DOCUMENT))
    return Project.resolve(tmp_path)


def samples(project, tmp_path, **options):
    return SampleSource(project, cache_dir=tmp_path / "cache", **options)


async def test_a_sample_is_the_same_for_a_seed_and_a_test(project, tmp_path):
    first = await answer(samples(project, tmp_path), request())
    assert first[0].data.keys() == {"id", "name"}
    assert await answer(samples(project, tmp_path), request()) == first
    assert await answer(samples(project, tmp_path, seed=2), request()) != first
    assert await answer(samples(project, tmp_path), request(test="test_app.py::test_b")) != first


async def test_a_sample_has_the_status_of_success(project, tmp_path):
    made = request("https://api.test/users", "POST", body={"name": "Ann"})
    (mock,) = await answer(samples(project, tmp_path), made)
    assert mock.status == 201


async def test_what_no_contract_describes_cannot_be_sampled(project, tmp_path):
    with pytest.raises(MockMcpError, match=r"GET https://other.test/ cannot be answered"):
        await answer(samples(project, tmp_path), request("https://other.test/", test=None))


def recording(path, *calls, test="test_app.py::test_a"):
    path.parent.mkdir(parents=True, exist_ok=True)
    interactions = [
        {
            "request": {"method": "GET", "url": url},
            "response": {"status": 200, "headers": {}, "body": body},
            "source": "ai",
        }
        if body != "refused"
        else {"request": {"method": "GET", "url": url}, "source": "ai", "error": {"kind": body}}
        for url, body in calls
    ]
    path.write_text(json.dumps({"version": 1, "test": test, "interactions": interactions}))


async def recordings(directory, matching=None):
    source = RecordingSource(directory, matching)
    await source.start()
    return source


USER = "https://api.test/users/1"


async def test_equal_calls_get_the_recorded_answers_in_order_and_the_last_one_from_then_on(
    tmp_path,
):
    recording(tmp_path / "__mocks__/test_app/test_a.json", (USER, 1), (USER, 2))
    source = await recordings(tmp_path)
    given = [(await answer(source, request()))[0].data for _ in range(4)]
    assert given == [1, 2, 2, 2]
    assert (await answer(source, request(), run="run-2"))[0].data == 1


async def test_the_recording_of_the_same_test_comes_first(tmp_path):
    recording(tmp_path / "__mocks__/test_app/test_a.json", (USER, "a"))
    recording(tmp_path / "__mocks__/test_app/test_b.json", (USER, "b"), test="test_app.py::test_b")
    source = await recordings(tmp_path)
    assert (await answer(source, request(test="test_app.py::test_b")))[0].data == "b"
    assert (await answer(source, request(test="test_new.py::test_c")))[0].data == "a"


async def test_the_recording_of_the_same_file_comes_before_one_of_the_same_name(tmp_path):
    for folder in "ab":
        file = tmp_path / folder / "__mocks__/test_app/test_a.json"
        recording(file, (USER, folder))
    source = await recordings(tmp_path)
    of_file = request(test="tests/b/test_app.py::test_a")
    of_file["metadata"]["test"]["testFile"] = str(tmp_path / "b/test_app.py")
    assert (await answer(source, of_file))[0].data == "b"


async def test_a_test_in_a_folder_is_known_by_its_recording(tmp_path):
    path = tmp_path / "__mocks__/test_app"
    recording(path / "A.test_a.json", (USER, "a"), test="test_app.py::A::test_a")
    recording(path / "T.test_b.json", (USER, "b"), test="test_app.py::T::test_b[x::y]")
    source = await recordings(tmp_path)
    (mock,) = await answer(source, request(test="tests/unit/test_app.py::T::test_b[x::y]"))
    assert mock.data == "b"


async def test_calls_are_told_apart_as_the_project_does(tmp_path):
    path = tmp_path / "__mocks__/test_app/test_a.json"
    recording(path, (f"{USER}?ts=1", "first"), (f"{USER}?ts=2", "second"))
    file = json.loads(path.read_text())
    for number, interaction in enumerate(file["interactions"]):
        interaction["request"]["headers"] = {"range": f"bytes={number}"}
    path.write_text(json.dumps(file))
    source = await recordings(tmp_path, Matching(ignore=["query:ts"]))
    asked = request(f"{USER}?ts=3", headers={"Range": "bytes=1", "x-trace": "1"})
    assert (await answer(source, asked))[0].data == "second"


async def test_what_is_not_recorded_or_failed_cannot_be_answered(tmp_path):
    recording(tmp_path / "__mocks__/test_app/test_a.json", (USER, "refused"))
    source = await recordings(tmp_path)
    with pytest.raises(CannotAnswer, match="recorded as a failure"):
        await answer(source, request())
    with pytest.raises(CannotAnswer, match=rf"No recording in {tmp_path} answers GET https://x/"):
        await answer(source, request("https://x/"))


async def test_a_directory_without_recordings_or_with_a_broken_one_is_said(tmp_path):
    with pytest.raises(ResponderUnusable, match="holds no recordings"):
        await recordings(tmp_path)
    recording(tmp_path / "__mocks__/test_app/test_a.json", (USER, 1))
    (tmp_path / "__mocks__/test_app/test_b.json").write_text('{"version": 1, "test": "interactions')
    (tmp_path / "test_app.py").touch()
    with pytest.raises(RecordingError, match=r"test_b\.json"):
        await recordings(tmp_path)
