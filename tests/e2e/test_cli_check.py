"""`mock-mcp check` and `mock-mcp show`: recordings made by pytest, judged without running it."""

from __future__ import annotations

import json
import shutil
import subprocess
import textwrap
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from support.command import PLUGIN, Run, run_module

TESTS = """
    import httpx
    import pytest

    API = "https://petstore.example.com/v1"

    @pytest.mark.mock_mcp
    def test_pets():
        assert httpx.get(f"{API}/pets", params={"status": "available"}).json()

    class TestOrders:
        @pytest.mark.parametrize("quantity", [1, 2])
        @pytest.mark.mock_mcp
        def test_order(self, quantity):
            order = {"petId": 11, "quantity": quantity}
            assert httpx.post(f"{API}/orders", json=order).status_code == 201

        @pytest.mark.mock_mcp
        def test_elsewhere(self, mock_mcp):
            mock_mcp.add_response("GET", "/rates", {"eur": 1})
            assert httpx.get("https://rates.example.com/rates").json()
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a contract, tests, and recordings that fit."""
    root = tmp_path_factory.mktemp("shop")
    (root / "pyproject.toml").write_text('[tool.mock-mcp]\nopenapi = ["petstore.json"]\n')
    text = files("mock_mcp.demo").joinpath("petstore.json").read_text("utf-8")
    (root / "petstore.json").write_text(text)
    (root / "test_shop.py").write_text(textwrap.dedent(TESTS))
    made = run_module(root, tmp_path_factory.mktemp("cache"), *RECORD)
    assert made.returncode == 0, made.stdout + made.stderr
    return root


@pytest.fixture
def shop(project: Path, recorded: Path) -> Path:
    """A copy of that project."""
    return shutil.copytree(recorded, project, dirs_exist_ok=True)


RECORD = ("pytest", *PLUGIN, "--mock-source=example", "--mock-mode=new_episodes")


def record(run: Run) -> subprocess.CompletedProcess[str]:
    return run(*RECORD)


def change(shop: Path, schema: str, **properties: Any) -> None:
    """Require more properties in a schema of the contract."""
    file = shop / "petstore.json"
    document = json.loads(file.read_text())
    found = document["components"]["schemas"][schema]
    found["required"] += properties
    found["properties"] |= properties
    file.write_text(json.dumps(document))


def test_recordings_that_fit_are_said_to(shop, run):
    checked = run("mock_mcp", "check")
    assert checked.stdout == "3 recordings, 3 calls: 3 fit the contract\n"
    assert (checked.returncode, checked.stderr) == (0, "")


def test_what_drifted_is_named_with_its_test_the_place_and_the_repair(shop, run):
    change(shop, "Order", total={"type": "number"})
    checked = run("mock_mcp", "check")
    assert checked.returncode == 1
    assert "test_pets" not in checked.stdout
    test = "test_shop.py::TestOrders::test_order[1]"
    for line in (
        "__mocks__/test_shop/TestOrders.test_order-1.json",
        f"  used by {test}",
        "  call 1: POST https://petstore.example.com/v1/orders  (POST /orders)",
        '    the recorded answer, /body/total: Add the required property "total" (number).',
        f"  repair: pytest --mock-source=example --mock-mode=new_episodes '{test}'",
        "3 recordings, 3 calls: 1 fits the contract, 2 no longer fit",
    ):
        assert line in checked.stdout.splitlines()
    found = json.loads(run("mock_mcp", "check", "--json").stdout)
    assert (found["ok"], found["recordings"], found["calls"], found["drifted"]) == (False, 3, 3, 2)
    assert [each["test"] for each in found["drift"]] == [test, test.replace("[1]", "[2]")]
    (call,) = found["drift"][0]["calls"]
    assert (call["number"], call["method"], call["operation"]) == (1, "POST", "POST /orders")
    assert call["request"] == []
    (violation,) = call["response"]
    assert (violation["pointer"], violation["keyword"]) == ("/body/total", "required")


def test_the_repair_repairs(shop, run):
    change(shop, "Order", total={"type": "number"})
    assert record(run).returncode == 0
    checked = run("mock_mcp", "check")
    assert checked.returncode == 0, checked.stdout


def test_a_call_that_breaks_the_contract_is_the_codes_to_repair(shop, run):
    change(shop, "NewOrder", note={"type": "string"})
    checked = run("mock_mcp", "check")
    assert checked.returncode == 1
    assert "the call itself, /body/note: Add the required property" in checked.stdout
    assert (
        "repair: correct the code that makes the call, then: pytest --mock-source=example"
        in checked.stdout
    )


def test_it_runs_from_anywhere_and_on_parts(shop, run):
    change(shop, "Order", total={"type": "number"})
    below = shop / "below"
    below.mkdir()
    root = ("--project-root", str(shop))
    assert "2 no longer fit" in run("mock_mcp", "check", *root, str(shop), cwd=below).stdout
    for part in ("test_shop.py", "__mocks__/test_shop/TestOrders.test_order-1.json", "."):
        assert run("mock_mcp", "check", part).returncode == 1
    pets = run("mock_mcp", "check", "__mocks__/test_shop/test_pets.json")
    assert (pets.returncode, pets.stdout) == (0, "1 recording, 1 call: 1 fits the contract\n")
    wrong = run("mock_mcp", "check", "nothing.json")
    assert (wrong.returncode, wrong.stderr) == (1, "mock-mcp: nothing.json is not there.\n")


def test_the_documents_and_the_mode_of_a_marker_count(shop, run):
    (shop / "pyproject.toml").write_text("")
    assert "3 calls: no contract" in run("mock_mcp", "check").stdout
    test = shop / "test_shop.py"
    marked = test.read_text().replace(
        "@pytest.mark.mock_mcp\ndef", '@pytest.mark.mock_mcp(openapi="petstore.json")\ndef'
    )
    test.write_text(marked)
    change(shop, "Pet", vaccinated={"type": "boolean"})
    checked = run("mock_mcp", "check")
    assert checked.returncode == 1
    assert "/body/0/vaccinated" in checked.stdout
    assert "0 fit the contract, 1 no longer fits, 2 not checked" in checked.stdout
    test.write_text(marked.replace('"petstore.json")', '"petstore.json", contract="off")'))
    checked = run("mock_mcp", "check")
    assert (checked.returncode, "3 not checked" in checked.stdout) == (0, True)


def test_the_recordings_of_fixtures_and_of_intercept_have_users_too(shop, run):
    (shop / "conftest.py").write_text(
        textwrap.dedent("""
            import httpx
            import pytest

            @pytest.fixture(scope="module")
            def pet():
                return httpx.get("https://petstore.example.com/v1/pets/11").json()
        """)
    )
    (shop / "test_pet.py").write_text(
        "import pytest\n@pytest.mark.mock_mcp\ndef test_pet(pet):\n    assert pet\n"
    )
    (shop / "nightly.py").write_text(
        textwrap.dedent("""
            import httpx
            import mock_mcp

            with mock_mcp.intercept("pet", mode="once", source="example"):
                httpx.get("https://petstore.example.com/v1/pets/11")
        """)
    )
    assert record(run).returncode == 0
    assert run("nightly").returncode == 0
    change(shop, "Pet", vaccinated={"type": "boolean"})
    lines = run("mock_mcp", "check", "--json").stdout
    found = {each["test"]: each["repair"] for each in json.loads(lines)["drift"]}
    command = "pytest --mock-source=example --mock-mode=new_episodes"
    assert found == {
        "nightly.py::pet": "mode='new_episodes' and source='example' given to intercept('pet')",
        "test_pet.py": f"{command} test_pet.py",
        "test_shop.py::test_pets": f"{command} test_shop.py::test_pets",
    }


def test_unreadable_files_and_orphans_are_findings(shop, run):
    mocks = shop / "__mocks__"
    (mocks / "test_shop/test_pets.json").write_text("<<<<<<< ours\n{}\n")
    gone = mocks / "test_gone"
    gone.mkdir()
    order = mocks / "test_shop/TestOrders.test_order-1.json"
    order.replace(gone / order.name)
    checked = run("mock_mcp", "check")
    assert checked.returncode == 1
    assert "Merge conflict markers" in checked.stdout
    assert f"__mocks__/test_gone/{order.name}: there is no test_gone.py" in checked.stdout
    found = json.loads(run("mock_mcp", "check", "--json").stdout)
    assert [each["line"] for each in found["unreadable"]] == [1]
    assert [each["file"] for each in found["orphans"]] == [str(gone / order.name)]


def test_the_recording_of_a_test_that_is_gone_is_a_finding(shop, run):
    test = shop / "test_shop.py"
    test.write_text(test.read_text().replace("test_pets", "test_all_pets"))
    checked = run("mock_mcp", "check")
    assert checked.returncode == 1
    assert "__mocks__/test_shop/test_pets.json: test_shop.py has no test_pets" in checked.stdout
    assert "2 recordings, 2 calls: 2 fit the contract" in checked.stdout
    test.write_text(test.read_text().replace("TestOrders", "TestCarts"))
    found = json.loads(run("mock_mcp", "check", "--json").stdout)
    reasons = [each["reason"] for each in found["orphans"]]
    assert found["recordings"] == 0
    assert reasons == [
        f"test_shop.py has no {name}; if it was renamed, move the file"
        for name in ("TestOrders::test_order[1]", "TestOrders::test_order[2]", "test_pets")
    ]


def test_where_a_recording_lies_says_whose_it_is(shop, run):
    mocks, tests = shop / "__mocks__", shop / "test_shop.py"
    tests.write_text(tests.read_text().replace("test_pets", "test_all_pets"))
    (mocks / "test_shop/test_pets.json").rename(mocks / "test_shop/test_all_pets.json")
    tests.rename(shop / "test_store.py")
    (mocks / "test_shop").rename(mocks / "test_store")
    plugin = ("-p", "mock_mcp.pytest_plugin", "-p", "no:cacheprovider")
    replayed = run("pytest", *plugin)
    assert replayed.returncode == 0, replayed.stdout
    checked = run("mock_mcp", "check")
    assert checked.returncode == 0, checked.stdout
    assert "3 recordings, 3 calls: 3 fit the contract" in checked.stdout

    (mocks / "test_store/test_all_pets.json").rename(mocks / "test_store/test_no_pets.json")
    lost = run("mock_mcp", "check")
    assert lost.returncode == 1
    assert "test_store/test_no_pets.json: test_store.py has no test_no_pets" in lost.stdout


def test_recordings_of_shared_fixtures_and_of_made_tests_are_no_orphans(shop, run):
    (shop / "test_fixtures.py").write_text(
        textwrap.dedent("""
            import unittest
            import httpx
            import pytest

            def pet(n=11):
                return httpx.get(f"https://petstore.example.com/v1/pets/{n}").json()

            pytestmark = pytest.mark.mock_mcp

            @pytest.fixture(scope="session")
            def for_session():
                return pet()

            @pytest.fixture(scope="module")
            def for_module():
                return pet()

            @pytest.fixture(scope="class")
            def for_class():
                return pet()

            class Checks:
                def test_inherited(self, for_session, for_module, for_class):
                    assert pet(12)

            class TestPets(Checks):
                pass

            class TestUnit(unittest.TestCase):
                @classmethod
                def setUpClass(cls):
                    cls.pet = pet()

                def test_unit(self):
                    assert pet(12)

            test_made = lambda: pet(12)
        """)
    )
    assert record(run).returncode == 0
    checked = run("mock_mcp", "check")
    assert checked.stdout == "10 recordings, 10 calls: 10 fit the contract\n"


def test_a_contract_that_cannot_be_used_is_a_finding(shop, run):
    (shop / "petstore.json").write_text("{")
    checked = run("mock_mcp", "check")
    assert checked.returncode == 1
    assert "Contracts that cannot be used" in checked.stdout
    assert "3 not checked" in checked.stdout


def test_a_project_without_recordings_has_nothing_to_find(project, run):
    checked = run("mock_mcp", "check")
    assert (checked.returncode, checked.stdout) == (
        0,
        "0 recordings, 0 calls: 0 fit the contract\n",
    )


def test_show_tells_a_recording(shop, run):
    file = "__mocks__/test_shop/TestOrders.test_order-1.json"
    shown = run("mock_mcp", "show", file).stdout.splitlines()
    assert shown[0] == "test_shop.py::TestOrders::test_order[1]: 1 call"
    assert shown[2] == "1. POST https://petstore.example.com/v1/orders -> 201"
    assert shown[3] == "   made from the contract; POST /orders, checked"
    assert shown[4] == '   asked    {"petId": 11, "quantity": 1}'
    assert shown[5].startswith('   answered {"id": ')
    assert shown[5].endswith("characters)")
    assert "placedAt" in run("mock_mcp", "show", "--full", file).stdout
    found = json.loads(run("mock_mcp", "show", "--json", file).stdout)
    assert found["interactions"][0]["request"]["body"] == {"petId": 11, "quantity": 1}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("notes.txt", "hello", "notes.txt: It is no recording. Recordings lie beside the tests"),
        ("petstore.json", None, "petstore.json: It is no recording"),
        (
            "test_a.0123456789abcdef.bin",
            "x",
            "It is a body of the recording test_a.json; show that",
        ),
        ("gone.json", None, "gone.json: It cannot be read"),
        ("__mocks__/test_shop/test_pets.json", "{", "Not JSON"),
    ],
)
def test_show_says_what_is_no_recording(shop, run, name, text, told):
    if text is not None:
        (shop / name).write_text(text)
    shown = run("mock_mcp", "show", name)
    assert shown.returncode == 1
    assert told in shown.stderr
    assert ("record it again" in shown.stderr) is name.startswith("__mocks__")


def test_show_says_what_is_wrong_with_a_file(shop, run):
    wrong = run("mock_mcp", "show", "petstore.json")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("mock-mcp: petstore.json: ")
