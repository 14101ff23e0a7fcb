from __future__ import annotations

import asyncio
from email.utils import formatdate

import httpx
import pytest

from mock_mcp.responders.errors import CannotAnswer, ResponderUnusable
from mock_mcp.responders.http import Api, CallRefused, Patience

pytestmark = pytest.mark.asyncio

KEY = "sk-secret"


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def api(*answers, clock=None, **options):
    """Return an API that answers so, one after the other, and what it was asked."""
    clock = clock or Clock()
    asked: list[httpx.Request] = []
    left = list(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    made = Api(
        "model",
        "https://models.test/v1/",
        headers={"authorization": f"Bearer {KEY}"},
        key=KEY,
        sleep=clock.sleep,
        clock=lambda: clock.now,
        jitter=lambda: 1.0,
        transport=httpx.MockTransport(handle),
        **options,
    )
    return made, asked, clock


def said(status, error="", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"error": error}, headers=named)


GOOD = httpx.Response(200, json={"ok": True})


async def test_an_answer_is_returned_and_the_key_is_sent():
    model, asked, clock = api(GOOD)
    assert await model.post("chat", {"a": 1}) == {"ok": True}
    assert str(asked[0].url) == "https://models.test/v1/chat"
    assert asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert asked[0].content == b'{"a":1}'
    assert clock.slept == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
async def test_what_passes_is_tried_again_with_longer_pauses(status, caplog):
    model, asked, clock = api(*[said(status, f"not now, {KEY}")] * 3, GOOD)
    assert await model.post("chat", {}) == {"ok": True}
    assert len(asked) == 4
    assert clock.slept == [1.0, 2.0, 4.0]
    assert caplog.messages[0] == (
        f"model: HTTP {status} not now, [key]; trying again in 1.0 s (1 of 5)"
    )


async def test_pauses_have_jitter_and_an_end():
    patience = Patience(tries=8, first_s=1, longest_s=8)
    model, asked, clock = api(said(500), patience=patience)
    model._jitter = lambda: 0.0
    with pytest.raises(CannotAnswer, match="failed 8 times; at last: HTTP 500"):
        await model.post("chat", {})
    assert len(asked) == 8
    assert clock.slept == [0.5, 1, 2, 4, 4, 4, 4]


async def test_retry_after_is_obeyed():
    model, _, clock = api(said(429, retry_after="17"), GOOD)
    await model.post("chat", {})
    assert clock.slept == [18.0]  # and a second of jitter


async def test_retry_after_may_be_a_date(monkeypatch):
    monkeypatch.setattr("mock_mcp.responders.http.time.time", lambda: 1_000_000_000.0)
    date = formatdate(1_000_000_020, usegmt=True)
    model, _, clock = api(said(503, retry_after=date), GOOD)
    await model.post("chat", {})
    assert clock.slept == [21.0]


async def test_a_retry_after_that_says_nothing_is_ignored():
    for value in ("soon", "nan", "inf"):
        model, _, clock = api(said(503, retry_after=value), GOOD)
        await model.post("chat", {})
        assert clock.slept == [1.0]


async def test_a_pause_that_is_too_long_is_an_answer():
    model, asked, clock = api(said(429, "later", retry_after="4000"))
    with pytest.raises(CannotAnswer, match="asks to wait 4000 s: HTTP 429 later"):
        await model.post("chat", {})
    assert (len(asked), clock.slept) == (1, [])


async def test_a_pause_that_the_server_asked_for_holds_for_other_calls():
    model, _, clock = api(said(429, retry_after="10"), GOOD)
    starts = []

    async def first() -> None:
        await model.post("chat", {})

    async def second() -> None:
        while not clock.slept:
            await asyncio.sleep(0)
        clock.now = 4.0  # while the first one waits
        await model.post("chat", {})
        starts.append(clock.now)

    await asyncio.gather(first(), second())
    assert starts[0] >= 10.0


async def test_a_rate_spaces_calls():
    model, _, clock = api(GOOD, rate=30)
    await asyncio.gather(*(model.post("chat", {}) for _ in range(4)))
    assert clock.now == 6.0


@pytest.mark.parametrize("error", [httpx.ConnectError("no"), httpx.ReadError("cut")])
async def test_a_broken_connection_is_tried_again(error):
    model, asked, _ = api(error, GOOD)
    assert await model.post("chat", {}) == {"ok": True}
    assert len(asked) == 2


async def test_a_model_that_is_too_slow_is_not_asked_again():
    model, asked, _ = api(httpx.ReadTimeout("slow"))
    with pytest.raises(CannotAnswer, match="did not answer within 600 s"):
        await model.post("chat", {})
    assert len(asked) == 1


async def test_an_answer_that_is_no_json_is_tried_again():
    model, asked, _ = api(httpx.Response(200, text='{"a": '), GOOD)
    assert await model.post("chat", {}) == {"ok": True}
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (said(401, "bad key"), "refused the key"),
        (said(403, "no"), "refused the key"),
        (said(404, "model 'x' not found"), "does not know the model.*model 'x' not found"),
        (said(402, "pay"), "wants to be paid"),
        (said(429, {"code": "insufficient_quota", "message": "no money"}), "wants to be paid"),
    ],
)
async def test_what_concerns_every_call_is_not_tried_again(answer, words):
    model, asked, clock = api(answer)
    with pytest.raises(ResponderUnusable, match=words):
        await model.post("chat", {})
    assert (len(asked), clock.slept) == (1, [])


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_concerns_this_call_is_not_tried_again(status):
    model, asked, _ = api(said(status, {"type": "invalid", "message": "too long"}))
    with pytest.raises(CallRefused, match=f"HTTP {status} invalid: too long"):
        await model.post("chat", {})
    assert len(asked) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 500])
async def test_no_error_contains_the_key(status):
    model, _, _ = api(said(status, f"the key {KEY} is wrong"), patience=Patience(tries=1))
    with pytest.raises((CannotAnswer, ResponderUnusable)) as caught:
        await model.post("chat", {})
    assert "the key [key] is wrong" in caught.value.message
    assert KEY not in caught.value.message


async def test_a_probe_finds_out_who_is_not_there_and_what_the_key_is_worth():
    model, _, _ = api(httpx.ConnectError("refused"))
    with pytest.raises(ResponderUnusable, match=r"nobody answers at https://models.test/v1 "):
        await model.probe("models")
    model, _, _ = api(said(401, "wrong"))
    with pytest.raises(ResponderUnusable, match="refused the key"):
        await model.probe("models")
    model, asked, _ = api(said(404))  # a server that lists no models
    await model.probe("models")
    assert asked[0].method == "GET"


async def test_an_address_that_is_none_is_said():
    with pytest.raises(ResponderUnusable, match="'http://:x' is no URL"):
        Api("model", "http://:x")


async def test_the_address_is_shown_without_its_password():
    model = Api("model", "https://me:secret@models.test/v1")
    assert model.where == "https://models.test/v1"
    await model.close()
