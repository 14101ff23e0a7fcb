"""A renamed test is told which recording it left behind, and the command that hands it on."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from mock_mcp.recordings.format import RecordedRequest
from mock_mcp.recordings.match import Matching
from mock_mcp.recordings.paths import locate, names_of
from mock_mcp.recordings.renamed import left_behind
from mock_mcp.recordings.store import RecordingFile
from unit.recordings.calls import answered, call

MADE = call()


class Project:
    """Test files, and recordings by node id."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def source(self, name: str, *tests: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text("\n".join(f"def {test}(x): ..." for test in tests))

    def file(self, node_id: str, **options: Matching) -> RecordingFile:
        name, names = names_of(node_id)
        return RecordingFile(*locate(self.root / name, names), **options)

    def record(self, *node_ids: str, request: RecordedRequest = MADE) -> None:
        for node_id in node_ids:
            file = self.file(node_id)
            file.stage(answered(request, node_id))
            file.promote("none")

    def obey(self, hint: str) -> None:
        """Do what the hint's command does."""
        for command in hint.partition("moved: ")[2].split(" && "):
            match shlex.split(command):
                case ["mkdir", "-p", directory]:
                    Path(directory).mkdir(parents=True)
                case ["git", "-C", directory, "mv", source, target]:
                    assert not Path(directory, target).exists()
                    Path(directory, source).rename(Path(directory, target))
                case _:
                    raise AssertionError(command)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "pyproject.toml").touch()
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("there", "old", "new"),
    [
        (["test_a.py"], "test_a.py::test_old", "test_a.py::test_new"),
        (["test_a.py"], "test_a.py::test_old[a b]", "test_a.py::test_new[a b]"),
        (["test_a.py"], "test_a.py::test_new", "test_a.py::test_new[eur]"),
        (["test_a.py"], "test_a.py::test_new[eur]", "test_a.py::test_new"),
        (["test_a.py"], "test_a.py::TestOld::test_new", "test_a.py::TestNew::test_new"),
        (["test_a.py"], "test_old.py::test_new", "test_a.py::test_new"),
        (["test_a.py", "test_b.py"], "test_b.py::test_new", "test_a.py::test_new"),
        (["unit/test_a.py"], "test_a.py::test_new", "unit/test_a.py::test_new"),
        (["test_a.py"], "old/unit/test_a.py::test_new", "test_a.py::test_new"),
        (
            ["unit/test_a.py", "old/test_a.py"],
            "old/test_a.py::test_new",
            "unit/test_a.py::test_new",
        ),
    ],
)
@pytest.mark.parametrize("others", [(), ("test_a.py::test_other",)], ids=["alone", "not alone"])
def test_the_command_gives_a_test_the_recording_it_had(
    project: Project, there: list[str], old: str, new: str, others: tuple[str, ...]
) -> None:
    project.record(old, *others)
    project.source(there[0], "test_new", "test_other")
    for name in there[1:]:
        project.source(name, "test_else")
    hint = left_behind(project.file(new), MADE)
    assert hint is not None
    is_moved = Path(old.partition("::")[0]).parent != Path(new.partition("::")[0]).parent
    shown = str(project.root / old) if is_moved else old
    assert hint.startswith(f"It is recorded for {shown}, which is gone.")
    project.obey(hint)
    found = project.file(new).find(MADE)
    assert found is not None
    assert found.response is not None
    assert found.response.body == old


def test_of_several_the_one_with_the_same_parameters_is_named(project: Project) -> None:
    project.source("test_a.py", "test_new")
    project.record(*(f"test_a.py::test_old[{name}]" for name in ("eur", "chf", "usd")))
    hint = left_behind(project.file("test_a.py::test_new[chf]"), MADE)
    assert hint is not None
    assert "test_old[chf]" in hint


@pytest.mark.parametrize(
    ("source", "recorded", "request_"),
    [
        ("def test_new(): ...\ndef test_old(): ...", "test_a.py::test_old", MADE),
        ("def test_new(): ...", "test_a.py::test_old", call("https://api.test/orders")),
        ("def test_new(): ...", "test_a.py::test_new[eur]", MADE),
        ("def test_new(): ...\nfrom b import *", "test_a.py::test_old", MADE),
        ("def test_new(): mock_mcp.intercept('old')", "test_a.py::old", MADE),
    ],
    ids=["there", "another call", "other parameters", "unknown", "a block"],
)
def test_what_is_or_may_be_in_use_is_not_named(
    project: Project, source: str, recorded: str, request_: RecordedRequest
) -> None:
    (project.root / "test_a.py").write_text(source)
    project.record(recorded, request=request_)
    assert left_behind(project.file("test_a.py::test_new[usd]"), MADE) is None


def test_files_that_are_no_recordings_are_passed_over(project: Project) -> None:
    project.source("test_a.py", "test_new")
    project.record("test_a.py::test_old")
    directory = project.file("test_a.py::test_old").path.parent
    (directory / "a.json").write_text("no recording")
    (directory / "b.json").mkdir()
    hint = left_behind(project.file("test_a.py::test_new"), MADE)
    assert hint is not None
    assert "test_a.py::test_old" in hint


def test_what_the_test_compares_decides(project: Project) -> None:
    project.source("test_a.py", "test_new")
    project.record("test_a.py::test_old", request=call(tenant="a"))
    exact = project.file("test_a.py::test_new", matching=Matching(match=["body"]))
    assert left_behind(exact, call("https://elsewhere.test/")) is not None


def test_where_there_is_a_recording_nothing_is_looked_for(project: Project) -> None:
    project.source("test_a.py", "test_new")
    project.record("test_a.py::test_old")
    project.record("test_a.py::test_new", request=call("https://api.test/orders"))
    assert left_behind(project.file("test_a.py::test_new"), MADE) is None
