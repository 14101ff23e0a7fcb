"""``mock-mcp respond`` and ``pytest --mock-responder``, as processes."""

# ruff: noqa: F401, F811 - fixtures are imported

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mock_mcp.cli import main
from support.daemons import processes_of
from support.models import KEY, ModelServer, answer, fail, mocks_for, model_server
from support.plugin import ELSEWHERE, PluginProject, ScriptedAssistant, assistant, tests
from support.ws import HANG_S, eventually

pytest_plugins = ["pytester"]

TWO = """
    @pytest.mark.mock_mcp
    def test_one():
        assert user()

    @pytest.mark.mock_mcp
    def test_two():
        made = httpx.post("https://api.test/users", json={"name": "Ann"})
        assert made.status_code == 201
        assert user(2)
"""
OTHER = """
    @pytest.mark.mock_mcp(contract="off")
    def test_other():
        httpx.get("https://other.test/")
"""


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


def responders(cache: Path) -> list[str]:
    """The responder processes that use a cache directory."""
    return [command for _, command in processes_of(cache) if " respond " in command]


class Respond:
    """``mock-mcp respond`` in a process of its own."""

    def __init__(self, project: Path, *arguments: str, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mock_mcp", "respond", *arguments],
            cwd=project,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[int, str]:
        """Return the exit code and everything printed since."""
        out, err = self.process.communicate(timeout=HANG_S)
        return self.process.returncode, out + err


@contextmanager
def respond(project: Path, *arguments: str, **env: str) -> Iterator[Respond]:
    """Start the command and wait until it is ready."""
    started = Respond(project, *arguments, **env)
    try:
        line = started.line()
        assert "Answering" in line or '"ready"' in line, started.end()
        yield started
    finally:
        started.process.kill()
        started.process.communicate(timeout=HANG_S)


def using(server: ModelServer, kind: str = "openai") -> tuple[str, ...]:
    url = server.url + ("/v1" if kind == "openai" else "")
    return ("--using", kind, "--model", "m-1", "--base-url", url)


KEYS = {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY, "OLLAMA_API_KEY": KEY}


# -- mock-mcp respond ----------------------------------------------------------------------------


def test_it_answers_what_comes_and_ends_when_no_run_is_left(tests: PluginProject) -> None:
    tests.write(TWO)
    with respond(tests.path, "--using", "sample", "--until-idle") as responder:
        result = tests.spawn(MOCK_MCP="1")
        assert result.outcomes() == {"passed": 2}, result.text
        code, text = responder.end()
    assert code == 0
    lines = text.splitlines()
    assert lines[0] == "answered GET https://api.test/users/1 for test_app.py::test_one"
    assert lines[-1] == "3 calls answered in 3 batches"
    assert tests.recording()["interactions"][0]["source"] == "example"


def test_a_batch_that_was_not_answered_is_its_exit_code(tests: PluginProject) -> None:
    tests.write(OTHER)
    responder = Respond(tests.path, "--using", "sample", "--until-idle", "--quiet")
    result = tests.spawn(MOCK_MCP="1")
    assert result.outcomes() == {"failed": 1}
    assert "cannot be answered from a contract" in result.text
    code, text = responder.end()
    assert code == 1
    assert text.startswith("not answered: GET https://other.test/ for test_app.py::test_other\n")


@pytest.mark.parametrize(
    ("kind", "form"), [("openai", ()), ("anthropic", ("--json",)), ("ollama", ())]
)
def test_no_output_contains_the_key(
    tests: PluginProject, server: ModelServer, kind: str, form: tuple[str, ...]
) -> None:
    tests.write(TWO)
    server.script += [
        fail(500, f"boom {KEY}", retry_after="0"),
        answer({"mocks": []}),
        answer(mocks_for),
        fail(400, f"what is {KEY}?"),
        fail(400, f"what is {KEY}?"),
        fail(400, f"what is {KEY}?"),
    ]
    arguments = ("--until-idle", "--concurrency", "1", *using(server, kind), *form)
    with respond(tests.path, *arguments, **KEYS) as responder:
        result = tests.spawn(MOCK_MCP="1")
        code, text = responder.end()
    sent = server.calls[0].headers
    assert KEY in (sent.get("authorization", ""), sent.get("x-api-key")) or (
        sent["authorization"] == f"Bearer {KEY}"
    )
    assert code == 1
    assert "what is [key]?" in text
    assert "what is [key]?" in result.text
    assert KEY not in text + result.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_back_what_is_claimed(
    tests: PluginProject, assistant: ScriptedAssistant, server: ModelServer, number: int
) -> None:
    assistant.leave()
    tests.write(TWO)
    server.script.append(server.hold(answer(mocks_for)))
    with tests.start(MOCK_MCP="1"):
        with respond(tests.path, *using(server), **KEYS) as responder:
            assert server.arrived.wait(HANG_S)
            assert assistant.status()["claimed"] == 1
            responder.process.send_signal(number)
            code, text = responder.end()
        assert code == 0, text
        assert text.splitlines()[-1].startswith("0 calls answered in 0 batches")
        assert (assistant.status()["pending"], assistant.status()["claimed"]) == (1, 0)


def test_what_a_model_costs_is_said(tests: PluginProject, server: ModelServer) -> None:
    tests.write(TWO)
    prices = ("--price-in", "2", "--price-out", "10")
    with respond(tests.path, "--until-idle", "--json", *using(server), *prices, **KEYS) as model:
        assert tests.spawn(MOCK_MCP="1").outcomes() == {"passed": 2}
        code, text = model.end()
    events = [json.loads(line) for line in text.splitlines()]
    assert [event["event"] for event in events] == [*["answered"] * 3, "totals"]
    assert (events[-1]["tokensIn"], events[-1]["tokensOut"]) == (300, 30)
    assert events[-1]["cost"] == pytest.approx(0.0009)
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "--using"),
        (("--using", "nobody"), 2, "'nobody' is none of sample, recordings, openai"),
        (("--using", "sample", "x"), 2, "--using sample takes nothing more"),
        (("--using", "recordings"), 2, "--using recordings takes one directory"),
        (("--using", "recordings", "no-such"), 2, "no-such is no directory"),
        (("--using", "recordings", "."), 1, "holds no recordings"),
        (("--using", "openai"), 2, "needs --model, or the variable MOCK_MCP_MODEL"),
        (("--using", "openai", "--model", "m"), 1, "set the environment variable OPENAI_API_KEY"),
        (("--using", "anthropic", "--model", "m", "--key-env", "NO_KEY"), 1, "variable NO_KEY"),
        (("--using", "ollama", "--model", "m", "--rate", "0"), 2, "--rate"),
        (
            ("--using", "ollama", "--model", "m", "--base-url", "http://127.0.0.1:9"),
            1,
            "ollama: nobody answers at http://127.0.0.1:9",
        ),
    ],
)
def test_what_keeps_it_from_starting_is_said_in_words(
    tests: PluginProject,
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "MOCK_MCP_MODEL"):
        monkeypatch.delenv(name, raising=False)
    try:
        ended = main(["respond", *arguments])
    except SystemExit as end:  # of argparse
        ended = end.code
    assert ended == code
    out, err = capsys.readouterr()
    assert words in out + err


def test_a_key_that_is_none_is_not_quoted(tests: PluginProject) -> None:
    code, text = Respond(
        tests.path, "--using", "openai", "--model", "m", OPENAI_API_KEY=f"{KEY}\nx"
    ).end()
    assert code == 1
    assert "OPENAI_API_KEY holds no key" in text
    assert "Traceback" not in text
    assert KEY not in text


def test_without_the_extra_one_line_says_what_to_install(
    tests: PluginProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    root = ("--project-root", str(tests.path))
    assert main(["respond", "--using", "ollama", "--model", "m", *root]) == 1
    assert "pip install 'mock-mcp[llm]'" in capsys.readouterr().err


# -- pytest --mock-responder ---------------------------------------------------------------------


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["plain", "xdist"])
def test_a_run_starts_one_responder_and_leaves_nothing_behind(
    tests: PluginProject, cache_dir: Path, workers: tuple[str, ...]
) -> None:
    tests.write(TWO)
    result = tests.spawn("--mock-responder=sample", *workers)
    assert result.outcomes() == {"passed": 2}, result.text
    assert result.text.count("responder sample: 3 calls answered in 3 batches") == 1
    assert sorted(tests.recordings()) == [
        "__mocks__/test_app/test_one.json",
        "__mocks__/test_app/test_two.json",
    ]
    assert tests.recording()["interactions"][0]["source"] == "example"
    assert not responders(cache_dir)


def test_a_model_answers_a_run(tests: PluginProject, server: ModelServer, cache_dir: Path) -> None:
    tests.write(TWO)
    server.script += [fail(429, "slow down", retry_after="0"), answer({"mocks": []})]
    value = " ".join(using(server)[1:])
    result = tests.run(f"--mock-responder={value}", OPENAI_API_KEY=KEY)
    assert result.outcomes() == {"passed": 2}, result.text
    assert "3 calls answered in 3 batches; 1 correction; 4 calls of the model" in result.text
    assert tests.bodies() == [{"id": 1, "name": "Ann"}]
    assert tests.recording()["interactions"][0]["source"] == "ai"
    assert KEY not in result.text
    assert not responders(cache_dir)


def test_recordings_answer_a_run(tests: PluginProject) -> None:
    tests.write(TWO)
    tests.record()
    names = ("test_app/test_one.json", "test_app/test_two.json")
    before = [tests.bodies(name) for name in names]
    (tests.path / "all").mkdir()
    (tests.path / "__mocks__").rename(tests.path / "all/__mocks__")
    result = tests.run("--mock-responder=recordings all")
    assert result.outcomes() == {"passed": 2}, result.text
    assert [tests.bodies(name) for name in names] == before
    assert tests.recording()["interactions"][0]["source"] == "example"


@pytest.mark.parametrize(
    ("value", "words", "workers"),
    [
        ("nobody", "'nobody' is none of sample", ()),
        ("openai", "needs --model", ()),
        ("sample 'x", "No closing quotation", ()),
        ("ollama --model m --base-url http://127.0.0.1:9", "nobody answers at", ()),
        ("ollama --model m --base-url http://127.0.0.1:9", "nobody answers at", ("-n1",)),
    ],
)
def test_a_responder_that_cannot_start_ends_the_run_with_the_reason(
    tests: PluginProject, cache_dir: Path, value: str, words: str, workers: tuple[str, ...]
) -> None:
    tests.write(TWO)
    result = tests.spawn(f"--mock-responder={value}", *workers, MOCK_MCP_MODEL="")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.text.splitlines() if line.startswith("ERROR")]
    assert words in line
    assert not responders(cache_dir)


@pytest.mark.parametrize("interpreter", ["", "python"], ids=["unknown", "not executable"])
def test_an_interpreter_that_cannot_be_started_ends_the_run_with_the_way_out(
    tests: PluginProject, monkeypatch: pytest.MonkeyPatch, interpreter: str
) -> None:
    tests.write(TWO)
    if interpreter:
        file = tests.path / interpreter
        file.touch()
        interpreter = str(file)
    monkeypatch.setattr(sys, "executable", interpreter)
    result = tests.run("--mock-responder=sample")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.text.splitlines() if line.startswith("ERROR")]
    assert f"{interpreter!r}, cannot be started again" in line
    assert "`mock-mcp respond --using sample`" in line


def test_a_test_that_stops_the_clocks_is_answered_and_times_out(tests: PluginProject) -> None:
    """As freezegun does: the monotonic clock stands still, too."""
    tests.write("""
        import time

        @pytest.fixture
        def frozen(monkeypatch):
            for name in ("time", "monotonic", "perf_counter"):
                monkeypatch.setattr(time, name, lambda: 1_500_000_000.0)
            for name in ("time_ns", "monotonic_ns", "perf_counter_ns"):
                monkeypatch.setattr(time, name, lambda: 1_500_000_000 * 10**9)

        @pytest.mark.mock_mcp
        def test_one(frozen):
            assert user()
    """)
    unanswered = tests.spawn("--mock-timeout=0.5", MOCK_MCP="1")
    assert unanswered.outcomes() == {"failed": 1}, unanswered.text
    assert "Nobody answered GET https://api.test/users/1 within 0.5 s" in unanswered.text
    answered = tests.spawn("--mock-responder=sample")
    assert answered.outcomes() == {"passed": 1}, answered.text


def test_a_test_that_changes_its_environment_asks_the_same_daemon(tests: PluginProject) -> None:
    tests.write(ELSEWHERE)
    result = tests.spawn("--mock-responder=sample", "--mock-timeout=20")
    assert result.outcomes() == {"passed": 1}, result.text


def test_what_it_cannot_answer_fails_its_test_with_the_reason(tests: PluginProject) -> None:
    tests.write(TWO + OTHER)
    result = tests.run("--mock-responder=sample")
    assert result.outcomes() == {"passed": 2, "failed": 1}
    assert "was given up" in result.text
    assert "3 calls answered in 3 batches; 1 batch not answered" in result.text
    assert "not answered: GET https://other.test/ cannot be" in result.text


def test_a_model_that_turns_out_to_be_wrong_fails_each_test_at_once(
    tests: PluginProject, server: ModelServer
) -> None:
    tests.write(TWO)
    server.always = fail(404, "model 'm-1' not found")
    result = tests.run(f"--mock-responder={' '.join(using(server)[1:])}", OPENAI_API_KEY=KEY)
    assert result.outcomes() == {"failed": 2}
    assert "does not know the model" in result.text
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("arguments", "env"),
    [(("--mock-mode=none",), {}), ((), {"CI": "1"})],
    ids=["mode", "CI"],
)
def test_where_nothing_is_asked_none_is_started(
    tests: PluginProject, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    tests.write(TWO)
    result = tests.run("--mock-responder=sample", *arguments, **env)
    assert result.outcomes() == {"failed": 2}
    assert "responder sample was not started" in result.text


def test_in_ci_the_command_line_may_ask(tests: PluginProject) -> None:
    tests.write(TWO)
    result = tests.run("--mock-responder=sample", "--mock-mode=once", CI="1")
    assert result.outcomes() == {"passed": 2}


def test_it_ends_with_a_pytest_that_is_killed(
    tests: PluginProject, server: ModelServer, cache_dir: Path
) -> None:
    tests.write(TWO)
    server.always = server.hold(answer(mocks_for))
    value = " ".join(using(server)[1:])
    with tests.start(f"--mock-responder={value}", OPENAI_API_KEY=KEY) as run:
        assert server.arrived.wait(HANG_S)
        assert len(responders(cache_dir)) == 1
        run.kill()
    eventually(lambda: not responders(cache_dir))


def test_a_run_without_mocked_tests_is_answered_nothing(tests: PluginProject) -> None:
    tests.write("def test_plain(): pass")
    result = tests.run("--mock-responder=sample")
    assert result.outcomes() == {"passed": 1}
    assert "responder sample: 0 calls answered in 0 batches" in result.text


def test_collecting_starts_none(tests: PluginProject) -> None:
    tests.write(TWO)
    result = tests.run("--mock-responder=nobody", "--collect-only")
    assert result.ret == 0
