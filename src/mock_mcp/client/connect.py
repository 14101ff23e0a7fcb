"""`connect` and `connect_sync`: the door of the test side."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeAlias, TypedDict, Unpack

from mock_mcp.client.collector import BatchMockCollector, SyncBatchMockCollector
from mock_mcp.client.encode import is_utf8
from mock_mcp.client.engine import Engine, Settings, is_duration
from mock_mcp.client.police import ContractMode, OpenApi, Police
from mock_mcp.errors import ConfigurationError
from mock_mcp.limits import Limits
from mock_mcp.runtime.cache import is_on
from mock_mcp.runtime.loops import in_asyncio
from mock_mcp.runtime.project import Project
from mock_mcp.runtime.shield import shielded

__all__ = ["ConnectOptions", "connect", "connect_sync", "is_enabled"]

_Kind: TypeAlias = tuple[tuple[type, ...], str]

_LOGGER = logging.getLogger("mock_mcp.client")
_PATH: _Kind = (str, os.PathLike, type(None)), "a path"
_SECONDS: _Kind = (int, float, type(None)), "a number of seconds"
_KINDS: Mapping[str, _Kind] = {
    "project_root": _PATH,
    "file_path": _PATH,
    "test_name": ((str, type(None)), "text"),
    "run_id": ((str,), "text"),
    "cache_dir": _PATH,
    "timeout_s": _SECONDS,
    "connect_timeout_s": ((int, float), "a number of seconds"),
    "heartbeat_s": _SECONDS,
    "debounce_s": _SECONDS,
    "max_batch_size": ((int,), "a whole number"),
    "limits": ((Limits,), "a Limits"),
}


def is_enabled() -> bool:
    """Tell whether ``MOCK_MCP`` asks for mocks: set, and not ``0`` or ``false``."""
    return is_on("MOCK_MCP")


class _Connecting:
    """What `connect` returns: await it, or use it with ``async with``."""

    def __init__(self, settings: Settings, police: Police | None) -> None:
        self._settings = settings
        self._police = police
        self._collector: BatchMockCollector | None = None

    def __await__(self) -> Generator[Any, None, BatchMockCollector]:
        return self._connect().__await__()

    async def _connect(self) -> BatchMockCollector:
        if self._police is None:
            return BatchMockCollector(self._settings, None, None)
        if not in_asyncio():
            raise ConfigurationError(
                "connect() needs asyncio, and no event loop of it runs here. Under trio call "
                "connect_sync() and its request_mock in a thread (trio.to_thread.run_sync)."
            )
        engine = Engine(self._settings)
        try:
            await shielded(asyncio.wrap_future(engine.start()))
        except BaseException:
            engine.stop()
            raise
        return BatchMockCollector(self._settings, engine, self._police)

    async def __aenter__(self) -> BatchMockCollector:
        self._collector = await self._connect()
        return self._collector

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._collector is not None:
            await self._collector.close()


class ConnectOptions(TypedDict, total=False):
    """The options of `connect` and `connect_sync`, all of them keywords.

    Attributes:
        project_root: The project; when not given it is found from ``file_path``, else from the
            working directory.
        file_path: The test's file; shown to the assistant.
        test_name: The test's name; shown to the assistant.
        run_id: The run's id; a new one by default.
        cache_dir: The directory that holds ``mock-mcp/`` (default: ``MOCK_MCP_CACHE_DIR``, else
            the user's cache).
        timeout_s: Seconds a request waits for its mock (60); None for ever.
        connect_timeout_s: Seconds to wait for the daemon (15).
        heartbeat_s: Seconds between signs of life (15); None for none.
        debounce_s: Seconds a request waits for others to share its batch; by default async requests
            wait for the end of the turn of their event loop, sync ones 5 ms.
        max_batch_size: Most requests in one batch (50).
        openapi: OpenAPI documents of this client's APIs, beside the project's: a path, or
            ``{"path": …, "server": …}``, or several. Relative paths are relative to the project.
        contract: How contract violations are treated: ``enforce``, ``warn`` or ``off``; the
            project's setting by default.
        enabled: Whether to connect at all; by default ``MOCK_MCP`` decides.
        limits: Limits on frames and depth.
        logger: Where the client logs.
    """

    project_root: str | os.PathLike[str] | None
    file_path: str | os.PathLike[str] | None
    test_name: str | None
    run_id: str | None
    cache_dir: str | os.PathLike[str] | None
    timeout_s: float | None
    connect_timeout_s: float
    heartbeat_s: float | None
    debounce_s: float | None
    max_batch_size: int
    openapi: OpenApi | Sequence[OpenApi] | None
    contract: ContractMode | None
    enabled: bool | None
    limits: Limits | None
    logger: logging.Logger | None


def connect(**options: Unpack[ConnectOptions]) -> _Connecting:
    """Connect a test to its project's daemon, starting the daemon if none runs.

    Use it as ``async with connect() as client`` or ``client = await connect()``.

    Args:
        options: See `ConnectOptions`.

    Returns:
        An awaitable async context manager that gives a `BatchMockCollector`. Without ``MOCK_MCP``
        the collector is disabled: no daemon is started, and ``request_mock`` says how to enable it.

    Raises:
        ConfigurationError: An option cannot be used (at the call).
        ConfigurationError: No event loop of asyncio runs, as under trio (when awaited, and so the
            others).
        DaemonUnreachable, DaemonStartFailed: There is no daemon and none could be started.
        VersionMismatch: The project's daemon is another implementation or revision.
        InsecurePath: The cache directory is not private.
    """
    return _Connecting(*_settings(options))


def connect_sync(**options: Unpack[ConnectOptions]) -> SyncBatchMockCollector:
    """Connect as `connect` does, from sync code; the result is a context manager too.

    Options and errors are those of `connect`.
    """
    settings, police = _settings(options)
    if police is None:
        return SyncBatchMockCollector(settings, None, None)
    engine = Engine(settings)
    try:
        engine.start().result()
    except BaseException:
        engine.stop().result()
        raise
    return SyncBatchMockCollector(settings, engine, police)


def _settings(options: ConnectOptions) -> tuple[Settings, Police | None]:
    """Check the options of `connect`; make settings and, if enabled, the police of them."""
    given: dict[str, Any] = dict(options)
    enabled = given.pop("enabled", None)
    openapi, mode = given.pop("openapi", None), given.pop("contract", None)
    for name, default in (("run_id", uuid.uuid4().hex), ("limits", Limits()), ("logger", _LOGGER)):
        given[name] = given.get(name) or default
    for name, (types, words) in _KINDS.items():
        if name in given and not isinstance(given[name], types):
            raise ConfigurationError(f"{name} must be {words}, got {given[name]!r}.")
    settings = Settings(**given)
    limits = settings.limits
    if not is_utf8(settings.run_id) or not 0 < len(settings.run_id) <= limits.id_chars:
        raise ConfigurationError(f"run_id must be text of 1 to {limits.id_chars} characters.")
    for name in ("timeout_s", "connect_timeout_s", "heartbeat_s"):
        value = getattr(settings, name)
        if value is not None and not is_duration(value):
            raise ConfigurationError(
                f"{name} must be a positive number of seconds, got {value!r:.80}."
            )
    if settings.debounce_s is not None and not 0 <= settings.debounce_s <= 60:
        raise ConfigurationError("debounce_s must be a number of seconds from 0 to 60.")
    if not 1 <= settings.max_batch_size <= limits.batch_requests:
        raise ConfigurationError(f"max_batch_size must be from 1 to {limits.batch_requests}.")
    if not (is_enabled() if enabled is None else enabled):
        return settings, None
    project = Project.resolve(settings.project_root, settings.file_path)
    return settings, Police(project, cache_dir=settings.cache_dir, openapi=openapi, mode=mode)
