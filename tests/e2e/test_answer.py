"""`mock-mcp answer` as a person uses it: on a terminal, with an editor of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.daemons import ServedDaemon, environment
from support.plugin import DOCUMENT
from support.stress import STRESS
from support.terminal import TerminalCommand
from support.ws import eventually, request

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")

URL = "https://api.test/users/7"


class Desk:
    """A project with a contract and a daemon; an editor is a shell script that gets the file."""

    def __init__(self, daemon: ServedDaemon, project: Path, cache_dir: Path) -> None:
        self.daemon = daemon
        self.project = project
        self.cache_dir = cache_dir
        self.test = daemon.attach("run-1", capabilities=["ack", "errors", "resume"])
        self.seen = project / "seen"
        (project / "openapi.json").write_text(json.dumps(DOCUMENT))
        (project / "pyproject.toml").write_text('[tool.mock-mcp]\nopenapi = ["openapi.json"]\n')

    def answer(self, script: str, *arguments: str) -> TerminalCommand:
        """Start the command; the editor copies what it is given to ``seen`` and runs a script."""
        editor = self.project / "my editor.sh"
        editor.write_text(f'cp "$1" "{self.seen}"\n{script}\n')
        env = {"VISUAL": "", "EDITOR": f"sh '{editor}'", "TMPDIR": str(self.project)}
        env = environment(self.cache_dir, env)
        return TerminalCommand("answer", *arguments, cwd=self.project, env=env)

    def ask(self, *ids: str) -> None:
        self.test.submit([request(rid, endpoint=URL) for rid in ids or ("a",)])
        self.test.settle()

    def result(self) -> Any:
        result = self.test.recv()
        self.test.send({"type": "BATCH_RESULT_ACK", "batchId": result["batchId"]})
        return result

    def received(self) -> Any:
        return {mock["requestId"]: mock["data"] for mock in self.result()["mocks"]}

    @property
    def pending(self) -> int:
        return self.daemon.control.call("getStatus")["pending"]


@pytest.fixture
def desk(daemon: ServedDaemon, project: Path, cache_dir: Path) -> Desk:
    return Desk(daemon, project, cache_dir)


def test_what_is_saved_is_sent(desk):
    desk.ask("a", "b")
    with desk.answer("""sed -i 's/"name": .*/"name": "Ann"/' "$1" """) as answer:
        data = desk.received()
        assert {mock["name"] for mock in data.values()} == {"Ann"}
        assert {type(mock["id"]) for mock in data.values()} == {int}
        assert answer.end() == 0
    assert "Delivered 2 mocks" in answer.text
    assert f"// GET {URL}" in desk.seen.read_text()


def test_an_answer_is_known_as_a_persons(desk):
    desk.ask()
    with desk.answer('touch "$1"') as answer:
        (mock,) = desk.result()["mocks"]
        assert mock["source"] == "hand"
        assert answer.end() == 0


def test_a_sample_that_is_saved_unchanged_is_sent(desk):
    desk.ask()
    with desk.answer('touch "$1"') as answer:
        assert desk.received()["a"].keys() == {"id", "name"}
        assert answer.end() == 0


def test_violations_come_back_with_the_edit_until_it_is_right(desk):
    desk.ask()
    script = f"""
        if grep -q mine "$1"; then sed -i 's/"seven"/7/' "$1"
        elif [ -e "{desk.project}/once" ]; then
            echo '[{{"requestId": "a", "data": {{"id": "seven", "name": "mine"}}}}]' > "$1"
        else touch "{desk.project}/once"; echo '[{{"requestId"' > "$1"; fi
    """
    with desk.answer(script) as answer:
        assert desk.received() == {"a": {"id": 7, "name": "mine"}}
        assert answer.end() == 0
    notes, _, rest = desk.seen.read_text().rpartition("//! ")
    assert notes.startswith("//! The answer breaks the contract")
    assert "/body/id (type): expected integer" in rest
    assert rest.endswith('[{"requestId": "a", "data": {"id": "seven", "name": "mine"}}]\n')


@pytest.mark.parametrize("script", ["true", ': > "$1"', 'rm "$1"', 'touch "$1"; exit 3'])
def test_a_batch_that_is_not_answered_is_given_back(desk, script):
    desk.ask()
    with desk.answer(script) as answer:
        assert answer.end() == 1
    assert "Gave batch:run-1:1 back." in answer.text
    claim = desk.daemon.control.call("claimNextBatch", adapterId="other")
    assert claim["history"][0]["outcome"] == "released"


def test_a_batch_is_chosen_by_its_id(desk):
    desk.ask("a")
    desk.ask("b")
    with desk.answer('touch "$1"', "batch:run-1:2") as answer:
        assert [*desk.received()] == ["b"]
        assert answer.end() == 0
    with desk.answer('touch "$1"', "batch:run-1:9") as answer:
        assert answer.end() == 1
        assert "Batch not found" in answer.text
    desk.daemon.control.call("claimNextBatch", adapterId="other")
    with desk.answer('touch "$1"', "batch:run-1:1") as answer:
        assert answer.end() == 1
        assert "cannot be claimed now" in answer.text


def test_without_a_batch_it_says_so(desk):
    with desk.answer("true") as answer:
        assert answer.end() == 1
    assert "No batch waits in" in answer.text
    assert not desk.seen.exists()


@pytest.mark.parametrize("how", ["key", signal.SIGTERM])
def test_whatever_ends_it_the_batch_is_given_back(desk, how):
    desk.ask()
    with desk.answer("sleep 1000") as answer:
        answer.wait_for(desk.seen.exists)
        assert desk.pending == 0
        if how == "key":
            answer.type("\x03")
            assert answer.end() == 1
        else:
            answer.process.send_signal(how)
            assert answer.end() == 128 + how
    assert desk.pending == 1
    assert "Traceback" not in answer.text


def test_what_nobody_waits_for_any_more_is_kept(desk):
    desk.ask()
    with desk.answer(
        f'touch "$1"; while [ ! -e "{desk.project}/go" ]; do sleep 0.05; done'
    ) as answer:
        answer.wait_for(desk.seen.exists)
        desk.test.close()
        eventually(lambda: not desk.daemon.control.call("listRuns")["runs"])
        (desk.project / "go").touch()
        assert answer.end() == 1
    (kept,) = desk.project.glob("mock-mcp-answer-*.jsonc")
    assert f"What you wrote is kept in {kept}." in answer.text
    assert URL in kept.read_text()


@pytest.mark.skipif(not STRESS, reason="takes 10 s; MOCK_MCP_STRESS=1 runs it")
def test_the_claim_is_renewed_while_somebody_thinks(desk):
    desk.ask()

    def lease() -> int:
        (batch,) = desk.daemon.control.call("listBatches")["batches"]
        return batch["claim"]["leaseUntil"]

    with desk.answer("sleep 1000") as answer:
        answer.wait_for(desk.seen.exists)
        before = lease()
        eventually(lambda: lease() > before, timeout_s=60)
        answer.process.terminate()
        answer.end()


@pytest.mark.parametrize(
    ("editor", "said"),
    [("no-such-editor", "'no-such-editor', which is not installed"), (" ", "no editor")],
)
def test_an_editor_that_is_not_there_claims_nothing(desk, editor, said):
    desk.ask()
    env = environment(desk.cache_dir, {"VISUAL": editor})
    with TerminalCommand("answer", cwd=desk.project, env=env) as answer:
        assert answer.end() == 1
    assert said in answer.text
    assert desk.pending == 1


def test_it_needs_a_terminal(desk):
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "mock_mcp", "answer"],
        cwd=desk.project,
        env=environment(desk.cache_dir),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert ended.returncode == 1
    assert "needs a terminal" in ended.stderr
