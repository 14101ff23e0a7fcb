"""A control client on `http.client` and plain sockets: what the daemon answers, byte for byte."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
from typing import Any, NamedTuple, Self

from support.ws import HANG_S

JSON = dict[str, Any]


class Answer(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


class RpcError(Exception):
    """The call was answered with an error."""

    def __init__(self, error: JSON) -> None:
        super().__init__(str(error))
        self.code = error["code"]
        self.message = error["message"]
        self.data = error.get("data")


def connect(ipc_path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(HANG_S)
    try:
        sock.connect(ipc_path)
    except BaseException:
        sock.close()
        raise
    return sock


class RawHttp:
    """One connection on which bytes are written as the test says and answers are parsed."""

    def __init__(self, ipc_path: str) -> None:
        self.sock = connect(ipc_path)
        self.file = self.sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> Answer:
        """Return the next answer; 100 Continue is one too."""
        line = self.file.readline().decode()
        assert line.startswith("HTTP/1.1 "), f"not a status line: {line!r}"
        status = int(line.split()[1])
        headers = {}
        while header := self.file.readline().decode().rstrip("\r\n"):
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        size = int(headers.get("content-length", "0"))
        text = self.file.read(size)
        assert len(text) == size
        return Answer(status, json.loads(text) if text else None, headers)

    def at_end(self) -> bool:
        """Wait for the daemon to close; tell whether nothing came before."""
        try:
            return self.file.read(1) == b""
        except ConnectionError:
            return True


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, ipc_path: str) -> None:
        super().__init__("localhost", timeout=HANG_S)
        self._ipc_path = ipc_path

    def connect(self) -> None:
        self.sock = connect(self._ipc_path)


def post(
    token: str | None,
    body: bytes,
    *,
    path: str = "/control",
    method: str = "POST",
    headers: dict[str, str] | None = None,
    length: bool = True,
) -> bytes:
    """Return the bytes of one request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if token is not None:
        lines.append(f"x-mock-mcp-token: {token}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def rpc(method: str, params: Any = None, call_id: Any = 1) -> bytes:
    call = {"jsonrpc": "2.0", "id": call_id, "method": method}
    return json.dumps(call if params is None else call | {"params": params}).encode()


class ControlClient:
    """Control calls, one connection each unless kept."""

    def __init__(self, ipc_path: str, token: str) -> None:
        self.ipc_path = ipc_path
        self.token = token
        self._ids = itertools.count(1)

    def http(
        self,
        body: bytes = b"",
        *,
        method: str = "POST",
        path: str = "/control",
        headers: dict[str, str] | None = None,
        token: str | None = "",
    ) -> Answer:
        """Send one HTTP request; the right token unless another (or None) is given."""
        connection = _UnixConnection(self.ipc_path)
        sent = dict(headers or {})
        token = self.token if token == "" else token
        if token is not None:
            sent["x-mock-mcp-token"] = token
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            text = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, json.loads(text), found)
        finally:
            connection.close()

    def call(self, method: str, **params: Any) -> Any:
        """Return the result of one call.

        Raises:
            RpcError: It was answered with an error.
        """
        call_id = next(self._ids)
        answer = self.http(
            rpc(method, params, call_id), headers={"Content-Type": "application/json"}
        )
        assert answer.body["jsonrpc"] == "2.0"
        assert answer.body["id"] == call_id
        if "error" in answer.body:
            assert "result" not in answer.body
            raise RpcError(answer.body["error"])
        assert answer.status == 200
        return answer.body["result"]

    def health(self) -> JSON:
        answer = self.http(method="GET", path="/health", token=None)
        assert answer.status == 200
        assert isinstance(answer.body, dict)
        return answer.body

    def claim(self, adapter_id: str = "adapter-1", **params: Any) -> JSON:
        """Wait until something can be claimed, and claim it."""
        run = {"runId": params["runId"]} if "runId" in params else {}
        waited = self.call("waitForBatch", waitMs=15_000, **run)
        assert waited["pending"] > 0, "nothing became claimable"
        claim = self.call("claimNextBatch", adapterId=adapter_id, **params)
        assert claim is not None
        assert isinstance(claim, dict)
        return claim

    def provide(self, claim: JSON, mocks: list[Any], adapter_id: str = "adapter-1") -> JSON:
        result = self.call(
            "provideBatch",
            adapterId=adapter_id,
            batchId=claim["batchId"],
            claimToken=claim["claimToken"],
            mocks=mocks,
        )
        assert isinstance(result, dict)
        return result

    def snapshot(self) -> JSON:
        """Return everything the daemon shows of its state but the passing of time."""
        status = self.call("getStatus")
        status.pop("uptime")
        runs = self.call("listRuns")["runs"]
        for run in runs:
            run.pop("lastSeen")
        return {"status": status, "runs": runs, "batches": self.call("listBatches")["batches"]}
