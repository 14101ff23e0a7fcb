"""A process dies at any step of writing a recording: the old one is there whole, or the new one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Forks, in a process without threads, dies at the n-th change of a file or directory, and looks.
WRITER = """
import json, os, sys
from pathlib import Path
from mock_mcp.recordings.format import RecordedInteraction, RecordedRequest, RecordedResponse
from mock_mcp.recordings.store import RecordingFile, read_recording

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.truncate"}

def record(path, bodies):
    file = RecordingFile(path, "test_shop.py::test_buy", sidecar_bytes=100)
    for number, body in enumerate(bodies):
        request = RecordedRequest("GET", f"https://api.test/{number}", {})
        file.stage(RecordedInteraction(request, "ai", RecordedResponse(status=200, body=body)))
    file.promote("none")

def read(path):
    if not path.exists():
        return None
    return [interaction.response.body for interaction in read_recording(path).interactions]

def dies(path, new, at):
    seen = 0
    def audit(event, args):
        nonlocal seen
        if event in CHANGES or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)):
            seen += 1
            if seen == at:
                os._exit(9)
    pid = os.fork()
    if pid == 0:
        sys.addaudithook(audit)
        record(path, new)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9

directory, old, new = Path(sys.argv[1]), *json.loads(sys.argv[2])
found = []
for at in range(1, 100):
    path = directory / str(at) / "test_buy.json"
    if old is not None:
        record(path, old)
    died = dies(path, new, at)
    left = read(path)
    record(path, new)  # and the next run succeeds, whatever was left behind
    found.append([died, left, read(path)])
    if not died:
        break
print(json.dumps(found))
"""
LARGE = ["x" * 200, "y" * 200]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (None, [1, LARGE[0]]),
        ([1, LARGE[0]], [2, LARGE[1], 3]),
        ([LARGE[0]], [4]),
        ([5], []),
    ],
    ids=["first", "replaced", "without its sidecar", "removed"],
)
def test_a_recording_is_whole_whenever_its_writer_dies(
    tmp_path: Path, old: list[Any] | None, new: list[Any], measured: Callable[..., None]
) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path), json.dumps([old, new])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    after = new or None
    assert [died for died, _, _ in found[-2:]] == [True, False], "it died at every step but none"
    assert all(left in (old, after) for _, left, _ in found), found
    assert {json.dumps(left) for _, left, _ in found} == {json.dumps(old), json.dumps(after)}
    assert all(again == after for _, _, again in found), found
    measured(deaths=len(found) - 1)
