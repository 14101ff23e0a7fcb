"""From a URL and a method to the operation."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.contract.document import load_document
from mock_mcp.contract.errors import NoOperation
from mock_mcp.contract.finder import Finder

OPERATION = {"responses": {"200": {"description": "ok"}}}


def finder(tmp_path: Path, paths: list[str], server: str | None = None, **more: Any) -> Finder:
    raw = {"openapi": "3.0.0", "paths": {path: {"get": OPERATION} for path in paths}, **more}
    path = tmp_path / "api.json"
    path.write_text(json.dumps(raw))
    return Finder(load_document(path, server=server))


@pytest.mark.parametrize(
    ("url", "template", "parameters"),
    [
        ("/users", "/users", {}),
        ("/users?x=/a/b#c", "/users", {}),
        ("/users/me", "/users/me", {}),
        ("/users/7", "/users/{id}", {"id": "7"}),
        ("/users/a%2Fb", "/users/{id}", {"id": "a/b"}),
        ("/users/me/repos", "/users/{id}/repos", {"id": "me"}),
        ("/compare/a...b", "/compare/{base}...{head}", {"base": "a", "head": "b"}),
        ("/compare/plain", "/compare/{one}", {"one": "plain"}),
        ("/report.pdf", "/report.{ext}", {"ext": "pdf"}),
        ("/items/5:cancel", "/items/{id}:cancel", {"id": "5"}),
        ("/a/b/c", "/a/b/{y}", {"y": "c"}),
        ("/a/q/c", "/a/{x}/c", {"x": "q"}),
        ("/a/b/d", "/a/b/{y}", {"y": "d"}),
        ("/space%20d", "/space d", {}),
    ],
)
def test_static_before_mixed_before_parameter(
    tmp_path: Path, url: str, template: str, parameters: dict[str, str]
) -> None:
    paths = [
        "/users", "/users/{id}", "/users/me", "/users/{id}/repos", "/compare/{one}",
        "/compare/{base}...{head}", "/report.{ext}", "/items/{id}", "/items/{id}:cancel",
        "/a/{x}/c", "/a/b/{y}", "/space d",
    ]  # fmt: skip
    match = finder(tmp_path, paths).find(url, "GET")
    assert match.operation.path == template
    assert match.path_parameters == parameters


@pytest.mark.parametrize(
    ("servers", "url", "found"),
    [
        (["https://api.test"], "https://api.test/x", True),
        (["https://api.test/"], "http://api.test/x", True),
        (["https://api.test"], "https://API.test:443/x", True),
        (["https://api.test"], "https://api.test:8443/x", False),
        (["https://api.test"], "https://other.test/x", False),
        (["https://api.test/v1"], "https://api.test/v1/x", True),
        (["https://api.test/v1"], "https://api.test/v10/x", False),
        (["https://api.test/v1"], "/v1/x", True),
        (["https://api.test/v1"], "/x", True),
        (["/v1"], "https://any.test/v1/x", True),
        (["/v1"], "https://any.test/x", False),
        (["https://a.test", "https://a.test/v2"], "https://a.test/v2/x", True),
        ([], "https://any.test/x", True),
        (["https://api.test"], "https://user:pw@api.test/x", True),
    ],
)
def test_servers(tmp_path: Path, servers: list[str], url: str, found: bool) -> None:
    index = finder(tmp_path, ["/x"], servers=[{"url": server} for server in servers])
    if found:
        assert index.find(url, "get").operation.path == "/x"
    else:
        with pytest.raises(NoOperation):
            index.find(url, "get")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://eu.api.test/v2/x", True),
        ("https://us.api.test/v2/x", True),
        ("https://asia.api.test/v2/x", False),
        ("https://eu.api.test/anything/x", True),
    ],
)
def test_server_variables(tmp_path: Path, url: str, found: bool) -> None:
    variables = {"region": {"enum": ["eu", "us"], "default": "eu"}, "base": {"default": "v2"}}
    server = {"url": "https://{region}.api.test/{base}", "variables": variables}
    index = finder(tmp_path, ["/x"], servers=[server])
    if found:
        assert index.find(url, "GET").operation.path == "/x"
    else:
        with pytest.raises(NoOperation):
            index.find(url, "GET")


@pytest.mark.parametrize(
    ("server", "url", "found"),
    [
        ("https://api.test:{port}", "https://api.test/x", True),
        ("https://api.test:{port}", "https://api.test:443/x", True),
        ("https://api.test:{port}", "https://api.test:8443/x", True),
        ("https://api.test:{port}", "https://api.test:9443/x", False),
        ("https://{host}:{port}", "https://api.test:9443/x", False),
        ("{scheme}://api.test:{port}", "http://api.test:443/x", True),
        ("{scheme}://api.test:{port}", "https://api.test/x", True),
        ("http://api.test:{port}", "http://api.test/x", False),
    ],
)
def test_a_call_may_leave_the_default_port_out(
    tmp_path: Path, server: str, url: str, found: bool
) -> None:
    variables = {"port": {"enum": ["443", "8443"], "default": "8443"}}
    index = finder(tmp_path, ["/x"], servers=[{"url": server, "variables": variables}])
    if found:
        assert index.find(url, "GET").operation.path == "/x"
    else:
        with pytest.raises(NoOperation):
            index.find(url, "GET")


def test_a_given_server_replaces_the_documents_own(tmp_path: Path) -> None:
    servers = [{"url": "https://api.test/v1"}]
    index = finder(tmp_path, ["/x"], "http://localhost:8000/api", servers=servers)
    assert index.find("http://localhost:8000/api/x", "GET").operation.path == "/x"
    with pytest.raises(NoOperation) as caught:
        index.find("https://api.test/v1/x", "GET")
    assert caught.value.keyword == "server"


def test_servers_of_an_operation_that_name_no_url_do_not_count(tmp_path: Path) -> None:
    raw = {
        "openapi": "3.0.0",
        "servers": [{"url": "https://api.test"}],
        "paths": {"/x": {"get": {**OPERATION, "servers": [{"description": "no URL"}]}}},
    }
    path = tmp_path / "api.json"
    path.write_text(json.dumps(raw))
    index = Finder(load_document(path))
    assert index.find("https://api.test/x", "GET").operation.method == "get"


def test_threads_that_find_first_at_once_find_the_same(tmp_path: Path) -> None:
    index = finder(tmp_path, [f"/{a}/{b}/{{id}}" for a in "abcdefgh" for b in "abcdefgh"])
    urls = [f"/{a}/{b}/1" for a in "abcdefgh" for b in "abcdefgh"]
    start = threading.Barrier(8)

    def find_all(_: int) -> list[str]:
        start.wait()
        return [index.find(url, "GET").operation.path for url in urls]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(find_all, range(8)))
    assert found == [[url.replace("/1", "/{id}") for url in urls]] * 8


def test_servers_of_an_operation_win(tmp_path: Path) -> None:
    raw = {
        "openapi": "3.0.0",
        "servers": [{"url": "https://api.test"}],
        "paths": {
            "/x": {"get": OPERATION, "post": {**OPERATION, "servers": [{"url": "https://up.test"}]}}
        },
    }
    path = tmp_path / "api.json"
    path.write_text(json.dumps(raw))
    index = Finder(load_document(path))
    assert index.find("https://up.test/x", "POST").operation.method == "post"
    assert index.find("https://api.test/x", "GET").operation.method == "get"
    with pytest.raises(NoOperation) as caught:
        index.find("https://api.test/x", "POST")
    assert caught.value.candidates == ("GET",)


def test_swagger_host_and_base_path(tmp_path: Path) -> None:
    path = tmp_path / "api.json"
    raw = {"swagger": "2.0", "host": "api.test", "basePath": "/v1", "paths": {"/x": {"get": {}}}}
    path.write_text(json.dumps(raw))
    document = load_document(path)
    assert document.servers == ("https://api.test/v1",)
    assert Finder(document).find("http://api.test/v1/x", "GET").operation.path == "/x"


def test_a_parameter_may_span_segments_where_the_document_says_so(tmp_path: Path) -> None:
    parameter = {"name": "path", "in": "path", "required": True, "x-multi-segment": True}
    raw = {
        "openapi": "3.0.0",
        "paths": {"/contents/{path}": {"get": {**OPERATION, "parameters": [parameter]}}},
    }
    file = tmp_path / "api.json"
    file.write_text(json.dumps(raw))
    match = Finder(load_document(file)).find("/contents/src/a.py", "GET")
    assert match.path_parameters == {"path": "src/a.py"}


def test_a_path_with_a_query_needs_it(tmp_path: Path) -> None:
    index = finder(tmp_path, ["/x", "/x?beta=true"])
    assert index.find("/x?a=1&beta=true", "GET").operation.path == "/x?beta=true"
    assert index.find("/x?beta=false", "GET").operation.path == "/x"


def test_head_is_answered_by_get(tmp_path: Path) -> None:
    assert finder(tmp_path, ["/x"]).find("/x", "HEAD").operation.method == "get"


@pytest.mark.parametrize("url", ["/users/", "//users", "/users//repos", "", "/", "users/1/2/3"])
def test_near_misses_do_not_match(tmp_path: Path, url: str) -> None:
    with pytest.raises(NoOperation):
        finder(tmp_path, ["/users", "/users/{id}", "/users/{id}/repos"]).find(url, "GET")


def test_the_nearest_paths_are_named(tmp_path: Path) -> None:
    index = finder(tmp_path, ["/pet/{petId}", "/store/order", "/pet/findByStatus"])
    with pytest.raises(NoOperation) as caught:
        index.find("/pets/7", "GET")
    assert caught.value.keyword == "path"
    assert caught.value.candidates[0] == "/pet/{petId}"
    assert "/pet/{petId}" in str(caught.value)


def test_a_path_below_no_server_is_told_the_servers(tmp_path: Path) -> None:
    path = tmp_path / "api.json"
    servers = [{"url": "https://api.test/v2"}, {"url": "https://other.test/v1"}]
    path.write_text(json.dumps({"openapi": "3.0.0", "servers": servers, "paths": {"/x": {}}}))
    with pytest.raises(NoOperation) as caught:
        Finder(load_document(path)).find("https://api.test/v1/x", "GET")
    assert caught.value.keyword == "path"
    assert f"/v1/x is below none of the servers of {path}: https://api.test/v2." in str(
        caught.value
    )


def test_the_methods_that_exist_are_named(tmp_path: Path) -> None:
    with pytest.raises(NoOperation) as caught:
        finder(tmp_path, ["/x"]).find("/x", "DELETE")
    assert caught.value.keyword == "method"
    assert caught.value.candidates == ("GET",)


def test_templates_that_differ_only_in_names_share_a_path(tmp_path: Path) -> None:
    raw = {"openapi": "3.0.0", "paths": {"/a/{x}": {"get": {}}, "/a/{y}": {"put": {}}}}
    path = tmp_path / "api.json"
    path.write_text(json.dumps(raw))
    index = Finder(load_document(path))
    assert index.find("/a/1", "PUT").path_parameters == {"y": "1"}
    assert index.find("/a/1", "GET").path_parameters == {"x": "1"}


def test_a_hostile_template_cannot_make_a_match_slow(tmp_path: Path) -> None:
    index = finder(tmp_path, ["/" + "{a}a" * 30 + "b", *("/{x}" * n + "/z" for n in range(1, 40))])
    with pytest.raises(NoOperation):
        index.find("/" + "a" * 20_000, "GET")
    with pytest.raises(NoOperation):
        index.find("/a" * 1000, "GET")
