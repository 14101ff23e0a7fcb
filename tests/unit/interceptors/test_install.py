from __future__ import annotations

import asyncio
import contextlib
import contextvars
import http.client
import socket
import subprocess
import sys
import threading
import urllib.request
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests
import urllib3

from mock_mcp.exchange import HostRules, HttpRequest, HttpResponse, NetworkBlocked, TransportFailure
from mock_mcp.interceptors import bypass, install, keep_hooks
from unit.interceptors.clients import chunks_of
from unit.interceptors.servers import FakeExchange, RealServer, free_port, wait_until

OWNERS: list[Any] = [
    httpx.HTTPTransport,
    httpx.AsyncHTTPTransport,
    httpx2.HTTPTransport,
    httpx2.AsyncHTTPTransport,
    requests.adapters.HTTPAdapter,
    http.client.HTTPConnection,
    http.client.HTTPSConnection,
    urllib3.connection.HTTPConnection,
    urllib3.connection.HTTPSConnection,
    aiohttp.BaseConnector,
    aiohttp.TCPConnector,
    aiohttp.helpers.TimerContext,
    socket.socket,
    socket,
]


def everything() -> list[Any]:
    """Return what an installation might change, attribute by attribute."""
    owners = [dict(vars(owner)) for owner in OWNERS]
    return [*owners, list(sys.meta_path), list(sys.path_hooks)]


def test_everything_is_undone_exactly() -> None:
    before = everything()
    with install(FakeExchange()):
        inside = everything()
        assert inside != before
        with install(FakeExchange()):
            assert everything() == inside
        assert everything() == inside
    assert everything() == before


def test_closing_in_any_order_and_twice() -> None:
    before = everything()
    outer, inner = install(FakeExchange()), install(FakeExchange())
    outer.close()
    assert requests.get("http://a.test/", timeout=1).status_code == 200
    outer.close()
    inner.close()
    inner.close()
    assert everything() == before


def test_hooks_are_kept_while_nothing_is_mocked() -> None:
    before = everything()
    server = RealServer()
    with contextlib.closing(server), keep_hooks():
        kept = everything()
        exchange = FakeExchange(rules=HostRules(["a.test"]))
        with install(exchange):
            assert everything() == kept
            assert requests.get("http://a.test/", timeout=1).status_code == 200
            with pytest.raises(NetworkBlocked):
                requests.get("http://b.test/", timeout=1)
        assert everything() == kept
        assert requests.get(f"{server.url}/real", timeout=5).status_code == 200
    assert (len(exchange.requests), len(server.requests)) == (1, 1)
    assert everything() == before


def test_a_failing_test_undoes_too() -> None:
    before = everything()
    with pytest.raises(ZeroDivisionError), install(FakeExchange()):
        raise ZeroDivisionError
    assert everything() == before


def test_installing_in_many_threads() -> None:
    before = everything()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(20):
                with install(FakeExchange(rules=HostRules([f"h{number}.test"]))):
                    assert requests.get(f"http://h{number}.test/", timeout=1).status_code == 200
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert everything() == before


def run(code: str) -> None:
    """Run Python code in a process of its own; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


FAKE = """
import sys
from mock_mcp.exchange import HostRules, HttpResponse
from mock_mcp.interceptors import install
class Fake:
    decide = HostRules().decide
    def handle(self, request, send=None): return HttpResponse.from_mock(request, {"late": True})
    async def handle_async(self, request, send=None): return self.handle(request)
    def blocked(self, error): pass
"""


def test_nothing_heavy_is_imported() -> None:
    run(
        FAKE + "with install(Fake()): pass\n"
        "heavy = {'aiohttp', 'httpx', 'httpx2', 'requests', 'urllib3', 'asyncio', 'ssl',"
        " 'http.client', 'email', 'jsonschema_rs', 'websockets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )


@pytest.mark.parametrize(
    "call",
    [
        "import httpx; assert httpx.get('http://a.test/').json() == {'late': True}",
        "import httpx2; assert httpx2.get('http://a.test/').json() == {'late': True}",
        "import requests; assert requests.get('http://a.test/').json() == {'late': True}",
        "import urllib3; assert urllib3.request('GET', 'http://a.test/').json() == {'late': True}",
        """import aiohttp, asyncio
    async def get():
        async with aiohttp.request('GET', 'http://a.test/') as response:
            return await response.json()
    assert asyncio.run(get()) == {'late': True}""",
        "from urllib.request import urlopen; assert urlopen('http://a.test/').status == 200",
        "from http.client import HTTPConnection as C; c = C('a.test'); c.request('GET', '/')",
    ],
)
def test_a_library_imported_later(call: str) -> None:
    run(FAKE + f"with install(Fake()):\n    {call}\n")


def test_a_library_that_a_thread_is_importing() -> None:
    run(
        FAKE + "import threading\n"
        "thread = threading.Thread(target=__import__, args=('requests',))\n"
        "thread.start()\n"
        "while 'requests' not in sys.modules: pass\n"  # now it runs
        "with install(Fake()):\n"
        "    thread.join()\n"
        "    import requests\n"
        "    assert requests.get('http://a.test/').json() == {'late': True}\n"
    )


# -- What is not ours -------------------------------------------------------------------------


def test_custom_transports_are_not_touched() -> None:
    exchange = FakeExchange()
    with install(exchange):
        transport = httpx.MockTransport(lambda request: httpx.Response(418))
        with httpx.Client(transport=transport) as client:
            assert client.get("http://a.test/").status_code == 418

        class Adapter(requests.adapters.BaseAdapter):
            def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
                response = requests.Response()
                response.status_code = 418
                return response

            def close(self) -> None:
                pass

        with requests.Session() as session:
            session.mount("http://", Adapter())
            assert session.get("http://a.test/").status_code == 418
    assert exchange.requests == []


def test_an_adapter_of_ones_own_sits_on_top() -> None:
    class Adapter(requests.adapters.HTTPAdapter):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            request.headers["X-Signed"] = "yes"
            return super().send(request, *args, **kwargs)

    exchange = FakeExchange()
    with install(exchange), requests.Session() as session:
        session.mount("https://", Adapter())
        session.get("https://a.test/")
    assert exchange.requests[0].header("x-signed") == "yes"


def test_an_adapter_of_another_scheme_goes_its_way() -> None:
    with install(FakeExchange()) as _, requests.Session() as session:
        session.mount("http+docker://", requests.adapters.HTTPAdapter())
        with pytest.raises(requests.exceptions.InvalidURL):  # as without us
            session.get("http+docker://localhost/version")


@pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets")
def test_connections_with_their_own_connect_are_left_alone(tmp_path: Any) -> None:
    class Unix(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(str(tmp_path / "nobody"))

    with (
        install(FakeExchange()),
        contextlib.closing(Unix("docker")) as connection,
        pytest.raises(FileNotFoundError),
    ):
        connection.request("GET", "/")


# -- Things only one library has --------------------------------------------------------------


def test_retries_of_a_requests_adapter() -> None:
    from urllib3.util import Retry

    answers = iter([503, "reset", 200])

    def answer(request: HttpRequest) -> HttpResponse:
        status = next(answers)
        if isinstance(status, str):
            raise TransportFailure(status)
        return HttpResponse.from_mock(request, {}, status=status)

    exchange = FakeExchange(answer)
    with install(exchange), requests.Session() as session:
        retry = Retry(total=3, status_forcelist=[503], backoff_factor=0)
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
        assert session.get("http://a.test/").status_code == 200
    assert len(exchange.requests) == 3


@pytest.mark.parametrize("raises", [True, False])
def test_retries_of_a_requests_adapter_run_out(raises: bool) -> None:
    from urllib3.util import Retry

    exchange = FakeExchange(lambda request: HttpResponse.from_mock(request, {}, status=503))
    with install(exchange), requests.Session() as session:
        retry = Retry(total=2, status_forcelist=[503], raise_on_status=raises)
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
        if raises:
            with pytest.raises(requests.exceptions.RetryError):
                session.get("http://a.test/")
        else:
            assert session.get("http://a.test/").status_code == 503
    assert len(exchange.requests) == 3


def test_every_form_of_a_requests_timeout() -> None:
    from urllib3.util import Timeout

    exchange = FakeExchange(lambda request: HttpResponse.from_mock(request, {}, delay_s=600.0))
    with install(exchange):
        for timeout in (0.01, (None, 0.01), Timeout(total=0.01), Timeout(read=0.01)):
            with pytest.raises(requests.exceptions.ReadTimeout):
                requests.get("http://a.test/", timeout=timeout)  # type: ignore[arg-type]


def test_hooks_and_raw_of_requests() -> None:
    seen: list[int] = []
    with install(FakeExchange(lambda request: HttpResponse.from_mock(request, [1, 2]))):
        response = requests.get(
            "http://a.test/",
            stream=True,
            timeout=5,
            hooks={"response": lambda response, **_: seen.append(response.status_code)},
        )
        assert response.raw.read(3) == b"[1,"
        assert response.raw.read() == b"2]"
        assert response.connection is not None
    assert seen == [200]


def test_a_file_body_of_requests(tmp_path: Any) -> None:
    path = tmp_path / "body.bin"
    path.write_bytes(b"\0bytes of a file")
    exchange = FakeExchange()
    with install(exchange), path.open("rb") as file:
        requests.put("http://a.test/", data=file, timeout=5)
    assert exchange.requests[0].body == b"\0bytes of a file"


@pytest.mark.parametrize("package", [httpx, httpx2])
def test_httpx_on_trio(package: Any) -> None:
    trio = pytest.importorskip("trio")
    together = threading.Barrier(50)

    def answer(request: HttpRequest) -> HttpResponse:
        together.wait(30)
        return HttpResponse.from_mock(request, {})

    statuses: list[int] = []

    async def main() -> None:
        async with package.AsyncClient() as client, trio.open_nursery() as nursery:

            async def fetch() -> None:
                statuses.append((await client.get("http://a.test/")).status_code)

            for _ in range(50):
                nursery.start_soon(fetch)

    with install(FakeExchange(answer)):
        trio.run(main)
    assert statuses == [200] * 50


def test_a_cancelled_httpx_call_is_cancelled_at_the_exchange() -> None:
    cancelled: list[bool] = []

    class Waiting(FakeExchange):
        async def handle_async(self, request: HttpRequest, send: Any = None) -> HttpResponse:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            raise AssertionError

    async def main() -> None:
        async with httpx.AsyncClient() as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await client.get("http://a.test/")

    with install(Waiting()):
        asyncio.run(main())
    assert cancelled == [True]


def test_a_generator_body_of_httpx_cannot_be_sent_twice() -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse.from_mock(request, {}, status=307, headers={"Location": "/again"})

    with install(FakeExchange(answer)), pytest.raises(httpx.StreamConsumed):
        httpx.post("http://a.test/", content=chunks_of(b"x"), follow_redirects=True)


def test_an_explicit_connect_of_http_client() -> None:
    with install(FakeExchange()):
        connection = http.client.HTTPSConnection("a.test")
        connection.connect()
        connection.putrequest("POST", "/")
        connection.putheader("Content-Length", "2")
        connection.endheaders()
        connection.send(b"hi")
        response = connection.getresponse()
        assert response.read() == b'{"method":"POST","body":"hi"}'
        connection.close()


def test_a_url_error_has_the_reason() -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        raise TransportFailure("refused")

    with (
        install(FakeExchange(answer)),
        pytest.raises(urllib.error.URLError) as caught,
    ):
        urllib.request.urlopen("http://a.test/")
    assert isinstance(caught.value.reason, ConnectionRefusedError)


# -- Threads and contexts ---------------------------------------------------------------------


def test_a_leftover_thread_passes_after_the_end() -> None:
    server = RealServer()
    rules = HostRules(["127.0.0.1"])
    mocked, ended = threading.Event(), threading.Event()
    seen: list[int] = []

    def work() -> None:
        with httpx.Client() as client:
            seen.append(client.get(server.url).status_code)
            mocked.set()
            ended.wait(30)
            seen.append(client.get(server.url).status_code)

    def teapot(request: HttpRequest) -> HttpResponse:
        return HttpResponse.from_mock(request, {}, status=418)

    try:
        with install(FakeExchange(teapot, rules)):
            thread = threading.Thread(target=work)
            thread.start()
            assert mocked.wait(30)
        ended.set()
        thread.join(30)
    finally:
        server.close()
    assert seen == [418, 200]


def test_bypass_reaches_the_real_server_in_this_context_only() -> None:
    server = RealServer()
    rules = HostRules(["127.0.0.1"])
    exchange = FakeExchange(lambda request: HttpResponse.from_mock(request, {}, status=418), rules)
    url = server.url
    try:
        with install(exchange):
            with bypass():
                assert httpx.get(url).status_code == 200
                elsewhere = contextvars.Context()
                assert elsewhere.run(httpx.get, url).status_code == 418
            assert httpx.get(url).status_code == 418
    finally:
        server.close()


def test_an_exchange_may_make_calls_itself() -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        if request.url.endswith("/outer"):
            inner = requests.get("http://a.test/inner", timeout=5)
            return HttpResponse.from_mock(request, inner.json())
        return HttpResponse.from_mock(request, "inner")

    with install(FakeExchange(answer)):
        assert httpx.get("http://a.test/outer").json() == "inner"


# -- The guard --------------------------------------------------------------------------------


def test_a_raw_connection_is_refused_by_name() -> None:
    exchange = FakeExchange()
    with install(exchange), socket.socket() as sock:
        with pytest.raises(NetworkBlocked, match=r"192\.0\.2\.1:5432") as caught:
            sock.connect(("192.0.2.1", 5432))
        assert exchange.refusals == [caught.value]
        with pytest.raises(NetworkBlocked, match="connect_ex"):
            sock.connect_ex(("192.0.2.1", 5432))
    assert not isinstance(caught.value, OSError)


def test_a_look_up_is_refused_by_name() -> None:
    with install(FakeExchange()):
        for look_up in (socket.gethostbyname, socket.gethostbyname_ex):
            with pytest.raises(NetworkBlocked, match=r"db\.test"):
                look_up("db.test")
        with pytest.raises(NetworkBlocked, match=r"db\.test"):
            socket.getaddrinfo("db.test", 5432)
        with pytest.raises(NetworkBlocked, match=r"db\.test"):
            socket.create_connection(("db.test", 5432))


def test_what_hosts_leaves_out_is_refused_for_that() -> None:
    """A misspelt host refuses what should be mocked: the message names the setting."""
    with install(FakeExchange(rules=HostRules(["api.exmaple.test"]))):
        with pytest.raises(NetworkBlocked, match="Correct hosts= if it was meant"):
            urllib3.PoolManager().request("GET", "http://api.example.test/a")
        with pytest.raises(NetworkBlocked, match="none of the hosts that hosts= names"):
            socket.getaddrinfo("api.example.test", 5432)


def test_datagrams_are_refused() -> None:
    with install(FakeExchange()), socket.socket(type=socket.SOCK_DGRAM) as sock:
        for send in (sock.sendto, lambda data, address: sock.sendmsg([data], [], 0, address)):
            with pytest.raises(NetworkBlocked, match=r"192\.0\.2\.1:53"):
                send(b"x", ("192.0.2.1", 53))
        with pytest.raises(NetworkBlocked):
            sock.sendto(b"x", 0, ("192.0.2.1", 53))


def test_asyncio_streams_are_refused() -> None:
    async def connect(host: str) -> None:
        await asyncio.open_connection(host, 5432)

    with install(FakeExchange()):
        for host in ("db.test", "192.0.2.1"):
            with pytest.raises(NetworkBlocked, match=host):
                asyncio.run(connect(host))


def test_what_may_connect() -> None:
    async def pair() -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("localhost", port, family=socket.AF_INET)
        assert await reader.read() == b""
        writer.close()
        server.close()

    with install(FakeExchange()):
        asyncio.run(pair())
        ours, theirs = socket.socketpair()
        ours.close()
        theirs.close()
        assert socket.getaddrinfo(None, 80)
        assert socket.getaddrinfo("127.0.0.1", 80)
        assert socket.getaddrinfo(socket.gethostname(), 80)
        with socket.socket() as sock:
            assert sock.connect_ex(("127.0.0.1", free_port())) != 0
            with pytest.raises(TypeError):
                sock.connect()  # type: ignore[call-arg]


def test_loopback_can_be_refused() -> None:
    with (
        install(FakeExchange(rules=HostRules(loopback=False))),
        socket.socket() as sock,
        pytest.raises(NetworkBlocked, match="not allowed"),
    ):
        sock.connect(("127.0.0.1", 80))


def test_an_allowed_name_allows_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port: found)
    rules = HostRules(passthrough=["db.test:5432"])
    with install(FakeExchange(rules=rules)), socket.socket() as sock:
        sock.setblocking(False)  # nobody answers at this address
        socket.getaddrinfo("db.test", 5432)
        assert sock.connect_ex(("192.0.2.7", 5432)) != 0
        with pytest.raises(NetworkBlocked):
            sock.connect(("192.0.2.7", 5433))
        with pytest.raises(NetworkBlocked):
            sock.connect(("192.0.2.8", 5432))


def test_a_library_without_a_hook_is_refused_and_told_why() -> None:
    httpcore = pytest.importorskip("httpcore")  # what httpx is built on, used by itself
    with (
        install(FakeExchange()),
        pytest.raises(NetworkBlocked, match=r"'a\.test' .* does not intercept"),
    ):
        httpcore.request("GET", "https://a.test/")


def test_without_blocking_the_rest_passes() -> None:
    server = RealServer()
    rules = HostRules(["a.test"], loopback=False)
    try:
        with install(FakeExchange(rules=rules), block_network=False):
            assert requests.get(server.url, timeout=5).status_code == 200
            assert urllib.request.urlopen(server.url).status == 200
            assert requests.get("http://a.test/", timeout=5).status_code == 200
    finally:
        server.close()
    wait_until(lambda: len(server.requests) == 2)
