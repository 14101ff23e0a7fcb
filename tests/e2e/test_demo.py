"""`mock-mcp demo`: the whole story is true, and nothing is left of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mock_mcp.cli import demo
from mock_mcp.errors import MissingExtra
from support.daemons import environment, processes_of

HANG_S = 120


def test_the_demo_tells_its_story_and_leaves_nothing(short_dir: Path, tmp_path_factory):
    place = tmp_path_factory.mktemp("demo")
    # In CI a project replays only: the demo must not notice where it runs.
    env = environment(place / "cache", {"CI": "true", "TMPDIR": str(short_dir)})
    run = subprocess.run(
        [sys.executable, "-m", "mock_mcp", "demo"],
        env=env,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    story = iter(run.stdout.splitlines())
    for line in (
        "parked: GET https://petstore.example.com/v1/pets?status=available",
        'got "sold out"',
        "parked: POST https://petstore.example.com/v1/orders",
        "3 from the assistant, 1 corrected after the contract check",
        "2. GET https://petstore.example.com/v1/pets/11 -> 200",
        'answered {"id": 11, "name": "Biscuit",',
        'asked    {"petId": 11, "quantity": 1}',
        '"petId": 11, "quantity": 1, "state": ',
        "3 replayed",
        '/body/total: Add the required property "total"',
        "2 fit the contract, 1 no longer fits",
        "parked: POST https://petstore.example.com/v1/orders",
        "2 replayed, 1 from the assistant",
        "3 fit the contract",
        "Cleaned up",
    ):
        assert any(line in said for said in story), f"{line!r} is not told:\n{run.stdout}"
    assert run.stderr == ""
    assert not list(short_dir.glob("mock-mcp-demo-*"))
    assert not [found for found in processes_of(short_dir) if "mock-mcp-demo-" in found[1]]
    assert not (place / "cache").exists()


def test_what_is_missing_is_named_with_what_installs_it(monkeypatch):
    found = demo.importlib.util.find_spec
    monkeypatch.setattr(
        demo.importlib.util, "find_spec", lambda name: None if name == "httpx" else found(name)
    )
    with pytest.raises(MissingExtra, match=r"needs httpx: .*pip install 'mock-mcp\[demo\]'"):
        demo.run(demo.argparse.Namespace(keep=False))
