"""Which recordings nobody needs, and which files are not ours to judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_mcp.recordings.paths import locate, locate_scope
from mock_mcp.recordings.store import RecordingFile
from mock_mcp.recordings.survey import prune, survey
from unit.recordings.calls import answered, call


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    """A project of two modules with a test each, a module scope and a session scope."""
    for module in ("test_a", "test_b"):
        file = tmp_path / "tests" / f"{module}.py"
        file.parent.mkdir(exist_ok=True)
        file.touch()
        for place in (locate(file, ["test_one"]), locate_scope("module", file)):
            record(*place)
    record(*locate_scope("session", tmp_path))
    return tmp_path / "tests"


def record(path: Path, test: str) -> None:
    run = RecordingFile(path, test)
    run.stage(answered(call(body={"$base64": "AAEC"})))
    run.promote()


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_all_is_in_use(tests: Path) -> None:
    found = survey(tests.parent)
    assert len(found.recordings) == 5
    assert not found.orphans
    assert not found.unreadable


def test_a_module_that_is_gone_orphans_its_recordings_and_their_sidecars(tests: Path) -> None:
    (tests / "test_a.py").unlink()
    before = names(tests.parent)
    found = survey(tests.parent)
    assert len(found.recordings) == 3
    reason = f"there is no test_a.py in {tests}; if it was moved, move its recordings"
    assert reason in [orphan.reason for orphan in found.orphans]
    assert names(tests.parent) == before  # a survey changes nothing
    removed = prune(found)
    assert len(removed) == 4
    assert not (tests / "__mocks__" / "test_a").exists()
    assert not survey(tests.parent).orphans
    assert len(survey(tests.parent).recordings) == 3


def test_known_tests_speak_for_the_modules_they_name(tests: Path) -> None:
    file = tests / "test_a.py"
    known = [locate(file, ["test_two"]).path, locate_scope("module", file).path]
    found = survey(tests.parent, known)
    recordings = [o.path.name for o in found.orphans if o.path.suffix == ".json"]
    assert recordings == ["test_one.json"]
    assert locate(tests / "test_b.py", ["test_one"]).path in found.recordings


def test_what_is_not_ours_is_left_alone(tests: Path) -> None:
    other = tests / "web" / "__mocks__" / "api"
    other.mkdir(parents=True)
    (other / "users.json").write_text('{"users": []}')
    (other / "users.0123456789abcdef.json").write_text("[]")
    (other.parent / "broken.json").write_text("{")
    modules = tests / "node_modules" / "x" / "__mocks__" / "y"
    modules.mkdir(parents=True)
    (modules / "z.json").write_text('{"version": 1, "test": "z", "interactions": []}')
    found = survey(tests.parent)
    assert len(found.recordings) == 5
    assert not found.orphans
    assert not found.unreadable


@pytest.mark.parametrize("text", ["", "{", '{"version": 9, "test": "t", "interactions": []}'])
def test_an_unreadable_recording_is_reported_and_never_removed(tests: Path, text: str) -> None:
    path = locate(tests / "test_a.py", ["test_one"]).path
    path.write_text(text)
    found = survey(tests.parent)
    assert [error.file for error in found.unreadable] == [str(path)]
    assert not found.orphans  # its sidecar may be needed


def test_leftovers_are_found(tests: Path) -> None:
    directory = tests / "__mocks__" / "test_a"
    left = directory / ".test_one.json.4711-0a1b2c3d.tmp"
    stray = directory / "test_one.0123456789abcdef.bin"
    left.touch()
    stray.touch()
    found = survey(tests.parent)
    assert {orphan.path for orphan in found.orphans} == {left, stray}
    prune(found)
    assert not survey(tests.parent).orphans


def test_a_project_without_recordings(tmp_path: Path) -> None:
    assert survey(tmp_path) == ((), (), ())
