"""What the code under test may not hide, bad input, and ends that nobody planned."""

# ruff: noqa: F401, F811 - fixtures are imported

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.cli import main
from mock_mcp.control.client import DaemonClient
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.launch import find_daemon
from mock_mcp.runtime.project import Project
from mock_mcp.types import DaemonInfo, Mock
from support.plugin import PluginProject, ScriptedAssistant, assistant, tests
from support.privileges import unprivileged
from support.ws import HANG_S, eventually

pytest_plugins = ["pytester"]

EXAMPLE = ("--mock-source=example",)
ONE = """
    @pytest.mark.mock_mcp
    def test_one():
        assert user()
"""


def frames(text: str) -> list[str]:
    """Return the places that a report's traceback names."""
    return [
        line.rpartition(": ")[0]
        for line in text.splitlines()
        if line.partition(".py:")[2].partition(":")[0].isdecimal()
    ]


# -- What the code under test may not hide ----------------------------------------------------

SWALLOWED = {
    "a contract violation": ('httpx.get("https://api.test/nowhere")', "breaks the API's contract"),
    "a miss": ("user(7)", "No recorded answer for GET https://api.test/users/7"),
    "a refused host": ('httpx.get("https://elsewhere.test/")', "was refused: elsewhere.test"),
    "a blocked connection": (
        '__import__("socket").create_connection(("elsewhere.test", 443))',
        "Looking up 'elsewhere.test' was refused",
    ),
}


@pytest.mark.parametrize("where", ["test", "fixture", "tear-down"])
@pytest.mark.parametrize("what", SWALLOWED)
def test_what_the_code_swallows_fails_the_test(tests: PluginProject, what: str, where: str) -> None:
    call, message = SWALLOWED[what]
    tests.write(f"""
        def hidden():
            try:
                {call}
            except Exception:
                pass

        @pytest.fixture
        def fixture():
            {"hidden()" if where == "fixture" else "pass"}
            yield
            {"hidden()" if where == "tear-down" else "pass"}

        @pytest.mark.mock_mcp(hosts=["api.test"])
        def test_one(fixture):
            {"hidden()" if where == "test" else "pass"}
    """)
    result = tests.run()
    failed = {"passed": 1, "errors": 1} if where == "tear-down" else {"failed": 1}
    assert result.outcomes() == failed, result.text
    assert message in result.text
    assert all(place.startswith("test_app.py:") for place in frames(result.text)), result.text


def test_a_replay_needs_no_place_to_write_to(
    tests: PluginProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests.write(ONE)
    tests.record()
    monkeypatch.setenv("MOCK_MCP_CACHE_DIR", str(tests.path / "openapi.json"))
    assert tests.run().outcomes() == {"passed": 1}
    assert main(["check", "--project-root", str(tests.path)]) == 0


def test_what_was_swallowed_is_shown_beside_the_failure_it_caused(tests: PluginProject) -> None:
    tests.write("""
        @pytest.mark.mock_mcp
        def test_one():
            try:
                name = user()
            except Exception:
                name = None
            assert name == "Ada"
    """)
    result = tests.run()
    assert result.outcomes() == {"failed": 1}
    assert "AssertionError" in result.text
    assert "what the code under test did not let out" in result.text
    assert "No recorded answer for GET https://api.test/users/1" in result.text


@pytest.mark.parametrize("attempts", [2, 3])
def test_what_was_tried_again_is_told_once(tests: PluginProject, attempts: int) -> None:
    tests.write(f"""
        @pytest.mark.mock_mcp
        def test_one():
            for _ in range({attempts - 1}):
                try:
                    user()
                except Exception:
                    pass
            try:
                user()
            except Exception as error:
                raise RuntimeError("given up") from error
    """)
    result = tests.run()
    assert result.outcomes() == {"failed": 1}
    assert result.text.count("No recorded answer for GET") == 1, result.text


def test_a_miss_shows_the_line_of_the_test_and_the_repair(tests: PluginProject) -> None:
    tests.write(ONE)
    tests.record()
    tests.write(ONE.replace("user()", "user(2)"))
    result = tests.run()
    assert result.outcomes() == {"failed": 1}
    assert 'path: recorded "/users/1", now "/users/2"' in result.text
    repair = "pytest --mock-source=example --mock-mode=new_episodes test_app.py::test_one"
    assert f"keep the others: {repair}" in result.text
    assert [place.partition(":")[0] for place in frames(result.text)] == ["test_app.py"] * 2
    whole = tests.run("--full-trace")
    assert any("scope.py" in place for place in frames(whole.text))


def test_the_repair_can_be_pasted_in_a_folder_below_the_root(
    tests: PluginProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests.write(ONE, "packages/shop/test_app.py")
    monkeypatch.chdir(tests.path / "packages")
    result = tests.run()
    assert result.outcomes() == {"failed": 1}
    assert "--mock-mode=new_episodes shop/test_app.py::test_one" in result.text
    result = tests.run("--mock-source=example")
    assert "written shop/__mocks__/test_app/test_one.json" in result.text


def test_errors_in_unittest_have_no_frames_of_ours_and_short_summaries(
    tests: PluginProject,
) -> None:
    tests.write("""
        import unittest

        @pytest.mark.mock_mcp
        class TestPlain(unittest.TestCase):
            def test_one(self):
                user()

        @pytest.mark.mock_mcp
        class TestAsync(unittest.IsolatedAsyncioTestCase):
            async def test_one(self):
                async with httpx.AsyncClient() as client:
                    await client.get("https://api.test/users/1")
    """)
    result = tests.run()
    assert result.outcomes() == {"failed": 2}
    places = [place.partition(":")[0] for place in frames(result.text)]
    assert set(places) == {"test_app.py"}, result.text
    assert "::test_one - RecordingMiss: No recorded" in result.text
    assert "did not let out" not in result.text


# -- Answers by hand --------------------------------------------------------------------------


def test_answers_by_hand(tests: PluginProject) -> None:
    tests.write("""
        def test_one(mock_mcp):
            add = mock_mcp.add_response
            add("GET", "/users/1", {"id": 1, "name": "Ada"})
            add("GET", "https://api.test/users/2", sequence=[
                {"id": 2, "name": "Bob"}, lambda call: {"id": call.number, "name": "Eve"}])
            add("*", "/users/3*", lambda call: {"id": 3, "name": call.method}, repeat=True)
            add("GET", "/users/4", error="refused")
            add("GET", "/users/5", error="read_timeout")
            add("GET", "/users/6", {"id": 6, "name": "slow"}, delay_ms=60_000)
            add("GET", "/users/7", optional=True)
            assert [user(1), user(2), user(2)] == ["Ada", "Bob", "Eve"]
            assert [user(3), user(3)] == ["GET", "GET"]
            with pytest.raises(httpx.ConnectError):
                user(4)
            with pytest.raises(httpx.ReadTimeout):
                user(5)
            with pytest.raises(httpx.ReadTimeout):
                httpx.get("https://api.test/users/6", timeout=0.01)
            assert [call.source for call in mock_mcp.calls] == ["hand"] * 8
            assert mock_mcp.calls[0].data == {"id": 1, "name": "Ada"}
    """)
    result = tests.run()
    assert result.outcomes() == {"passed": 1}, result.text
    assert not tests.recordings()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ('add("GET", "/users/1")', "add_response('GET', '/users/1') was never asked for"),
        (
            'add("GET", "/users/1", sequence=[{"id": 1, "name": "a"}] * 3); user()',
            "was asked for 1 of 3 times",
        ),
        ('add("GET", "/users/1", {"id": 1}); user()', "breaks the API's contract"),
        ('add("GET", "/users/1", {"id": 1}); user()', 'contract="off" in add_response'),
        ('httpx.get("https://api.test/nowhere")', 'contract="off" (in the marker'),
        ('add("GET", "/users/1", error="boom")', "error must be one of refused"),
        ('add("GET", "/users/1", sequence=[])', "sequence is empty"),
        ('add("GET", "/users/1", object(), contract="off"); user()', "cannot be written as JSON"),
    ],
)
def test_answers_by_hand_that_are_wrong(tests: PluginProject, code: str, message: str) -> None:
    tests.write(f"""
        def test_one(mock_mcp):
            add = mock_mcp.add_response
            {code}
    """)
    result = tests.run()
    assert result.outcomes() == {"failed": 1}, result.text
    assert message in result.text


def test_a_callback_may_make_calls_itself(tests: PluginProject) -> None:
    tests.write("""
        def test_one(mock_mcp):
            mock_mcp.add_response("GET", "/users/1", lambda call: {"id": 1, "name": user(2)})
            mock_mcp.add_response("GET", "/users/2", {"id": 2, "name": "inner"})
            assert user(1) == "inner"
    """)
    assert tests.run().outcomes() == {"passed": 1}


# -- Matching, hooks and hosts ----------------------------------------------------------------


def test_volatile_fields_are_ignored_and_hooks_change_what_is_recorded(
    tests: PluginProject,
) -> None:
    tests.settings("ignore = ['query:trace']")
    tests.write("""
        import os, msgspec

        def shorten(interaction):
            answer = msgspec.structs.replace(interaction.response, body={"id": 1, "name": "short"})
            return msgspec.structs.replace(interaction, response=answer)

        def path_only(request):
            return msgspec.structs.replace(request, url=request.url.partition("&")[0])

        def fetch():
            noise = os.urandom(4).hex()
            url = f"https://api.test/users/1?trace={noise}&more={noise}"
            return httpx.get(url).json()["name"]

        @pytest.mark.mock_mcp(before_record=shorten, before_match=path_only, contract="warn")
        @pytest.mark.filterwarnings("ignore")
        def test_one():
            fetch()

        @pytest.mark.mock_mcp(before_record=lambda interaction: None)
        def test_two():
            user()

        @pytest.mark.mock_mcp(match=["method", "path"])
        def test_three():
            assert user(1)
    """)
    recorded = tests.run(*EXAMPLE)
    assert recorded.outcomes() == {"passed": 3}, recorded.text
    assert tests.bodies() == [{"id": 1, "name": "short"}]
    assert "__mocks__/test_app/test_two.json" not in tests.recordings()
    replayed = tests.run()
    assert replayed.outcomes() == {"passed": 2, "failed": 1}, replayed.text


def test_hosts_and_passthrough(tests: PluginProject) -> None:
    tests.write("""
        import http.server, threading

        @pytest.fixture
        def server():
            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(b'{"id": 0, "name": "real"}')
                def log_message(self, *args):
                    pass
            server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            yield server.server_port
            server.shutdown()
            thread.join()
            server.server_close()

        @pytest.mark.mock_mcp
        def test_loopback_is_real(server):
            assert httpx.get(f"http://127.0.0.1:{server}/users/1").json()["name"] == "real"

        def test_loopback_can_be_mocked(server, mock_mcp):
            assert mock_mcp.decide
        @pytest.mark.mock_mcp(hosts=["127.0.0.1"], contract="off")
        def test_mocked(server, mock_mcp):
            mock_mcp.add_response("GET", "/users/1", {"name": "mocked"})
            assert httpx.get(f"http://127.0.0.1:{server}/users/1").json()["name"] == "mocked"

        @pytest.mark.mock_mcp(hosts=["127.0.0.1"], passthrough=["127.0.0.1"])
        def test_passed(server):
            assert httpx.get(f"http://127.0.0.1:{server}/users/1").json()["name"] == "real"
    """)
    result = tests.run()
    assert result.outcomes() == {"passed": 4}, result.text
    assert not tests.recordings()


def test_block_network_holds_for_every_test(tests: PluginProject) -> None:
    tests.write("""
        import socket
        def test_one():
            with pytest.raises(Exception) as caught:
                socket.create_connection(("elsewhere.test", 443))
            assert type(caught.value).__name__ == "NetworkBlocked"
        def test_loopback():
            with socket.create_server(("127.0.0.1", 0)) as server:
                socket.create_connection(server.getsockname()).close()
        def test_http():
            user()
    """)
    result = tests.run("--block-network")
    assert result.outcomes() == {"passed": 2, "failed": 1}, result.text
    assert "NetworkBlocked" in result.text


@pytest.mark.parametrize("loaded", ["before", "after"])
def test_block_network_is_left_to_another_plugin_that_has_it(
    tests: PluginProject, monkeypatch: pytest.MonkeyPatch, loaded: str
) -> None:
    """Such as pytest-recording, whose tests replay below what is intercepted here."""
    monkeypatch.syspath_prepend(tests.path)
    (tests.path / "other_plugin.py").write_text(
        "def pytest_addoption(parser):\n"
        "    parser.getgroup('o').addoption('--block-network', action='store_true')\n"
    )
    tests.write("""
        import contextlib, socket
        def test_one(request):
            assert request.config.getoption("block_network")
            with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.connect(("192.0.2.1", 53))  # sends nothing
    """)
    load = "-p other_plugin"
    options = load.split() if loaded == "after" else ()
    before = load if loaded == "before" else ""
    result = tests.run(*options, "--block-network", PYTEST_ADDOPTS=before)
    assert result.outcomes() == {"passed": 1}, result.text


def test_the_projects_passthrough_holds_under_block_network_too(tests: PluginProject) -> None:
    tests.settings('passthrough = ["192.0.2.1"]')
    tests.write("""
        import socket
        @pytest.mark.parametrize("host", ["192.0.2.1", "192.0.2.2"])
        def test_datagram(host):
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.connect((host, 53))
    """)
    result = tests.run("--block-network")
    assert result.outcomes() == {"passed": 1, "failed": 1}, result.text
    told = (
        "192.0.2.2:53 was refused: --block-network holds in every test, and this one is not mocked"
    )
    assert told in result.text


# -- Unused recordings ------------------------------------------------------------------------

TWO = """
    @pytest.mark.mock_mcp
    def test_one():
        assert user(1)
        assert user(2)

    @pytest.mark.mock_mcp
    def test_two():
        assert user(3)
"""


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["plain", "xdist"])
def test_what_nobody_uses_is_reported_and_pruned(
    tests: PluginProject, workers: tuple[str, ...]
) -> None:
    tests.write(TWO)
    tests.record()
    written = tests.recordings()
    tests.write(TWO.replace("        assert user(2)\n", "").replace("test_two", "test_three"))
    run = tests.spawn if workers else tests.run

    result = run(*workers)
    assert result.outcomes() == {"passed": 1, "failed": 1}, result.text
    assert "2 replayed, 1 unused" in result.text or "1 replayed, 1 unused" in result.text
    assert "__mocks__/test_app/test_one.json: 1 recorded call was not made" in result.text
    assert "test_two.json: no test or fixture scope has this name" in result.text
    assert tests.recordings() == written

    one = tests.run("test_app.py::test_one", "--mock-prune")
    assert one.outcomes() == {"passed": 1}
    assert "__mocks__/test_app/test_two.json" in tests.recordings()

    result = run(*workers, "--mock-prune")
    assert "removed __mocks__/test_app/test_two.json" in result.text
    assert set(tests.recordings()) == {"__mocks__/test_app/test_one.json"}
    assert len(tests.bodies()) == 1
    assert "unused" not in tests.run().text


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["plain", "xdist"])
@pytest.mark.parametrize("skip", ["@pytest.mark.skip", "@pytest.mark.xfail(run=False)"])
def test_the_recording_of_a_fixture_is_kept_while_its_tests_are_skipped(
    tests: PluginProject, workers: tuple[str, ...], skip: str
) -> None:
    shared = """
        @pytest.fixture(scope="module")
        def shared():
            return user(1)

        @pytest.mark.mock_mcp
        def test_one(shared):
            assert shared

        @pytest.mark.mock_mcp
        def test_two():
            assert user(2)
    """
    tests.write(shared)
    tests.record()
    written = tests.recordings()
    assert "__mocks__/test_app/_module.shared.json" in written
    used = "        @pytest.mark.mock_mcp\n        def test_one"
    tests.write(shared.replace(used, f"        {skip}\n{used}"))
    run = tests.spawn if workers else tests.run

    result = run(*workers, "--mock-prune")
    assert result.outcomes()["passed"] == 1
    assert "removed" not in result.text
    assert "no test or fixture" not in run(*workers).text
    assert tests.recordings() == written

    tests.write(shared.replace("test_one(shared)", "test_one()").replace("assert shared", "pass"))
    result = run(*workers, "--mock-prune")
    assert "removed __mocks__/test_app/_module.shared.json" in result.text


@pytest.mark.parametrize(
    "part", [("api/test_one.py",), ("api/test_one.py", "sub"), ("--ignore=api/test_two.py",)]
)
def test_the_recording_of_a_session_fixture_is_kept_by_a_run_of_other_modules(
    tests: PluginProject, part: tuple[str, ...]
) -> None:
    fixture = """
        @pytest.fixture(scope="session")
        def {0}():
            return user()
    """
    test = """
        @pytest.mark.mock_mcp
        def test_it({0}):
            assert {0}
    """
    tests.write(fixture.format("one") + fixture.format("two"), "api/conftest.py")
    tests.write(test.format("one"), "api/test_one.py")
    tests.write(test.format("two"), "api/test_two.py")
    (tests.path / "sub").mkdir()
    tests.record("--import-mode=importlib")
    written = tests.recordings()
    assert set(written) == {f"api/__mocks__/_session.{name}.json" for name in ("one", "two")}

    result = tests.run(*part, "--mock-prune")
    assert result.outcomes() == {"passed": 1}
    assert "removed" not in result.text
    assert "no test or fixture" not in tests.run(*part).text
    assert tests.recordings() == written

    tests.write(test.format("one"), "api/test_two.py")
    for whole in ((), ("api",), (".",)):
        assert "api/__mocks__/_session.two.json: no test or fixture" in tests.run(*whole).text
    tests.run("--mock-prune", "api")
    assert set(tests.recordings()) == {"api/__mocks__/_session.one.json"}


def test_recordings_of_intercept_in_a_test_module_are_nobodys_orphans(
    tests: PluginProject,
) -> None:
    tests.write("""
        import mock_mcp

        def test_one():
            with mock_mcp.intercept("checkout", mode="once", source="example"):
                assert user()

        @pytest.mark.mock_mcp
        def test_two():
            pass
    """)
    assert tests.run("--mock-prune").outcomes() == {"passed": 2}
    assert "no test" not in tests.run("--mock-prune").text
    assert set(tests.recordings()) == {"__mocks__/test_app/checkout.json"}


# -- Recordings that cannot be used -----------------------------------------------------------

UNREADABLE = {
    "empty": "",
    "conflict": '{\n<<<<<<< HEAD\n  "version": 1\n=======\n  "version": 1,\n>>>>>>> x\n}',
    "newer": '{"version": 9, "test": "test_app.py::test_one", "interactions": []}',
    "not an object": "[]",
    "binary": "\x00\x01",
}


@pytest.mark.parametrize("mode", ["none", "once", "new_episodes"])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_unreadable_recording_is_named_and_kept(
    tests: PluginProject, kind: str, mode: str
) -> None:
    tests.write(ONE)
    tests.record()
    file = tests.path / "__mocks__/test_app/test_one.json"
    file.write_text(UNREADABLE[kind])
    result = tests.run(*EXAMPLE, f"--mock-mode={mode}", "--mock-prune")
    assert result.outcomes() == {"failed": 1}, result.text
    assert str(file) in result.text
    assert "RecordingError" in result.text
    assert file.read_text() == UNREADABLE[kind]
    assert tests.run(*EXAMPLE, "--mock-mode=rewrite").outcomes() == {"passed": 1}


def test_a_recording_that_cannot_be_written_fails_the_test_by_name(tests: PluginProject) -> None:
    tests.write(ONE)
    (tests.path / "__mocks__").write_text("a file is in the way")
    result = tests.run(*EXAMPLE)
    assert result.outcomes() == {"passed": 1, "errors": 1}, result.text
    assert "__mocks__/test_app/test_one.json: The recording cannot be written" in result.text
    assert not frames(result.text)


def test_a_read_only_directory_leaves_the_old_recording(tests: PluginProject) -> None:
    tests.write(ONE)
    tests.record()
    before = tests.recordings()
    tests.write(ONE.replace("user()", "user(2)"))
    directory = tests.path / "__mocks__/test_app"
    directory.chmod(0o500)
    try:
        result = tests.spawn(*EXAMPLE, "--mock-mode=rewrite", before=unprivileged())
    finally:
        directory.chmod(0o700)
    assert result.outcomes() == {"passed": 1, "errors": 1}, result.text
    assert "__mocks__/test_app/test_one.json: The recording cannot be written" in result.text
    assert tests.recordings() == before


# -- Settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("colour = 1", "has the unknown key 'colour'; known are contract, hosts"),
        ("mode = 'sometimes'", "mode must be one of none, once, new_episodes, all, rewrite"),
        ("source = 'nowhere'", "source must be one of ai, example, live"),
        ("timeout = 0", "timeout must be a positive number of seconds, not 0"),
        ("hosts = [3]", "hosts must be text, or a list of it, not [3]"),
    ],
)
def test_a_wrong_setting_of_the_project_ends_the_run_with_one_line(
    tests: PluginProject, settings: str, message: str
) -> None:
    tests.write(ONE)
    tests.settings(settings)
    result = tests.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR, result.text
    assert f"ERROR: {tests.path / 'pyproject.toml'}: [tool.mock-mcp] " in result.text
    assert message in result.text
    assert "Traceback" not in result.text


def test_a_wrong_setting_ends_a_run_of_xdist_with_one_line(tests: PluginProject) -> None:
    tests.write(ONE)
    tests.settings("colour = 1")
    result = tests.spawn("-n1", MOCK_MCP="1")
    assert result.ret != 0
    assert "has the unknown key 'colour'" in result.text
    assert "Traceback" not in result.text


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("colour=1", "The marker mock_mcp has no 'colour'; known are mode"),
        ("'x'", "The marker mock_mcp takes keywords"),
        ("mode='sometimes'", "mode must be one of"),
        ("instructions=3", "instructions must be text"),
        ("openapi='nowhere.json'", "nowhere.json is not there"),
        ("contract='maybe'", "contract must be one of enforce, warn, off"),
        ("match='colour'", "'colour' is nothing to match by"),
        ("ignore='colour:x'", "names no field"),
        ("hosts='https://x'", "is not a host"),
        ("before_record=3", "before_record must be a function"),
        ("timeout='soon'", "timeout must be a positive number"),
    ],
)
def test_a_wrong_marker_is_one_message(tests: PluginProject, marker: str, message: str) -> None:
    tests.write(f"""
        @pytest.mark.mock_mcp({marker})
        def test_one():
            pass
    """)
    result = tests.run()
    assert result.outcomes() == {"errors": 1}, result.text
    assert message in result.text
    assert not frames(result.text)
    assert len(result.text.splitlines()) < 20


@pytest.mark.parametrize(
    "option", ["--mock-mode=x", "--mock-source=x", "--mock-timeout=0", "--mock-timeout=nan"]
)
def test_a_wrong_option_is_a_usage_error(tests: PluginProject, option: str) -> None:
    tests.write("def test_one(): pass")
    result = tests.run(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert option.partition("=")[0] in result.text


# -- Assistants that do not come, daemons that die, Ctrl-C ------------------------------------


def test_an_assistant_that_never_comes(tests: PluginProject, assistant: ScriptedAssistant) -> None:
    assistant.leave()
    tests.write(ONE)
    result = tests.run("--mock-timeout=0.2", MOCK_MCP="1")
    assert result.outcomes() == {"failed": 1}
    assert "Nobody answered GET https://api.test/users/1 within 0.2 s" in result.text
    assert "`mock-mcp answer` answers by hand" in result.text
    assert not tests.recordings()
    assert (assistant.status()["pending"], assistant.status()["runs"]) == (0, 0)


def test_a_daemon_killed_while_a_test_waits_is_started_again(
    tests: PluginProject, cache_dir: Path
) -> None:
    def found() -> DaemonInfo | None:
        return find_daemon(Project.resolve(tests.path), CacheDirectory(cache_dir))

    async def claim(daemon: DaemonInfo, answer: Any) -> None:
        async with DaemonClient.of(daemon) as client:
            assert (await client.wait_for_batch(HANG_S * 1000)).pending
            batch = await client.claim_next_batch("scripted")
            assert batch is not None
            if answer is not None:
                mock = Mock(batch.requests[0]["requestId"], answer)
                await client.provide_batch("scripted", batch.batch_id, batch.claim_token, [mock])

    tests.write(ONE)
    with tests.start(MOCK_MCP="1") as process:
        first = eventually(found)
        asyncio.run(claim(first, None))
        os.kill(first.pid, signal.SIGKILL)
        second = eventually(lambda: (now := found()) and now.pid != first.pid and now)
        asyncio.run(claim(second, {"id": 1, "name": "again"}))
        out, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, out
    assert tests.bodies() == [{"id": 1, "name": "again"}]


WAITING = {
    "sync": ONE,
    "asyncio": """
    @pytest.mark.asyncio
    @pytest.mark.mock_mcp
    async def test_one():
        async with httpx.AsyncClient() as client:
            await client.get("https://api.test/users/1")
    """,
    "fixture": """
    @pytest.fixture(scope="session")
    def account():
        return user()

    @pytest.mark.mock_mcp
    def test_one(account):
        pass
    """,
}


@pytest.mark.parametrize("how", WAITING)
def test_ctrl_c_while_waiting_cancels_at_the_daemon_and_ends_pytest(
    tests: PluginProject, assistant: ScriptedAssistant, how: str
) -> None:
    assistant.leave()
    tests.write(WAITING[how])
    with tests.start(MOCK_MCP="1") as process:
        eventually(lambda: assistant.status()["pending"] == 1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, out
    assert "KeyboardInterrupt" in out
    assert (assistant.status()["pending"], assistant.status()["runs"]) == (0, 0)
    assert not tests.recordings()


# -- The unused plugin ------------------------------------------------------------------------


def test_a_broken_session_fixture_is_explained_once(tests: PluginProject) -> None:
    tests.write("""
        @pytest.fixture(scope="session")
        def shared():
            return user()

        @pytest.mark.mock_mcp
        @pytest.mark.parametrize("n", range(3))
        def test_one(shared, n):
            pass
    """)
    result = tests.run()
    assert result.outcomes() == {"errors": 3}
    assert result.text.count("To obtain the answer: ") == 1
    assert result.text.count("test_app.py::test_one[0] failed with this before") == 2
    whole = tests.run("--full-trace")
    assert whole.text.count("To obtain the answer: ") == 3


def test_the_unused_plugin_imports_next_to_nothing(tests: PluginProject) -> None:
    tests.write("""
        import sys
        def test_one():
            ours = {name for name in sys.modules if name.partition(".")[0] == "mock_mcp"}
            assert ours == {"mock_mcp", "mock_mcp._version", "mock_mcp.pytest_plugin"}
    """)
    path = tests.path / "test_app.py"
    path.write_text(path.read_text().replace("import httpx, pytest", ""))
    result = tests.spawn("-q")
    assert result.outcomes() == {"passed": 1}, result.text
    assert "mock-mcp" not in result.text
