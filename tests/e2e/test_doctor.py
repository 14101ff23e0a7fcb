"""`mock-mcp doctor`: each thing is broken on purpose, named, and repaired as it says."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mock_mcp import __version__
from mock_mcp.cli import main
from mock_mcp.runtime.project import compute_project_id
from support.command import HANG_S, PLUGIN, execute, run_module, user_environment
from support.daemons import DaemonProcess
from support.ws import eventually

PETSTORE = Path(__file__).parents[2] / "src/mock_mcp/demo/petstore.json"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
TEST = """
import urllib.request
import pytest

@pytest.mark.mock_mcp
def test_pet():
    url = "https://petstore.example.com/v1/pets/11"
    assert urllib.request.urlopen(url).status == 200
"""


class Place:
    """A project of a user, healthy but for its clients."""

    def __init__(self, place: Path, root: Path, cache: Path) -> None:
        self.home, self.root, self.bin, self.cache = place / "home", root, place / "bin", cache
        self.home.mkdir()
        self.bin.mkdir()
        # What repairs call, as in an active environment.
        for name, module in (("mock-mcp", "-m mock_mcp"), ("pytest", "-m pytest")):
            script = self.bin / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
            script.chmod(0o755)
        self.env = user_environment(self.home, self.bin, cache)
        shutil.copy(PETSTORE, root / "openapi.json")
        (root / "pyproject.toml").write_text('[tool.mock-mcp]\nopenapi = ["openapi.json"]\n')

    @property
    def id(self) -> str:
        return compute_project_id(self.root)

    @property
    def socket(self) -> Path:
        return self.cache / "mock-mcp" / f"{self.id}.sock"

    @property
    def registry(self) -> Path:
        return self.cache / "mock-mcp" / f"{self.id}.json"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.shell([sys.executable, "-m", "mock_mcp", *arguments])

    def shell(self, command: str | list[str]) -> subprocess.CompletedProcess[str]:
        return execute(command, cwd=self.root, env=self.env)

    def repair(self, check: dict[str, Any]) -> None:
        """Do what a finding says, where that is a command."""
        command = check["repair"].partition(" (")[0].replace("mock-mcp init", "mock-mcp init --yes")
        done = self.shell(command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    def examine(self, code: int = 0) -> dict[str, list[dict[str, Any]]]:
        """Return the doctor's findings by name."""
        told = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(told):
            for name in set(os.environ) - set(self.env):
                patch.delenv(name)
            for name, value in self.env.items():
                patch.setenv(name, value)
            patch.chdir(self.root)
            assert main(["doctor", "--json"]) == code, told.getvalue()
        report = json.loads(told.getvalue())
        assert report["ok"] == (code == 0)
        assert report["projectRoot"] == str(self.root)
        assert report["version"] == __version__
        found: dict[str, list[dict[str, Any]]] = {}
        for check in report["checks"]:
            assert check["message"]
            assert ("repair" in check) == (check["status"] in ("warning", "error")) or (
                check["status"] == "note"
            )
            found.setdefault(check["name"], []).append(check)
        return found

    def finding(self, name: str, status: str) -> dict[str, Any]:
        """Return the one finding of a name that is not well."""
        found = self.examine(1 if status == "error" else 0)[name]
        (check,) = [each for each in found if each["status"] == status]
        return check

    def well(self, name: str) -> None:
        """Assert that all is well again."""
        found = self.examine()
        assert {each["status"] for each in found[name]} <= {"ok", "note"}, found[name]

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture
def place(tmp_path: Path, project: Path, cache_dir: Path) -> Place:
    return Place(tmp_path, project, cache_dir)


@pytest.fixture
def configured(place: Place) -> Place:
    made = place.run("init", "--yes", "--client", "claude-code")
    assert made.returncode == 0, made.stderr
    return place


@pytest.fixture
def daemon(place: Place) -> Iterator[DaemonProcess]:
    process = DaemonProcess(place.root, place.cache)
    try:
        yield process.wait_ready()
    finally:
        process.close()


def test_a_healthy_project_is_said_to_be_so(configured: Place):
    found = configured.examine()
    names = ["project", "environment", "cache", "daemon", "clients", "libraries", "contract"]
    assert list(found) == [*names[:2], "mode", *names[2:], "recordings"]
    assert all(check["status"] in ("ok", "note") for checks in found.values() for check in checks)
    assert "3 operations" in found["contract"][0]["message"]
    assert "urllib" in found["libraries"][-1]["message"]
    told = configured.run("doctor")
    assert told.returncode == 0
    assert told.stdout.endswith("Everything is all right.\n")


def test_people_read_the_repair_below_what_is_wrong(place: Place):
    (place.root / "openapi.json").unlink()
    told = place.run("doctor")
    assert told.returncode == 1
    line = next(line for line in told.stdout.splitlines() if line.startswith("ERROR"))
    assert "openapi.json" in line
    assert "\n                      repair: Correct the document" in told.stdout
    assert "1 error, 1 warning" in told.stdout


# -- Project, environment, cache --------------------------------------------------------------


def test_a_directory_that_is_no_project(place: Place):
    (place.root / "pyproject.toml").unlink()
    assert "none of .git" in place.finding("project", "warning")["message"]
    (place.root / ".git").mkdir()
    place.well("project")


def test_a_plugin_that_pytest_does_not_load(place: Place):
    place.env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    check = place.finding("environment", "warning")
    assert "-p mock_mcp.pytest_plugin" in check["repair"]


def test_ci_where_nobody_is_asked(place: Place):
    place.env["CI"] = "true"
    assert "CI is set" in place.examine()["mode"][0]["message"]
    place.env |= {"CI": "false", "MOCK_MCP": "0"}
    assert "MOCK_MCP is not set" in place.examine()["mode"][0]["message"]
    place.env["MOCK_MCP"] = "1"
    assert "mode" not in place.examine()


@POSIX
def test_a_cache_directory_that_others_can_write_to(place: Place):
    (place.cache / "mock-mcp").mkdir()
    (place.cache / "mock-mcp").chmod(0o777)
    check = place.finding("cache", "error")
    assert "can be written by others" in check["message"]
    place.shell(check["repair"].partition(";")[0])
    place.well("cache")


@POSIX
def test_a_cache_directory_that_is_a_link(place: Place):
    (place.cache / "mock-mcp").symlink_to(place.home)
    check = place.finding("cache", "error")
    assert "is a symbolic link" in check["message"]
    assert "remove it" in check["repair"]
    (place.cache / "mock-mcp").unlink()
    place.well("cache")


# -- The daemon -------------------------------------------------------------------------------


def test_a_daemon_that_answers(place: Place, daemon: DaemonProcess):
    (check,) = place.examine()["daemon"]
    assert check["status"] == "ok"
    assert f"pid {daemon.process.pid}, version {__version__}" in check["message"]


@POSIX
def test_a_daemon_that_is_stuck(place: Place, daemon: DaemonProcess):
    daemon.process.send_signal(signal.SIGSTOP)
    check = place.finding("daemon", "error")
    assert "did not answer" in check["message"]
    assert f"kill -9 {daemon.process.pid}" in check["repair"]
    os.kill(int(check["repair"].partition("kill -9 ")[2].partition(")")[0]), signal.SIGKILL)
    daemon.wait_end()
    place.repair(place.finding("daemon", "warning"))  # what it left behind
    place.well("daemon")


@POSIX
def test_a_registry_left_by_a_daemon_that_was_killed(place: Place, daemon: DaemonProcess):
    daemon.process.kill()
    daemon.wait_end()
    check = place.finding("daemon", "warning")
    assert str(place.registry) in check["message"]
    place.repair(check)
    place.well("daemon")


@POSIX
def test_a_registry_that_was_edited(place: Place, daemon: DaemonProcess):
    daemon.process.send_signal(signal.SIGSTOP)  # it would write it again
    entry = json.loads(place.registry.read_text())
    place.registry.write_text(json.dumps({**entry, "ipcPath": "/tmp/other.sock"}))
    check = place.finding("daemon", "error")
    assert "it was edited" in check["message"]
    place.repair(check)
    daemon.process.send_signal(signal.SIGCONT)
    eventually(place.registry.exists)
    place.well("daemon")


def test_a_daemon_of_another_version(place: Place, cache_dir: Path):
    code = (
        "from mock_mcp import _version; _version.__version__ = '0.0.9'\n"
        f"import sys; sys.argv = ['x', 'daemon', '--project-root', {str(place.root)!r}]\n"
        "from mock_mcp.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=place.env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Serving")
        check = place.finding("daemon", "warning")
        assert "version 0.0.9" in check["message"]
        assert f"mock-mcp {__version__}" in check["message"]
        place.repair(check)
        process.wait(HANG_S)
        place.well("daemon")
    finally:
        process.kill()
        process.communicate()


# -- MCP clients ------------------------------------------------------------------------------


def test_no_client_is_configured(configured: Place):
    (configured.root / ".mcp.json").unlink()
    check = configured.finding("clients", "warning")
    assert check["repair"] == "mock-mcp init"
    configured.shell("mock-mcp init --yes --client cursor")
    configured.well("clients")


def test_a_command_that_is_gone(configured: Place):
    configured.edit(".mcp.json", sys.executable, "/gone/python")
    found = configured.examine(1)["clients"]
    assert [check["status"] for check in found] == ["error", "error"]
    assert "/gone/python" in found[0]["message"]
    assert "cannot be started" in found[0]["message"]
    configured.repair(found[0])
    configured.well("clients")


def test_a_command_that_lies_on_the_path_of_an_active_environment_only(configured: Place):
    (configured.root / ".mcp.json").write_text(
        '{"mcpServers": {"mock-mcp": {"command": "mock-mcp", "args": ["adapter"]}}}'
    )
    configured.env["PATH"] = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    found = configured.examine(1)["clients"]
    assert "`mock-mcp adapter` cannot be started" in found[0]["message"]


def test_an_adapter_without_its_extra(configured: Place):
    broken = configured.home / "broken"
    (broken / "mcp").mkdir(parents=True)
    (broken / "mcp" / "__init__.py").write_text("raise ModuleNotFoundError(name='mcp')")
    entry = json.loads((configured.root / ".mcp.json").read_text())
    entry["mcpServers"]["mock-mcp"]["env"] = {"PYTHONPATH": str(broken)}
    (configured.root / ".mcp.json").write_text(json.dumps(entry))
    found = configured.examine(1)["clients"]
    assert "does not speak MCP" in found[0]["message"]
    assert "pip install 'mock-mcp[adapter]'" in found[0]["message"]
    configured.repair(found[0])
    configured.well("clients")


def test_a_server_of_that_name_that_is_another(configured: Place):
    (configured.root / ".mcp.json").write_text('{"mcpServers": {"mock-mcp": {"command": "npx"}}}')
    found = configured.examine(1)["clients"]
    assert found[0]["status"] == "warning"
    assert "starts something else" in found[0]["message"]


def test_a_configuration_that_is_broken(configured: Place):
    (configured.root / ".mcp.json").write_text('{"mcpServers": {')
    found = configured.examine(1)["clients"]
    assert ".mcp.json:1: " in found[0]["message"]
    assert "by hand" in found[0]["repair"]


def test_an_adapter_of_another_version(configured: Place):
    (configured.bin / "uvx").write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -c "from mock_mcp import _version\n'
        "_version.__version__ = '0.0.9'\nimport sys; sys.argv = ['x', 'adapter']\n"
        'from mock_mcp.cli import main; main()"\n'
    )
    (configured.bin / "uvx").chmod(0o755)
    configured.shell("mock-mcp init --yes --client claude-code --launcher uvx")
    configured.edit(".mcp.json", f"~={__version__}", "~=0.0.9")
    check = configured.finding("clients", "warning")
    assert "mock-mcp 0.0.9" in check["message"]
    (configured.bin / "uvx").unlink()
    found = configured.examine(1)["clients"]
    assert "`uvx --from" in found[0]["message"]
    assert found[0]["repair"].startswith("Install uv ")
    configured.repair(check)
    configured.well("clients")


# -- Contract and recordings ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "right", "wrong", "said"),
    [
        ("pyproject.toml", "openapi =", "open_api =", "'open_api'"),
        ("openapi.json", '"paths"', '"paths', "openapi.json"),
    ],
    ids=["settings", "document"],
)
def test_a_contract_that_cannot_be_used(place: Place, file: str, right: str, wrong: str, said: str):
    place.edit(file, right, wrong)
    assert said in place.finding("contract", "error")["message"]
    place.edit(file, wrong, right)
    place.well("contract")


def test_a_document_that_is_not_registered(place: Place):
    (place.root / "pyproject.toml").write_text("")
    check = place.finding("contract", "warning")
    assert "openapi.json" in check["message"]
    (place.root / ".cursor").mkdir()  # a client in use
    place.repair(check)
    place.well("contract")


@pytest.fixture
def recorded(place: Place) -> Place:
    (place.root / "test_pets.py").write_text(TEST)
    made = record(place, "--mock-mode=once")
    assert made.returncode == 0, made.stdout
    return place


def record(place: Place, *options: str) -> subprocess.CompletedProcess[str]:
    return run_module(place.root, place.cache, "pytest", *PLUGIN, "--mock-source=example", *options)


def test_recordings_that_fit(recorded: Place):
    assert recorded.examine()["recordings"][0]["message"] == (
        "1 recording, 1 call as the contract has it"
    )


def test_a_recording_that_no_longer_fits(recorded: Place):
    document = json.loads((recorded.root / "openapi.json").read_text())
    document["components"]["schemas"]["Pet"]["required"].append("chip")
    document["components"]["schemas"]["Pet"]["properties"]["chip"] = {"type": "integer"}
    for operations in document["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values() if "responses" in operation else ():
                for media in response.get("content", {}).values():
                    media.pop("example", None)
                    media.pop("examples", None)
    (recorded.root / "openapi.json").write_text(json.dumps(document))
    check = recorded.finding("recordings", "error")
    assert "test_pet.json" in check["message"]
    assert "test_pets.py" in check["repair"]
    recorded.repair(check)
    recorded.well("recordings")


def test_a_recording_that_cannot_be_read(recorded: Place):
    path = recorded.root / "__mocks__/test_pets/test_pet.json"
    text = path.read_text()
    path.write_text(text[:-20])
    assert str(path) in recorded.finding("recordings", "error")["message"]
    path.write_text(text)
    recorded.well("recordings")


def test_a_recording_of_no_test(recorded: Place):
    (recorded.root / "test_pets.py").unlink()
    check = recorded.finding("recordings", "warning")
    assert "there is no test_pets.py" in check["message"]
    assert check["repair"] == "pytest --mock-prune"
