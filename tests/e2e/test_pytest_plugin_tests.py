"""Every kind of test: what is recorded of it, and what becomes of a test that does not pass."""

# ruff: noqa: F401, F811 - fixtures are imported

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from support.plugin import PluginProject, ScriptedAssistant, assistant, tests

pytest_plugins = ["pytester"]

EXAMPLE = ("--mock-source=example",)


# -- Kinds of tests ---------------------------------------------------------------------------

KINDS = {
    "async": (
        """
        @pytest.mark.asyncio
        @pytest.mark.mock_mcp
        async def test_asyncio():
            async with httpx.AsyncClient() as client:
                assert (await client.get("https://api.test/users/1")).json()["id"] is not None

        @pytest.mark.asyncio
        async def test_fixture(mock_mcp):
            mock = await mock_mcp.request_mock_async("https://api.test/users/1")
            assert mock.data["id"] is not None

        @pytest.mark.anyio
        @pytest.mark.mock_mcp
        @pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
        async def test_anyio(anyio_backend):
            async with httpx.AsyncClient() as client:
                assert (await client.get("https://api.test/users/1")).json()["id"] is not None
        """,
        {"test_asyncio", "test_fixture", "test_anyio-asyncio", "test_anyio-trio"},
    ),
    "unittest": (
        """
        import unittest

        @pytest.mark.mock_mcp
        class TestCase(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                cls.name = user(1)
            def setUp(self):
                assert user(2)
            def test_it(self):
                assert self.name
                assert user(3)
        """,
        {"TestCase.test_it", "_class.TestCase.setup_class"},
    ),
    "setup functions": (
        """
        pytestmark = pytest.mark.mock_mcp

        def setup_module():
            assert user(1)

        class TestIt:
            @classmethod
            def setup_class(cls):
                assert user(2)
            def test_it(self):
                assert user(3)
        """,
        {"TestIt.test_it", "_class.TestIt.setup_class", "_module.setup_module"},
    ),
    "classes": (
        """
        @pytest.mark.mock_mcp
        class TestOuter:
            def test_it(self):
                assert user(1)
            class TestInner:
                def test_it(self):
                    assert user(2)
        """,
        {"TestOuter.test_it", "TestOuter.TestInner.test_it"},
    ),
    "parameters": (
        """
        @pytest.mark.mock_mcp
        @pytest.mark.parametrize("n", [1, 2, 2.5, "a/b::c"])
        def test_it(n):
            assert user(n if isinstance(n, int) else 3)
        """,
        {"test_it-1", "test_it-2", "test_it-2.5~", "test_it-a-b-c~"},
    ),
    "fixture by name": (
        """
        def test_it(request):
            request.getfixturevalue("mock_mcp")
            assert user()
        """,
        {"test_it"},
    ),
    "threads": (
        """
        from concurrent.futures import ThreadPoolExecutor

        @pytest.mark.mock_mcp
        def test_it():
            with ThreadPoolExecutor(4) as pool:
                assert all(pool.map(user, range(1, 9)))
        """,
        {"test_it"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_test_is_recorded_and_replayed(tests: PluginProject, kind: str) -> None:
    code, names = KINDS[kind]
    tests.write(code)
    recorded = tests.run(*EXAMPLE)
    assert set(recorded.outcomes()) == {"passed"}, recorded.text
    written = tests.recordings()
    stems = {path.rpartition("/")[2].removesuffix(".json") for path in written}
    for name in names:
        assert [stem for stem in stems if stem.startswith(name)], (name, stems)
    replayed = tests.run()
    assert replayed.outcomes() == recorded.outcomes(), replayed.text
    assert "unused" not in replayed.text
    assert tests.recordings() == written
    # Nothing changes when everything is obtained again.
    assert tests.run(*EXAMPLE, "--mock-mode=all").outcomes() == recorded.outcomes()
    assert tests.recordings() == written


def test_a_group_of_xdist_does_not_move_a_recording(tests: PluginProject) -> None:
    tests.write("""
        @pytest.mark.mock_mcp
        @pytest.mark.xdist_group("a group")
        def test_one():
            assert user()
    """)
    tests.record()
    assert set(tests.recordings()) == {"__mocks__/test_app/test_one.json"}
    result = tests.spawn("-n2", "--dist=loadgroup", "-p", "no:cacheprovider")
    assert result.outcomes() == {"passed": 1}, result.text


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_an_assistant_is_asked_on_every_loop(
    tests: PluginProject, assistant: ScriptedAssistant, loop: str
) -> None:
    tests.write(f"""
        import anyio

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["{loop}"])
        async def test_one(mock_mcp, anyio_backend):
            names = []
            async with httpx.AsyncClient() as client, anyio.create_task_group() as group:
                async def ask(n):
                    answer = await client.get(f"https://api.test/users/{{n}}")
                    names.append(answer.json()["name"])
                for n in range(3):
                    group.start_soon(ask, n)
            names.append((await mock_mcp.request_mock_async("https://api.test/users/3")).data["name"])
            await mock_mcp.wait_for_pending_requests_async()
            assert len(set(names)) == 4
    """)
    asked = tests.run(MOCK_MCP="1")
    assert asked.outcomes() == {"passed": 1}, asked.text
    assert len(assistant.asked) == 4
    replayed = tests.run()
    assert replayed.outcomes() == {"passed": 1}, replayed.text
    assert "4 replayed" in replayed.text


# -- Tests that do not pass -------------------------------------------------------------------

NOT_PASSING = {
    "assertion": ("assert not user(2)", {"failed": 1}),
    "skip": ("user(2); pytest.skip()", {"skipped": 1}),
    "xfail": ("user(2); pytest.xfail()", {"xfailed": 1}),
    "exit of a library": ("user(2); raise SystemExit(1)", {"failed": 1}),
    "tear-down": ("user(2); bad.append(1)", {"passed": 1, "errors": 1}),
    "set-up": ("pass", {"errors": 1}),
    "subtests": (
        "user(2)\n            with subtests.test(): assert 0",
        {"failed": 2},
    ),
}


@pytest.mark.parametrize("how", NOT_PASSING)
def test_a_test_that_does_not_pass_leaves_the_recording_as_it_was(
    tests: PluginProject, how: str
) -> None:
    def code(body: str, setup: str = "pass") -> str:
        return f"""
        @pytest.fixture
        def bad():
            {setup}
            found = []
            yield found
            assert not found

        @pytest.mark.mock_mcp
        def test_one(bad, subtests):
            {body}
        """

    tests.write(code("user(1)"))
    tests.record()
    before = tests.recordings()
    body, outcomes = NOT_PASSING[how]
    tests.write(code(body, "user(3); assert 0" if how == "set-up" else "pass"))
    for mode in ("new_episodes", "all", "rewrite"):
        result = tests.run(*EXAMPLE, f"--mock-mode={mode}", "--mock-prune")
        assert result.outcomes() == outcomes, result.text
        assert tests.recordings() == before
        told = "test_one.json: not written, 1 answer dropped" in result.text
        assert told is (how in ("skip", "xfail")), result.text


@pytest.mark.parametrize("how", ["test", "setUp", "tearDown"])
def test_a_unittest_that_fails_leaves_the_recording_as_it_was(
    tests: PluginProject, how: str
) -> None:
    def code(how: str) -> str:
        return f"""
        import unittest

        @pytest.mark.mock_mcp
        class TestCase(unittest.TestCase):
            def setUp(self):
                self.assertNotEqual({how!r}, "setUp")
            def tearDown(self):
                self.assertNotEqual({how!r}, "tearDown")
            def test_one(self):
                user({1 if not how else 2})
                self.assertNotEqual({how!r}, "test")
        """

    tests.write(code(""))
    tests.record()
    before = tests.recordings()
    tests.write(code(how))
    result = tests.run(*EXAMPLE, "--mock-mode=rewrite")
    assert result.outcomes() == {"failed": 1}, result.text
    assert tests.recordings() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork of POSIX")
def test_a_forked_child_replays_and_obtains_nothing(tests: PluginProject) -> None:
    code = """
        import os

        @pytest.mark.mock_mcp
        def test_one():
            if {here} or not os.fork():
                try:
                    user()
                except Exception as error:
                    os._exit(7 if type(error).__name__ == "ForkedClient" else 1)
                if not {here}:
                    os._exit(0)
            else:
                assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    """
    tests.write(code.format(here=False))
    refused = tests.run(*EXAMPLE)
    assert refused.outcomes() == {"failed": 1}, refused.text
    assert "assert 7 == 0" in refused.text
    assert "in a forked child: GET https://api.test/users/1 comes from" in refused.text
    tests.write(code.format(here=True))
    tests.record()
    tests.write(code.format(here=False))
    assert tests.run().outcomes() == {"passed": 1}


def test_an_expected_failure_that_passes_is_recorded(tests: PluginProject) -> None:
    tests.write("""
        @pytest.mark.xfail
        @pytest.mark.mock_mcp
        def test_one():
            assert user()
    """)
    assert tests.run(*EXAMPLE).outcomes() == {"xpassed": 1}
    assert len(tests.recordings()) == 1


def test_a_rerun_starts_from_the_beginning(tests: PluginProject) -> None:
    # What pytest-rerunfailures does: the same item again, after its tear-down.
    (tests.path / "conftest.py").write_text("""
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    for _ in range(2):
        reports = runtestprotocol(item, nextitem=item, log=False)
        if all(report.passed for report in reports):
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True
""")
    tests.write("""
        attempts = []

        @pytest.mark.mock_mcp
        def test_one():
            attempts.append(user(1 + len(attempts)))
            assert len(attempts) == 2
    """)
    assert tests.run(*EXAMPLE).outcomes() == {"passed": 1}
    urls = [item["request"]["url"] for item in tests.recording()["interactions"]]
    assert urls == ["https://api.test/users/2"]


def test_repetitions_of_a_test_share_its_recording(tests: PluginProject) -> None:
    tests.write("""
        @pytest.mark.mock_mcp
        def test_one():
            assert user()

        @pytest.mark.mock_mcp
        @pytest.mark.parametrize("number", [1, 2])
        def test_two(number):
            assert user(number)
    """)
    tests.record()
    once = tests.recordings()
    tests.write(
        """
        @pytest.fixture
        def __pytest_repeat_step_number(request):
            return request.param

        @pytest.hookimpl(trylast=True)
        def pytest_generate_tests(metafunc):  # as pytest-repeat does for --count 3
            name = "__pytest_repeat_step_number"
            metafunc.fixturenames.append(name)
            metafunc.parametrize(name, range(3), indirect=True, ids=lambda i: f"{i + 1}-3")
        """,
        "conftest.py",
    )
    replayed = tests.run("--mock-prune")
    assert replayed.outcomes() == {"passed": 9}, replayed.text
    assert "9 replayed" in replayed.text
    assert tests.recordings() == once
    recorded = tests.run("--mock-source=example", "--mock-mode=rewrite")
    assert recorded.outcomes() == {"passed": 9}, recorded.text
    assert tests.recordings() == once


def test_last_failed_reports_no_recording_as_unused(tests: PluginProject) -> None:
    tests.write("""
        @pytest.mark.mock_mcp
        def test_one():
            assert user(1)

        @pytest.mark.mock_mcp
        def test_two():
            assert user(2)
    """)
    tests.record()
    (tests.path / "__mocks__/test_app/test_two.json").unlink()
    assert tests.spawn().outcomes() == {"passed": 1, "failed": 1}
    result = tests.spawn("--lf", "--mock-prune", "--mock-source=example")
    assert result.outcomes() == {"passed": 1}
    assert set(tests.recordings()) == {
        "__mocks__/test_app/test_one.json",
        "__mocks__/test_app/test_two.json",
    }


def test_a_hook_of_the_project_may_mark_tests(tests: PluginProject) -> None:
    tests.write(
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.mock_mcp)
        """,
        "conftest.py",
    )
    tests.write("""
        @pytest.fixture(scope="module")
        def token():
            return user(1)

        def test_one(token):
            assert user(2)

        def test_two():
            assert user(3)
    """)
    recorded = tests.run(*EXAMPLE, "-n2", CI="")
    assert recorded.outcomes() == {"passed": 2}, recorded.text
    assert len(tests.recordings()) == 3
    replayed = tests.run("--mock-prune", "-ktwo")
    assert replayed.outcomes() == {"passed": 1, "deselected": 1}
    assert len(tests.recordings()) == 3


def test_a_marker_that_comes_too_late_fails_the_test(tests: PluginProject) -> None:
    tests.write("""
        @pytest.fixture(autouse=True)
        def mocked(request):
            request.node.add_marker(pytest.mark.mock_mcp)

        def test_one():
            assert user(1)
    """)
    result = tests.run(*EXAMPLE)
    assert result.outcomes() == {"failed": 1}
    assert "ask for the fixture mock_mcp" in result.text
    tests.write("""
        @pytest.fixture(autouse=True)
        def mocked(request, mock_mcp):
            request.node.add_marker(pytest.mark.mock_mcp(hosts=["other.test"]))

        def test_one():
            assert user(1)
    """)
    result = tests.run(*EXAMPLE)
    assert result.outcomes() == {"passed": 1}, result.text


def test_nothing_is_pruned_where_tests_ask_by_name(tests: PluginProject) -> None:
    tests.write("""
        @pytest.fixture(scope="module")
        def token():
            return user(1)

        @pytest.mark.parametrize("n", [2, 3])
        def test_one(request, n):
            request.getfixturevalue("mock_mcp")
            request.getfixturevalue("token")
            assert user(n)
    """)
    tests.record()
    recorded = tests.recordings()
    assert len(recorded) == 3
    result = tests.run("--mock-prune", "-k2")
    assert result.outcomes() == {"passed": 1, "deselected": 1}
    assert tests.recordings() == recorded


# -- Fixtures that several tests share --------------------------------------------------------

SHARED = """
    @pytest.fixture(scope="session")
    def token():
        return user(1)

    @pytest.fixture(scope="module", params=["a", "b"])
    def account(request, token):
        yield user(2 if request.param == "a" else 3)
        assert user(4)

    @pytest.fixture(scope="class")
    def cart(account):
        return user(5)

    @pytest.mark.mock_mcp
    class TestCart:
        def test_one(self, cart):
            assert user(6)
        def test_two(self, cart):
            assert user(7)

    @pytest.mark.mock_mcp
    def test_plain(token):
        assert user(8)

    @pytest.mark.mock_mcp
    def test_by_name(request):
        assert request.getfixturevalue("token")

    def test_unmocked(token):
        assert token
"""
SHARED_FILES = {
    "__mocks__/_session.token.json",
    "__mocks__/test_app/_module.account-a.json",
    "__mocks__/test_app/_module.account-b.json",
    "__mocks__/test_app/_class.TestCart.cart.json",
}


def test_shared_fixtures_replay_whichever_tests_run(tests: PluginProject) -> None:
    tests.write(SHARED)
    result = tests.run(*EXAMPLE)
    assert result.outcomes() == {"passed": 7}, result.text
    written = tests.recordings()
    assert set(written) >= SHARED_FILES
    for selection in ("one", "two and b", "plain", "by_name", "unmocked or plain", ""):
        result = tests.run("-k", selection)
        assert set(result.outcomes()) <= {"passed", "deselected"}, result.text
        assert "unused" not in result.text
        assert "--mock-prune" not in result.text
    reverse = tests.run("test_app.py::test_plain", "test_app.py::TestCart::test_two[a]")
    assert reverse.outcomes() == {"passed": 2}
    assert tests.run(*EXAMPLE, "--mock-mode=all").outcomes() == {"passed": 7}
    assert tests.recordings() == written


def test_shared_fixtures_are_recorded_and_replayed_by_workers(tests: PluginProject) -> None:
    tests.write(SHARED)
    tests.write(SHARED, "sub/test_other.py")
    result = tests.spawn("-n2", *EXAMPLE)
    assert result.outcomes() == {"passed": 14}, result.text
    written = tests.recordings()
    assert set(written) >= SHARED_FILES | {
        "sub/__mocks__/_session.token.json",
        "sub/__mocks__/test_other/_module.account-a.json",
    }
    result = tests.spawn("-n2", "--dist=worksteal", "--mock-prune")
    assert result.outcomes() == {"passed": 14}, result.text
    assert tests.run().outcomes() == {"passed": 14}
    assert tests.recordings() == written


def test_a_run_over_two_projects_finds_the_recordings_of_both(tests: PluginProject) -> None:
    """Pytest takes the root of the first: the tests of the second lie outside it."""
    pyproject = tests.path / "pyproject.toml"
    for project in ("billing", "shop"):
        tests.write(
            """
            @pytest.fixture(scope="session")
            def token():
                return user(1)

            @pytest.mark.mock_mcp
            def test_one(token):
                assert user(2)
            """,
            f"{project}/tests/test_{project}.py",
        )
        for file in (pyproject, tests.path / "openapi.json"):
            (tests.path / project / file.name).write_bytes(file.read_bytes())
        assert tests.run(*EXAMPLE, project).outcomes() == {"passed": 1}
    pyproject.unlink()
    written = tests.recordings()
    assert {name for name in written if "_session" in name} == {
        "billing/tests/__mocks__/_session.token.json",
        "shop/tests/__mocks__/_session.token.json",
    }
    for projects in (("billing", "shop"), ("shop", "billing")):
        result = tests.run(*projects)
        assert result.outcomes() == {"passed": 2}, result.text
    (tests.path / "shop/tests/__mocks__/test_shop/test_one.json").unlink()
    result = tests.run("billing", "shop")
    assert "--mock-mode=new_episodes shop/tests/test_shop.py::test_one" in result.text


def test_a_shared_fixture_no_passing_test_used_is_not_recorded(tests: PluginProject) -> None:
    tests.write("""
        @pytest.fixture(scope="module")
        def account():
            return user(1)

        @pytest.mark.mock_mcp
        def test_one(account):
            assert not account
    """)
    assert tests.run(*EXAMPLE).outcomes() == {"failed": 1}
    assert not tests.recordings()


def test_a_shared_fixture_that_fails_is_not_recorded(tests: PluginProject) -> None:
    code = """
        @pytest.fixture(scope="module")
        def account():
            yield user(1)
            try:
                httpx.get("https://api.test/nowhere")
            except Exception:
                pass

        @pytest.mark.mock_mcp
        def test_one(account):
            assert account
    """
    tests.write(code)
    result = tests.run(*EXAMPLE)
    assert result.outcomes() == {"passed": 1, "errors": 1}
    assert "breaks the API's contract" in result.text
    assert not tests.recordings()


def test_the_settings_of_a_shared_fixture_are_those_of_its_module(tests: PluginProject) -> None:
    tests.write("""
        pytestmark = pytest.mark.mock_mcp(hosts=["api.test"])

        @pytest.fixture(scope="module")
        def account():
            return user(1)

        @pytest.mark.mock_mcp(hosts=["other.test"])
        def test_one(account):
            assert account
    """)
    assert tests.run(*EXAMPLE).outcomes() == {"passed": 1}
    assert list(tests.recordings()) == ["__mocks__/test_app/_module.account.json"]


def test_overriding_fixtures_of_one_name_share_their_recording(tests: PluginProject) -> None:
    (tests.path / "conftest.py").write_text(
        "import httpx, pytest\n@pytest.fixture(scope='module')\ndef account():\n"
        "    yield httpx.get('https://api.test/users/1').json()\n"
        "    httpx.get('https://api.test/users/2')\n"
    )
    tests.write("""
        @pytest.fixture(scope="module")
        def account(account):
            yield user(3)
            assert user(4)

        @pytest.mark.mock_mcp
        def test_one(account):
            assert account
    """)
    assert tests.run(*EXAMPLE).outcomes() == {"passed": 1}
    assert tests.run().outcomes() == {"passed": 1}
    requests = tests.recording("test_app/_module.account.json")["interactions"]
    assert [item["request"]["url"][-1] for item in requests] == ["1", "3", "4", "2"]


# -- xdist and an assistant -------------------------------------------------------------------


def test_workers_ask_one_assistant(tests: PluginProject, assistant: ScriptedAssistant) -> None:
    tests.write("""
        @pytest.mark.mock_mcp(instructions="A user with two invoices.")
        @pytest.mark.parametrize("n", range(1, 13))
        def test_one(n):
            "Shows the dashboard."
            assert user(n).startswith("asked")
    """)
    result = tests.spawn("-n2", MOCK_MCP="1")
    assert result.outcomes() == {"passed": 12}, result.text
    assert "12 from the assistant, 12 written" in result.text
    assert len(tests.recordings()) == 12
    assert len({request["endpoint"] for request in assistant.asked}) == 12
    metadata = assistant.asked[0]["metadata"]
    assert metadata["instructions"] == "A user with two invoices."
    assert metadata["test"]["doc"] == "Shows the dashboard."
    assert metadata["test"]["testName"].startswith("test_app.py::test_one[")
    assert tests.run().outcomes() == {"passed": 12}
    assert len(assistant.asked) == 12


@pytest.mark.parametrize("mode", ["once", "all"])
def test_workers_get_the_same_answers_for_a_shared_fixture(
    tests: PluginProject, assistant: ScriptedAssistant, mode: str
) -> None:
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        status = 201 if request["method"] == "POST" else 200
        return {"data": {"id": 100 + len(assistant.asked), "name": "Ada"}, "status": status}

    assistant.answer = answer
    tests.write("""
        def make():
            return httpx.post("https://api.test/users", json={"name": "Ada"}).json()["id"]

        @pytest.fixture(scope="session")
        def customers():
            yield [make(), make()]
            user(7)

        @pytest.mark.mock_mcp
        @pytest.mark.parametrize("n", range(8))
        def test_one(customers, n):
            assert user(customers[n % 2])
    """)
    result = tests.spawn("-n2", f"--mock-mode={mode}", MOCK_MCP="1")
    assert result.outcomes() == {"passed": 8}, result.text
    assert [request["method"] for request in assistant.asked].count("POST") == 2
    written = tests.recordings()
    assert len(written) == 9
    assert tests.run().outcomes() == {"passed": 8}


def test_a_shared_fixture_that_fails_in_one_worker_is_set_up_by_the_other(
    tests: PluginProject, assistant: ScriptedAssistant
) -> None:
    tests.write("""
        import os

        @pytest.fixture(scope="session")
        def customer():
            name = user(1)
            assert os.environ["PYTEST_XDIST_WORKER"] == "gw1"
            return name

        @pytest.mark.mock_mcp
        @pytest.mark.parametrize("n", range(8))
        def test_one(customer, n):
            assert user(2)
    """)
    outcomes = tests.spawn("-n2", MOCK_MCP="1").outcomes()
    assert outcomes.keys() == {"passed", "errors"}
    assert sum(outcomes.values()) == 8
    assert len(tests.recordings()) == 1 + outcomes["passed"]


def test_no_secret_reaches_the_assistant_or_the_recording(
    tests: PluginProject, assistant: ScriptedAssistant
) -> None:
    tests.write("""
        @pytest.mark.mock_mcp(contract="off", redact=["tenant", "x-acme"])
        def test_one():
            httpx.post(
                "https://api.test/login?api_key=hush-1&tenant=hush-4",
                headers={"authorization": "Bearer hush-2", "x-trace": "shown", "x-acme": "hush-5"},
                json={"password": "hush-3", "user": "ada", "of": {"tenant": "hush-6"}},
            )
    """)
    assert tests.run(MOCK_MCP="1").outcomes() == {"passed": 1}
    assert "hush" not in json.dumps(assistant.asked)
    assert "shown" in json.dumps(assistant.asked)
    assert "hush" not in json.dumps(tests.recording())
    path = tests.path / "test_app.py"
    path.write_text(path.read_text().replace("hush", "other"))  # new secrets, the same call
    assert tests.run().outcomes() == {"passed": 1}


def test_what_is_recorded_as_it_is_is_still_no_secret_for_the_assistant(
    tests: PluginProject, assistant: ScriptedAssistant
) -> None:
    tests.write("""
        @pytest.mark.mock_mcp(contract="off", redact=False)
        def test_one():
            httpx.post("https://api.test/login", json={"password": "hush"})
    """)
    assert tests.run(MOCK_MCP="1").outcomes() == {"passed": 1}
    assert "hush" not in json.dumps(assistant.asked)
    assert "hush" in json.dumps(tests.recording())


def test_a_test_that_is_not_mocked_finds_nothing_replaced(tests: PluginProject) -> None:
    tests.write("""
        import pathlib, socket

        def replaced():
            kept = (httpx.HTTPTransport.handle_request, socket.getaddrinfo)
            return ["mock_mcp" in pathlib.Path(one.__code__.co_filename).parts for one in kept]

        @pytest.fixture(autouse=True)
        def seen(request):
            yield
            assert replaced() == [request.node.get_closest_marker("mock_mcp") is not None] * 2

        @pytest.mark.mock_mcp
        def test_one():
            assert user(1)

        @pytest.mark.mock_mcp
        def test_two():
            assert user(2)

        def test_plain():
            assert replaced() == [False, False]

        @pytest.mark.mock_mcp
        def test_three():
            assert user(3)
    """)
    result = tests.run(*EXAMPLE)
    assert result.outcomes() == {"passed": 4}, result.text
