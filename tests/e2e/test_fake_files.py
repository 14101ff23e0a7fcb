"""Tests that run in pyfakefs's file system are recorded and replayed in the real one."""

# ruff: noqa: F401, F811 - fixtures are imported

from __future__ import annotations

from support.plugin import PluginProject, tests

pytest_plugins = ["pytester"]

FAKED = """
    import asyncio, os, urllib.request, json
    import mock_mcp

    HERE = os.path.dirname(__file__)

    def plain(n):
        with urllib.request.urlopen(f"https://api.test/users/{n}") as answer:
            return json.load(answer)["name"]

    @pytest.mark.mock_mcp
    def test_one(fs):
        with open("/data.txt", "w") as file:
            file.write(plain(1))
        assert not os.path.exists(HERE)
        assert os.path.exists("/data.txt")

    @pytest.mark.mock_mcp
    class TestClass:
        def test_first(self, fs_class):
            fs_class.create_file("/left.txt")
            assert user(2)

        def test_second(self, fs_class):
            assert os.path.exists("/left.txt")
            assert user(3)

    def test_block(fs):
        with mock_mcp.intercept("block", mode=%r, source="example"):
            assert plain(4)
"""
RECORDED = {
    f"__mocks__/test_app/{name}.json"
    for name in ("test_one", "TestClass.test_first", "TestClass.test_second", "block")
}


def test_they_are_recorded_and_replayed(tests: PluginProject) -> None:
    tests.write(FAKED % "once")
    recorded = tests.spawn("-p", "pyfakefs.pytest_plugin", "--mock-source=example")
    assert recorded.outcomes() == {"passed": 4}, recorded.text
    assert tests.recordings().keys() == RECORDED
    tests.write(FAKED % "none")
    replayed = tests.spawn("-p", "pyfakefs.pytest_plugin")
    assert replayed.outcomes() == {"passed": 4}, replayed.text
    assert "3 replayed" in replayed.text


def test_a_recording_that_is_not_there_is_missed_in_the_real_one(tests: PluginProject) -> None:
    tests.write(FAKED % "none")
    result = tests.spawn("-p", "pyfakefs.pytest_plugin")
    assert result.outcomes() == {"failed": 4}
    assert f"Recording: {tests.path}/__mocks__/test_app/test_one.json" in result.text


def test_while_an_answer_is_awaited_the_test_sees_its_own_files(
    tests: PluginProject,
) -> None:
    tests.write("""
        import asyncio, os

        HERE = os.path.dirname(__file__)

        async def awaited():
            async with httpx.AsyncClient() as client:
                return (await client.get("https://api.test/users/1")).json()["name"]

        async def look(seen):
            while True:
                seen.add(os.path.exists(HERE))
                await asyncio.sleep(0)

        @pytest.mark.asyncio
        @pytest.mark.mock_mcp
        async def test_one(fs):
            seen = set()
            looking = asyncio.create_task(look(seen))
            assert await awaited()
            looking.cancel()
            assert seen == {False}
    """)
    result = tests.spawn("-p", "pyfakefs.pytest_plugin", "--mock-responder=sample")
    assert result.outcomes() == {"passed": 1}, result.text
