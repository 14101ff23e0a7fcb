"""A recording is found, used up, staged, promoted, and never damaged."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mock_mcp.errors import ConfigurationError
from mock_mcp.recordings.errors import RecordingError
from mock_mcp.recordings.format import RecordedInteraction, RecordedRequest, is_sidecar
from mock_mcp.recordings.match import Matching
from mock_mcp.recordings.redact import Redaction
from mock_mcp.recordings.store import RecordingFile, read_recording
from support.privileges import unprivileged
from unit.recordings.calls import Test, answered, call

USERS, ORDERS = call("https://api.test/users"), call("https://api.test/orders")
LARGE = {"text": "x" * 70_000}
BINARY = {"$base64": base64.b64encode(b"\x00\x01\x02").decode()}


def body_of(found: RecordedInteraction | None) -> Any:
    assert found is not None
    assert found.response is not None
    return found.response.body


# -- Replay -----------------------------------------------------------------------------------


def test_equal_calls_are_answered_in_order_and_used_up(test: Test) -> None:
    test.record(answered(USERS, 1), answered(ORDERS, "o"), answered(USERS, 2))
    run = test.open()
    assert [body_of(run.find(USERS)) for _ in range(2)] == [1, 2]
    assert run.find(USERS) is None
    assert [item.request.url for item in run.unused()] == [ORDERS.url]
    assert body_of(run.find(ORDERS)) == "o"
    assert run.unused() == []


def test_nothing_is_found_where_nothing_is_recorded(test: Test) -> None:
    run = test.open()
    assert not run.exists()
    assert run.find(USERS) is None
    assert run.unused() == []


def test_a_new_secret_still_finds_the_recording(test: Test) -> None:
    text = test.record(answered(call("https://api.test/u?api_key=S3CRET1", body={"token": "S3"})))
    assert b"S3" not in text
    made = call("https://api.test/u?api_key=OTHER", body={"token": "OTHER"})
    assert test.open().find(made) is not None


def test_a_secret_named_later_still_finds_what_was_recorded_before(test: Test) -> None:
    test.record(answered(call("https://api.test/u?tenant=acme")))
    run = test.open(redaction=Redaction(names=["tenant"]))
    assert run.find(call("https://api.test/u?tenant=other")) is not None


@pytest.mark.parametrize("redaction", [None, Redaction(request_headers=["x-a"])])
def test_compared_headers_are_recorded(test: Test, redaction: Redaction | None) -> None:
    options: Any = {"matching": Matching(("path", "headers:accept")), "redaction": redaction}
    items = answered(call(accept="a/a"), 1), answered(call(accept="b/b"), 2)
    test.record(*items, **options)
    run = test.open(**options)
    assert body_of(run.find(call(accept="b/b"))) == 2
    assert run.find(call(accept="c/c")) is None


def test_a_callable_chooses_among_recorded_calls(test: Test) -> None:
    def same_parity(recorded: RecordedRequest, made: RecordedRequest) -> bool:
        return recorded.body["n"] % 2 == made.body["n"] % 2

    matching = Matching(("path", same_parity))
    test.record(answered(call(body={"n": 1}), "odd"), answered(call(body={"n": 2}), "even"))
    run = test.open(matching=matching)
    assert body_of(run.find(call(body={"n": 40}))) == "even"
    assert run.find(call(body={"n": 42})) is None
    assert body_of(run.find(call(body={"n": 41}))) == "odd"


def test_a_hook_changes_both_requests_before_they_are_compared(test: Test) -> None:
    def without_version(request: RecordedRequest) -> RecordedRequest | None:
        if "private" in request.url:
            return None
        url = request.url.replace("/v2/", "/v1/")
        return msgspec.structs.replace(request, url=url)

    test.record(
        answered(call("https://api.test/v1/a"), 1), answered(call("https://api.test/private"))
    )
    run = test.open(matching=Matching(before=without_version))
    assert body_of(run.find(call("https://api.test/v2/a"))) == 1
    assert run.find(call("https://api.test/private")) is None


def test_threads_share_a_recording_and_each_answer_is_given_once(test: Test) -> None:
    test.record(*(answered(USERS, n) for n in range(200)))
    run = test.open()
    got: list[Any] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        got.extend(body_of(run.find(USERS)) for _ in range(25))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(200))


@pytest.mark.parametrize("body", [LARGE, BINARY, "t" * 70_000])
def test_bodies_beside_the_file_are_replayed(test: Test, body: Any) -> None:
    text = test.record(answered(call(method="POST", body=body), body))
    assert len(text) < 1000
    assert len(test.files()) == 2  # one sidecar: both bodies are the same
    assert body_of(test.open().find(call(method="POST", body=body))) == body
    assert body_of(read_recording(test.path).interactions[0]) == body


def test_a_missing_sidecar_is_named(test: Test) -> None:
    test.record(answered(USERS, BINARY))
    sidecar = next(path for path in test.path.parent.iterdir() if is_sidecar(path.name))
    sidecar.unlink()
    with pytest.raises(RecordingError, match=sidecar.name):
        test.open().find(USERS)


# -- Recording --------------------------------------------------------------------------------


def test_nothing_is_written_before_the_test_passes(test: Test) -> None:
    run = test.open()
    run.stage(answered(USERS, LARGE))
    assert run.staged == 1
    assert not test.path.parent.exists()
    run.discard()
    assert run.promote("none") == "unchanged"
    assert not test.path.parent.exists()


def test_what_is_staged_is_what_the_answer_was_then(test: Test) -> None:
    body = {"items": [1]}
    run = test.open()
    run.stage(answered(USERS, body))
    body["items"].append(2)
    run.promote()
    assert body_of(test.open().find(USERS)) == {"items": [1]}


def test_new_episodes_keep_the_old_and_append_the_new(test: Test) -> None:
    old = test.record(answered(USERS, 1), answered(ORDERS, 2))
    run = test.open()
    assert run.find(ORDERS) is not None
    run.stage(answered(call("https://api.test/new"), 3))
    assert run.promote("all") == "written"
    assert [body_of(item) for item in read_recording(test.path).interactions] == [1, 2, 3]
    assert test.path.read_bytes().startswith(old[: old.rindex(b"    }")])


def test_pruning_leaves_what_was_used(test: Test) -> None:
    test.record(answered(USERS, LARGE), answered(ORDERS, 2))
    run = test.open()
    run.find(ORDERS)
    assert run.promote("used") == "written"
    assert [body_of(item) for item in read_recording(test.path).interactions] == [2]
    assert test.files() == ["test_buy.json"]
    assert test.open().promote("used") == "removed"
    assert test.files() == []


def test_an_interaction_that_no_longer_fits_is_replaced_in_its_place(test: Test) -> None:
    test.record(answered(USERS, LARGE), answered(ORDERS, 2))
    run = test.open()
    found = run.find(USERS)
    run.stage(answered(USERS, "new"), replaces=found)
    assert run.promote("all") == "written"
    assert [body_of(item) for item in read_recording(test.path).interactions] == ["new", 2]
    assert test.files() == ["test_buy.json"]


def test_calls_are_written_in_the_order_they_began(test: Test) -> None:
    run = test.open()
    run.stage(answered(ORDERS, 2), order=1)
    run.stage(answered(USERS, 1), order=0)
    run.promote()
    assert [body_of(item) for item in read_recording(test.path).interactions] == [1, 2]


def test_hooks_change_what_is_recorded_or_leave_it_out(test: Test) -> None:
    def no_orders(item: RecordedInteraction) -> RecordedInteraction | None:
        return None if "orders" in item.request.url else item

    def by_hand(item: RecordedInteraction) -> RecordedInteraction:
        return msgspec.structs.replace(item, source="hand")

    test.record(answered(USERS), answered(ORDERS), before_record=[no_orders, by_hand])
    (item,) = read_recording(test.path).interactions
    assert (item.request.url, item.source) == (USERS.url, "hand")


def test_a_hook_that_returns_something_else_is_told_so(test: Test) -> None:
    with pytest.raises(ConfigurationError, match=r"before_record returned \{'id': 1\}"):
        test.record(answered(USERS), before_record=[lambda item: {"id": 1}])  # type: ignore[list-item, return-value]
    with pytest.raises(ConfigurationError, match="before_match returned 'x'"):
        Matching(before=lambda request: "x").prepare(USERS)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    "bad",
    [
        answered(USERS, float("nan")),
        answered(USERS, b"bytes"),
        answered(call(body={"when": object()})),
        answered(USERS, status=99),
        answered(USERS, headers={"x": 1}),
    ],
)
def test_what_could_not_be_read_again_is_refused_at_once(
    test: Test, bad: RecordedInteraction
) -> None:
    old = test.record(answered(USERS, 1))
    run = test.open()
    with pytest.raises(RecordingError, match=r"test_buy\.json: The call GET .* cannot be recorded"):
        run.stage(bad)
    assert run.staged == 0
    assert run.promote() == "unchanged"
    assert test.path.read_bytes() == old


# -- Byte identity ----------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["all", "used", "none"])
def test_a_run_that_changes_nothing_does_not_touch_the_file(test: Test, keep: Any) -> None:
    items = [answered(USERS, LARGE), answered(ORDERS, {"n": 1e22}), answered(USERS, 3)]
    test.record(*items)
    before = test.written_at()
    run = test.open()
    for item in items:
        if keep == "none":
            run.stage(item)
        else:
            run.find(item.request)
    assert run.promote(keep) == "unchanged"
    after = test.written_at()
    assert after == before


def test_line_ends_converted_at_checkout_are_no_change(test: Test) -> None:
    text = test.record(answered(USERS, {"a": "1\r\n2"}))
    test.path.write_bytes(text.replace(b"\n", b"\r\n"))
    run = test.open()
    run.stage(answered(USERS, {"a": "1\r\n2"}))
    assert run.promote("none") == "unchanged"


def test_the_order_in_which_concurrent_calls_end_is_no_change(test: Test) -> None:
    items = [answered(call(f"https://api.test/{n}"), n) for n in range(5)]
    test.record(*items)
    run = test.open()
    for item in reversed(items):
        run.stage(item)
    assert run.promote("none") == "unchanged"


def test_a_new_value_of_an_ignored_field_is_no_change(test: Test) -> None:
    options = {"matching": Matching(ignore=["ts"])}
    test.record(answered(call("https://api.test/a?ts=1", body=LARGE)), **options)
    run = test.open(**options)
    run.stage(answered(call("https://api.test/a?ts=2", body=LARGE)))
    assert run.promote("none") == "unchanged"


def test_a_loose_match_does_not_hide_a_changed_request(test: Test) -> None:
    options = {"matching": Matching(("path",))}
    test.record(answered(call("https://api.test/a?page=1")), **options)
    run = test.open(**options)
    run.stage(answered(call("https://api.test/a?page=2")))
    assert run.promote("none") == "written"
    assert b"page=2" in test.path.read_bytes()


def test_new_data_replaces_sidecars_that_nothing_refers_to(test: Test) -> None:
    test.record(answered(USERS, LARGE))
    (test.path.parent / "notes.txt").touch()
    test.record(answered(USERS, BINARY))
    kinds = {name.rpartition(".")[2] for name in test.files()}
    assert kinds == {"json", "bin", "txt"}
    assert len(test.files()) == 3
    test.record(answered(USERS, 1))
    assert test.files() == ["notes.txt", "test_buy.json"]


# -- Damage -----------------------------------------------------------------------------------


def test_a_corrupt_recording_is_refused_and_can_be_rewritten(test: Test) -> None:
    test.record(answered(USERS))
    test.path.write_text("<<<<<<< HEAD\n{}\n")
    run = test.open()
    with pytest.raises(RecordingError, match=r"test_buy\.json:1: Merge conflict"):
        run.find(USERS)
    run = test.open()
    run.stage(answered(ORDERS))
    with pytest.raises(RecordingError):
        run.promote("all")
    assert test.path.read_text().startswith("<<<<<<<")
    assert run.promote("none") == "written"
    assert test.open().find(ORDERS) is not None


def test_the_recording_of_a_test_that_differs_in_case_is_left_alone(test: Test) -> None:
    text = test.record(answered(USERS))
    run = RecordingFile(test.path, test.place.test.upper())
    run.stage(answered(ORDERS))
    for keep in ("all", "none"):
        with pytest.raises(RecordingError, match="only in case"):
            run.promote(keep)
    assert test.path.read_bytes() == text


def test_a_renamed_test_takes_its_recording_along(test: Test) -> None:
    test.record(answered(USERS, 1))
    run = RecordingFile(test.path, "test_shop.py::test_new_name")
    assert body_of(run.find(USERS)) == 1


def test_a_place_that_cannot_be_written_is_named(test: Test) -> None:
    test.path.parent.parent.write_text("a file where the directory should be")
    run = test.open()
    run.stage(answered(USERS))
    with pytest.raises(RecordingError, match=r"test_buy\.json: .* cannot be written"):
        run.promote("none")
    assert run.staged == 1


WRITE = """
import sys
from pathlib import Path
from mock_mcp.errors import ConfigurationError
from mock_mcp.recordings.errors import RecordingError
from mock_mcp.recordings.format import *
from mock_mcp.recordings.store import RecordingFile

run = RecordingFile(Path(sys.argv[1]), "test_shop.py::test_buy")
request = RecordedRequest("GET", "https://api.test/other")
run.stage(RecordedInteraction(request, "ai", RecordedResponse(200, {}, 2)))
try:
    run.promote("none")
except RecordingError as error:
    print(error)
"""


def test_a_read_only_directory_keeps_the_old_recording(test: Test) -> None:
    text = test.record(answered(USERS, 1))
    command = [*unprivileged(), sys.executable, "-c", WRITE, str(test.path)]
    test.path.parent.chmod(0o500)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        test.path.parent.chmod(0o700)
    told = "cannot be written (Permission denied); the previous recording is unchanged"
    assert f"{test.path}: The recording {told}" in done.stdout
    assert test.path.read_bytes() == text


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from mock_mcp.errors import ConfigurationError
from mock_mcp.recordings.errors import RecordingError
from mock_mcp.recordings.format import *
from mock_mcp.recordings.store import RecordingFile

run = RecordingFile(Path(sys.argv[1]), "test_shop.py::test_buy", sidecar_bytes=500)
for name in "abc":
    body = {"name": name, "text": name * int(sys.argv[2])}
    answer = RecordedResponse(200, {}, body)
    run.stage(RecordedInteraction(RecordedRequest("GET", f"https://api.test/{name}"), "ai", answer))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    run.promote("none")
except RecordingError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits")
@pytest.mark.parametrize("size", [300, 2000], ids=["the recording", "a sidecar"])
def test_a_disk_that_fills_up_keeps_the_old_recording(test: Test, size: int) -> None:
    text = test.record(answered(USERS, BINARY))
    files = test.files()
    script = [sys.executable, "-c", FULL_DISK, str(test.path), str(size)]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert "cannot be written (File too large); the previous recording is unchanged" in done.stdout
    assert test.path.read_bytes() == text
    assert test.files() == files
    assert body_of(test.open().find(USERS)) == BINARY


WRITER = """
import sys
from pathlib import Path
from mock_mcp.recordings.format import *
from mock_mcp.recordings.store import RecordingFile

sys.stdin.readline()
for round in range(25):
    run = RecordingFile(Path(sys.argv[1]), "test_shop.py::test_buy", sidecar_bytes=10)
    keep = ("all", "none")[round % 2]
    for name in ("shared", f"{sys.argv[2]}-{round}"):
        request = RecordedRequest("GET", f"https://api.test/{name}")
        if run.find(request) is None or keep == "none":
            run.stage(RecordedInteraction(request, "ai", RecordedResponse(200, {}, name * 99)))
    run.promote(keep)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the directory lock is POSIX")
def test_processes_that_write_one_recording_leave_it_complete(test: Test) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(test.path), str(number)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    while any(writer.poll() is None for writer in writers):
        if test.path.exists():
            json.loads(test.path.read_bytes())  # complete at every instant
    errors = [writer.communicate()[1] for writer in writers]
    # A writer that reads while another one promotes may miss a sidecar; it says so, that is all.
    assert all(not error or "its body" in error.lower() for error in errors), errors
    recording = read_recording(test.path)
    assert {"https://api.test/shared"} <= {item.request.url for item in recording.interactions}
    assert not [name for name in test.files() if name.endswith(".tmp")]


def test_permissions_are_those_of_any_file(test: Test) -> None:
    test.record(answered(USERS))
    plain = test.path.with_name("plain")
    plain.touch()
    assert test.path.stat().st_mode == plain.stat().st_mode


def test_paths_may_be_relative(test: Test, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(test.file.parent)
    run = RecordingFile(Path("__mocks__/m/t.json"), "m.py::t")
    run.stage(answered(USERS, BINARY))
    assert run.promote() == "written"
    assert body_of(read_recording(Path("__mocks__/m/t.json")).interactions[0]) == BINARY
