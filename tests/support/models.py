"""A server that speaks the APIs of models, and misbehaves as it is told."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-test-3f9a77c1d2e84b60"

Behaviour = Callable[["Call"], "Reply"]


@dataclass
class Call:
    """One call of the server; ``body`` is None for a GET."""

    path: str
    headers: dict[str, str]
    body: Any

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [each for each in self.body["messages"] if each["role"] != "system"]

    @property
    def batch(self) -> dict[str, Any]:
        """The batch as the model was told it."""
        batch = json.loads(self.messages[0]["content"])
        assert isinstance(batch, dict)
        return batch

    @property
    def said_last(self) -> str:
        content = self.messages[-1]["content"]
        return content if isinstance(content, str) else content[0]["content"]

    @property
    def structure(self) -> str | None:
        """How the answer's structure is asked for."""
        body = self.body
        if "response_format" in body:
            return str(body["response_format"]["type"])
        if "format" in body:
            return "schema" if isinstance(body["format"], dict) else str(body["format"])
        return "tool" if "tools" in body else None


@dataclass
class Reply:
    """What the server sends: ``body`` as JSON, or as it is when it is bytes."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut_off: bool = False


def user(request: dict[str, Any]) -> dict[str, Any]:
    """Return an answer that fits the contract of `support.plugin.DOCUMENT`."""
    last = request["endpoint"].rpartition("/")[2]
    status = {"status": 201} if request["method"] == "POST" else {}
    data = {"id": int(last) if last.isdigit() else 7, "name": "Ann"}
    return {"requestId": request["requestId"], "data": data, **status}


def mocks_for(call: Call) -> dict[str, Any]:
    return {"mocks": [user(request) for request in call.batch["requests"]]}


def answer(content: Any, *, end: str | None = None, refusal: str | None = None) -> Behaviour:
    """Return a behaviour that answers so, in the words of the API that is called.

    ``content`` is text, a JSON value, or a function of the call; ``end`` is ``length``.
    """

    def behave(call: Call) -> Reply:
        value = content(call) if callable(content) else content
        text = value if isinstance(value, str) else json.dumps(value)
        if call.path.endswith("/chat/completions"):
            message = {"role": "assistant", "content": text, "refusal": refusal}
            usage = {"prompt_tokens": 100, "completion_tokens": 10}
            choice = {"index": 0, "message": message, "finish_reason": end or "stop"}
            return Reply({"choices": [choice], "usage": usage})
        if call.path == "/api/chat":
            message = {"role": "assistant", "content": text}
            counts = {"prompt_eval_count": 100, "eval_count": 10}
            return Reply({"message": message, "done": True, "done_reason": end or "stop", **counts})
        assert call.path == "/v1/messages"
        block: dict[str, Any] = {"type": "text", "text": refusal or text}
        if refusal is None and not isinstance(value, str):
            block = {"type": "tool_use", "id": "toolu_1", "name": "provide_mocks", "input": value}
        reason = "refusal" if refusal else {"length": "max_tokens", None: "tool_use"}[end]
        usage = {"input_tokens": 60, "cache_read_input_tokens": 40, "output_tokens": 10}
        return Reply({"content": [block], "stop_reason": reason, "usage": usage})

    return behave


def fail(status: int, error: Any = "it failed", **headers: str) -> Behaviour:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda call: Reply({"error": error}, status, named)


def raw(text: str, *, cut_off: bool = False) -> Behaviour:
    """Send bytes as they are; ``cut_off`` closes the connection before they are all there."""
    return lambda call: Reply(text.encode(), cut_off=cut_off)


class ModelServer:
    """The server: it does what ``script`` holds, in order, and answers rightly after that.

    A GET is answered by ``probe``; ``calls`` are the others.
    """

    def __init__(self) -> None:
        self.script: deque[Behaviour] = deque()
        self.calls: list[Call] = []
        self.probes: list[Call] = []
        self.probe: Behaviour = lambda call: Reply({"data": []})
        self.always: Behaviour = answer(mocks_for)
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.arrived = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                call = Call(self.path, self._headers(), None)
                outer.probes.append(call)
                self._send(outer.probe(call))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                call = Call(self.path, self._headers(), body)
                with outer.lock:
                    outer.calls.append(call)
                    behave = outer.script.popleft() if outer.script else outer.always
                outer.arrived.set()
                self._send(behave(call))

            def _headers(self) -> dict[str, str]:
                return {name.lower(): value for name, value in self.headers.items()}

            def _send(self, reply: Reply) -> None:
                body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body)
                data = body if isinstance(body, bytes) else body.encode()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data) + 100 * reply.cut_off))
                self.end_headers()
                self.wfile.write(data)
                self.close_connection = self.close_connection or reply.cut_off

            def log_message(self, *args: Any) -> None:
                pass

            def handle(self) -> None:
                with suppress(ConnectionError):  # the caller has gone
                    super().handle()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def hold(self, then: Behaviour) -> Behaviour:
        """Return a behaviour that waits until `released` is set: a model that thinks for long."""

        def behave(call: Call) -> Reply:
            self.released.wait(60)
            return then(call)

        return behave

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def model_server() -> Iterator[ModelServer]:
    server = ModelServer()
    try:
        yield server
    finally:
        server.close()
