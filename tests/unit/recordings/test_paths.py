"""One file name for one test, safe on every file system."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_mcp.recordings.format import is_sidecar
from mock_mcp.recordings.paths import STEM_CHARS, locate, locate_scope, names_at, names_of

FILE = Path("/p/tests/test_shop.py")


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["test_buy"], "test_buy.json"),
        (["TestCart", "test_add"], "TestCart.test_add.json"),
        (["TestCart", "TestEmpty", "test_add"], "TestCart.TestEmpty.test_add.json"),
        (["test_pay[eur]"], "test_pay-eur.json"),
        (["test_pay[eur-2]"], "test_pay-eur-2.json"),
    ],
)
def test_plain_names_are_kept(names: list[str], name: str) -> None:
    place = locate(FILE, names)
    assert place.path == Path("/p/tests/__mocks__/test_shop") / name
    assert place.test == "::".join(["test_shop.py", *names])


@pytest.mark.parametrize(
    ("names", "readable"),
    [
        (["test_x[a/b-ü]"], "test_x-a-b~"),
        (["test_x[EUR]"], "test_x-EUR~"),
        (["test_x[1.5]"], "test_x-1.5~"),
        (["test_x[]"], "test_x~"),
        (["test_x[..]"], "test_x~"),
        (["nul"], "-nul~"),
        (["Con", "test_x"], "-Con.test_x~"),
        (["_module"], "_module~"),
        (["test_" + "x" * 300], "test_xxx"),
    ],
)
def test_other_names_are_made_safe_and_marked(names: list[str], readable: str) -> None:
    path = locate(FILE, names).path
    assert path.name.startswith(readable)
    assert "~" in path.name


any_name = st.text(min_size=1, max_size=20) | st.from_regex(
    r"[tT]est_?[aAbB0]{0,2}(\[[aA.b~-]{0,3}\])?", fullmatch=True
)
classes = st.lists(st.sampled_from(["TestA", "TestB", "testa", "Nul", "Ünder"]), max_size=2)
names_lists = st.builds(lambda outer, name: [*outer, name], classes, any_name)


@settings(deadline=None)
@given(names_lists, names_lists)
def test_two_tests_never_share_a_file_even_where_case_is_ignored(
    first: list[str], second: list[str]
) -> None:
    one, other = locate(FILE, first).path, locate(FILE, second).path
    if first != second:
        assert one.name.casefold() != other.name.casefold()
    else:
        assert one == other


@settings(deadline=None)
@given(names_lists)
def test_every_name_is_safe(names: list[str]) -> None:
    name = locate(FILE, names).path.name
    assert name.isascii()
    assert not set(name) & set('/\\:*?"<>|\0 []')
    assert len(name) <= STEM_CHARS + len(".json")
    assert not is_sidecar(name)
    assert not name.startswith(".")
    assert name not in ("_module.json", "_session.json", "_package.json")


@settings(deadline=None)
@given(names_lists)
def test_the_place_of_a_recording_tells_its_test_or_nothing(names: list[str]) -> None:
    told = names_at(locate(FILE, names).path)
    assert told in (None, [*names[:-1], names[-1].partition("[")[0]])


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("test_pay.json", ["test_pay"]),
        ("TestCart.TestAdd.test_one-eur-2.json", ["TestCart", "TestAdd", "test_one"]),
        ("test_pay-EUR~0123456789.json", None),
        ("_class.TestCart.TestAdd.client-1.json", ["TestCart", "TestAdd"]),
        ("_module.client.json", []),
    ],
)
def test_names_of_a_place(file: str, names: list[str] | None) -> None:
    assert names_at(FILE.parent / "__mocks__/test_shop" / file) == names


def test_scopes_have_files_of_their_own() -> None:
    directory = FILE.parent / "__mocks__"
    module, of_class = locate_scope("module", FILE), locate_scope("class", FILE, ["TestCart"])
    assert (module.path, module.test) == (directory / "test_shop/_module.json", "test_shop.py")
    assert of_class.path == directory / "test_shop/_class.TestCart.json"
    assert of_class.test == "test_shop.py::TestCart"
    assert locate_scope("session", Path("/p")).path == Path("/p/__mocks__/_session.json")
    assert locate_scope("package", FILE.parent).path == directory / "_package.json"
    assert locate_scope("package", FILE.parent).test == "package"


@pytest.mark.parametrize(
    ("node_id", "file", "names"),
    [
        ("tests/test_a.py::test_b", "tests/test_a.py", ["test_b"]),
        ("t/test_a.py::TestB::test_c[x::y]", "t/test_a.py", ["TestB", "test_c[x::y]"]),
        ("t/test_a.py", "t/test_a.py", []),
    ],
)
def test_names_of_a_node_id(node_id: str, file: str, names: list[str]) -> None:
    assert names_of(node_id) == (file, names)


def test_a_document_that_is_no_module_has_its_own_directory() -> None:
    path = locate(Path("docs/usage.rst"), ["usage.rst"]).path
    assert path.parent == Path("docs/__mocks__/usage.rst")
