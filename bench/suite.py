"""A suite of 1 000 tests in replay beside the same suite with hand-written mocks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.project import is_installed, left_out, wall_ms
from bench.replay import API, DOCUMENT, PET
from bench.report import Row, Size, alternate

FILES = 20
OURS = """
import httpx, pytest

@pytest.mark.mock_mcp
@pytest.mark.parametrize("number", range(1, {tests} + 1))
def test_pet(number):
    pet = httpx.get(f"{api}/pets/{{number}}").json()
    assert pet["name"]
"""
BY_HAND = """
import httpx, pytest, respx

PET = {pet!r}

@pytest.mark.parametrize("number", range(1, {tests} + 1))
@respx.mock
def test_pet(number):
    respx.get(f"{api}/pets/{{number}}").respond(json=PET)
    pet = httpx.get(f"{api}/pets/{{number}}").json()
    assert pet["name"]
"""


def rows(size: Size) -> Iterator[Row]:
    """Serial, and on two workers."""
    if not is_installed("respx"):
        left_out("respx", "the suite")
        return
    tests = size.of(1000, 40)
    with tempfile.TemporaryDirectory(prefix="mm") as name:
        ours, by_hand = Path(name, "ours"), Path(name, "hand")
        write(ours, OURS, tests)
        write(by_hand, BY_HAND, tests)
        record(ours)
        for workers, plugins in (("serial", ("-p", "no:xdist")), ("-n 2", ("-n", "2"))):
            command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", *plugins)
            if workers != "serial" and not is_installed("xdist"):
                left_out("xdist", "the suite on two workers")
                continue
            mine, theirs = alternate(
                size.of(3, 1),
                lambda command=command: wall_ms(*command, cwd=ours),
                lambda command=command: wall_ms(*command, "-p", "no:mock_mcp", cwd=by_hand),
            )
            yield Row(f"{tests} tests, {workers}", mine, "respx, by hand", theirs, "ms", 1.1)


def write(place: Path, template: str, tests: int) -> None:
    place.mkdir()
    (place / "pytest.ini").write_text("[pytest]\n")
    for number in range(FILES):
        text = template.format(tests=tests // FILES, api=API, pet=PET)
        (place / f"test_pets_{number}.py").write_text(text)


def record(place: Path) -> None:
    """Register the contract and make the recordings of its examples."""
    (place / "pyproject.toml").write_text('[tool.mock-mcp]\nopenapi = ["petstore.json"]\n')
    (place / "petstore.json").write_bytes(DOCUMENT.read_bytes())
    wall_ms("-m", "pytest", "-q", "--mock-mode=once", "--mock-source=example", cwd=place)
