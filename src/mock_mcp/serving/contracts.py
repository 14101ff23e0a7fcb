"""What the contract says of a batch, as an assistant reads it: condensed, each part once.

Strategy: reading and showing are two steps. `ContractReader.read` asks the contract about every
request and keeps what is distinct (`BatchContracts`); `BatchContracts.annotate` writes it into the
requests, and is asked again with less room when the result is too long. A schema in
``metadata.schema`` is the contract itself: one that fits the budget stays where it is, word for
word; a longer one gives its place to its condensed view, for nobody should read the same twice.

All of it blocks (files are read, schemas compiled) and never raises for what a document holds: a
request whose contract cannot be shown says why.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from mock_mcp.contract.condense import (
    DEFAULT_BUDGET,
    MIN_BUDGET,
    Condensed,
    condense_batch,
    open_schema,
)
from mock_mcp.contract.errors import ContractDocumentError
from mock_mcp.contract.expected import Expected, expected
from mock_mcp.contract.gate import Contracts, Mode, Source, contract_mode
from mock_mcp.contract.items import Scope
from mock_mcp.contract.project import ProjectContracts
from mock_mcp.errors import ConfigurationError, InvalidParams, MissingExtra, MockMcpError
from mock_mcp.media_types import base_type
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.project import Project, compute_project_id
from mock_mcp.sequential import is_event_stream
from mock_mcp.serving.text import dump
from mock_mcp.types import DaemonInfo, Violation
from mock_mcp.words import cut

__all__ = ["MAX_BUDGET", "BatchContracts", "ContractReader", "unread"]

MAX_BUDGET = 40_000
"""Characters that all contracts of one batch may take: two thirds of the longest result."""
MAX_SHOWN = 100
"""Distinct contracts shown of one batch; what is left to each of more would say nothing."""
PROJECTS = 8
"""Projects whose documents are kept in memory."""
SUMMARY_CHARS = 200
REASON_CHARS = 600
STATUSES = 40
VIOLATIONS_A_REQUEST = 5
VIOLATIONS_A_BATCH = 50
"""Violations of the code under test that are shown; the rest are counted."""

_OWN = "metadata.schema"
_FOLDED = {"$fold": "#"}
_SAID_HERE = ("contract", "contractMode", "unchecked", "requestViolations")
"""What is said of a request beside its own members, which must not be taken for it."""


@dataclass(slots=True)
class _Contract:
    """One distinct contract of a batch.

    ``own`` is the schema in the metadata, if that is the contract; ``has_body`` is false for
    answers to HEAD and for statuses without a body.
    """

    name: str
    wanted: Expected
    has_body: bool
    own: Any = None

    def head(self) -> dict[str, Any]:
        """Return what is said of it besides its schema."""
        wanted = self.wanted
        head: dict[str, Any] = {}
        if wanted.operation is not None:
            head["operation"] = wanted.operation
        if summary := _one_line(wanted.summary, SUMMARY_CHARS):
            head["summary"] = summary
        head["status"] = wanted.status
        if wanted.statuses:
            head["statuses"] = list(wanted.statuses[:STATUSES])
        if not self.has_body:
            head["body"] = "none: give null"
        elif wanted.media_type is None:
            head["body"] = "none is declared"
        else:
            head["mediaType"] = wanted.media_type
            if wanted.scope is not None:
                head["body"] = _as_stream(wanted.media_type, wanted.scope)
            if wanted.compiled is None:
                head["body"] = "no schema is declared: it is not checked"
        return head


def _as_stream(media_type: str, scope: Scope) -> str:
    """Return how a sequential body is given, and what its schema is the schema of."""
    kind = base_type(media_type)
    if not is_event_stream(kind):
        each = "the list" if scope == "list" else "each item"
        return f"a list of its items, with the header content-type: {kind}; the schema is of {each}"
    each = {"item": "each data", "event": "each event", "list": "the list"}[scope]
    return (
        f'a list of its events, {{"event"?: name, "data": JSON value or text}}, with the header '
        f"content-type: {kind}; the schema is of {each}"
    )


@dataclass(slots=True)
class _Said:
    """What is said of one request: its contract, or why there is none."""

    contract: _Contract | None = None
    unchecked: str | None = None
    mode: Mode = "enforce"
    violations: list[dict[str, Any]] = field(default_factory=list)


class BatchContracts:
    """The contracts of one batch; made by `ContractReader.read`.

    Args:
        budget: Characters that one contract may take.
    """

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        self._budget = budget
        self._said: dict[str, _Said] = {}

    def say(self, request_id: str, said: _Said) -> None:
        """Note what is said of a request."""
        self._said[request_id] = said

    def annotate(
        self,
        requests: Sequence[Mapping[str, Any]],
        *,
        inline: bool = True,
        room: int = MAX_BUDGET,
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return the requests with what their contracts say, and the contracts they name.

        The requests given are not changed.

        Args:
            requests: The wire objects of the batch.
            inline: Leave a ``metadata.schema`` that fits the budget where it is; otherwise every
                one gives its place to its condensed view.
            room: Characters that all contracts together may take.
        """
        said = [self._said.get(request["requestId"], _Said()) for request in requests]
        contracts = {each.contract.name: each.contract for each in said if each.contract}
        inlined = {
            name
            for name, contract in contracts.items()
            if inline
            and contract.own is not None
            and contract.wanted.scope is None  # else it must be said what it is the schema of
            and len(dump(contract.own)) <= self._budget
        }
        views = _views(
            [contract for name, contract in contracts.items() if name not in inlined],
            self._budget,
            room,
        )
        shown = [
            _annotated(request, each, views, inlined)
            for request, each in zip(requests, said, strict=True)
        ]
        return shown, views


class ContractReader:
    """Read the contracts of the projects whose batches a responder serves.

    Safe to be called from several threads.

    Args:
        cache: The cache directory, where parsed documents are kept.
        own: The own project, whose root is known exactly.
        budget: Characters that the condensed view of one contract may take.
        logger: Where failures inside are reported.

    Raises:
        ConfigurationError: The budget is out of range.
    """

    def __init__(
        self,
        cache: CacheDirectory,
        own: Project | None,
        *,
        budget: int | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self._budget = DEFAULT_BUDGET if budget is None else budget
        if not MIN_BUDGET <= self._budget <= MAX_BUDGET:
            raise ConfigurationError(
                f"The contract budget must be from {MIN_BUDGET} to {MAX_BUDGET} characters, not "
                f"{self._budget}."
            )
        self._cache = cache
        self._own = own
        self._logger = logger or logging.getLogger(__name__)
        self._projects: OrderedDict[str, ProjectContracts] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, info: DaemonInfo, requests: Sequence[Mapping[str, Any]]) -> BatchContracts:
        """Ask the contract about every request of a batch.

        Args:
            info: The daemon of the batch, which names the project.
            requests: The wire objects.
        """
        batch = BatchContracts(self._budget)
        try:
            contracts, project_mode = self._project(info).current()
        except (MockMcpError, OSError) as exc:
            return unread(requests, str(exc))
        known: dict[Any, _Contract] = {}
        room = VIOLATIONS_A_BATCH
        for request in requests:
            mode = contract_mode(request, project_mode)
            said = self._said_of(contracts, request, known)
            said.mode = mode
            if mode != "off":
                said.violations = self._violations(contracts, request, room)
                room -= len(said.violations)
            batch.say(request["requestId"], said)
        return batch

    def open(
        self, info: DaemonInfo, request: Mapping[str, Any], pointer: str, status: int | None = None
    ) -> tuple[Expected, Condensed]:
        """Open a part of the schema that a request's answer must satisfy.

        Args:
            info: The daemon of the request's batch.
            request: The wire object.
            pointer: Of a fold in the condensed view, "" for the whole schema.
            status: The status of the answer; that of success when None.

        Returns:
            The answer that the contract wants, and the view of the part.

        Raises:
            InvalidParams: There is no schema, nothing is at the pointer, or the contract does not
                declare the status; the message says what there is.
            MockMcpError: The project's settings or a document cannot be used.
        """
        contracts, _ = self._project(info).current()
        wanted = expected(contracts, request, status=status)
        name = f"Request {request['requestId']}"
        if wanted is None:
            raise InvalidParams(
                f"{name} has no contract: {contracts.resolve(request).reason}. Answer what its "
                "endpoint, method and instructions suggest."
            )
        if wanted.schema is None:
            kind = f" of type {wanted.media_type}" if wanted.media_type else ""
            raise InvalidParams(
                f"{name} has no schema to open: {wanted.operation} declares none for a body{kind} "
                f"with status {wanted.status}."
            )
        if not f"{pointer.removeprefix('#')}/".startswith("/"):
            raise InvalidParams(
                f'{pointer[:200]!r} is not a JSON pointer; take that of a $fold, or "" for the '
                "whole schema."
            )
        return wanted, open_schema(wanted.schema, pointer, budget=self._budget)

    # -- Inside ----------------------------------------------------------------------------

    def _project(self, info: DaemonInfo) -> ProjectContracts:
        with self._lock:
            project = self._projects.get(info.project_id)
            if project is None:
                project = ProjectContracts(self._root(info), cache_dir=self._cache.contracts())
                self._projects[info.project_id] = project
                while len(self._projects) > PROJECTS:
                    self._projects.popitem(last=False)
            self._projects.move_to_end(info.project_id)
            return project

    def _root(self, info: DaemonInfo) -> Path:
        if self._own is not None and self._own.id == info.project_id:
            return self._own.root
        root = Path(info.project_root)
        if compute_project_id(root) != info.project_id:
            raise ConfigurationError(
                f"The root of the project, {info.project_root}, has a name that this process "
                "cannot spell, so its contract is not shown; the daemon checks by it all the same"
            )
        return root

    def _said_of(
        self, contracts: Contracts, request: Mapping[str, Any], known: dict[Any, _Contract]
    ) -> _Said:
        try:
            source = contracts.resolve(request)
            if source.reason is not None:
                return _Said(unchecked=_one_line(source.reason, REASON_CHARS))
            is_head = request["method"].upper() == "HEAD"
            wanted = expected(contracts, request, source=source)
            assert wanted is not None
            key = (_key(source), is_head, wanted.media_type)
            contract = known.get(key)
            if contract is None:
                has_body = not is_head and wanted.status not in (204, 205, 304)
                contract = _Contract(f"c{len(known) + 1}", wanted, has_body, _own(source))
                known[key] = contract
            return _Said(contract)
        except MockMcpError as exc:
            return _Said(unchecked=_one_line(str(exc), REASON_CHARS))
        except Exception:
            self._logger.exception("the contract of request %s", request["requestId"])
            return _Said(unchecked="its contract could not be shown; the adapter's log says why")

    def _violations(
        self, contracts: Contracts, request: Mapping[str, Any], room: int
    ) -> list[dict[str, Any]]:
        try:
            found = contracts.check_request(request)
        except (ContractDocumentError, MissingExtra):
            return []  # it is said of the request why it is unchecked
        except Exception:
            self._logger.exception("request %s could not be checked", request["requestId"])
            return []
        shown = [_violation(each) for each in found[: max(0, min(VIOLATIONS_A_REQUEST, room))]]
        more = len(found) - len(shown)
        return [*shown, {"more": more}] if more else shown


def unread(requests: Iterable[Mapping[str, Any]], reason: str) -> BatchContracts:
    """Return what is said of a batch whose contracts cannot be shown, with the reason."""
    batch = BatchContracts()
    for request in requests:
        batch.say(request["requestId"], _Said(unchecked=_one_line(reason, REASON_CHARS)))
    return batch


# -- Helpers -----------------------------------------------------------------------------------


def _key(source: Source) -> Any:
    """Return what tells contracts apart: operation, place in a file, or the schema itself."""
    assert source.document is not None
    path = source.document.path
    if source.match is not None:
        return str(path), source.match.operation.label
    if path is None:
        return msgspec.json.encode(source.document.raw)
    assert source.schema is not None
    return str(path), str(source.schema)


def _own(source: Source) -> Any:
    """Return the schema in the metadata if that is the contract."""
    document = source.document
    return document.raw if document is not None and document.path is None else None


def _views(contracts: Iterable[_Contract], budget: int, room: int) -> dict[str, Any]:
    """Return the contracts by name, as an assistant reads them, in ``room`` all together.

    A schema that several contracts have is shown with the first; if all schemas are too long
    together, the longest get less room.
    """
    shown = list(contracts)[:MAX_SHOWN] if room > 0 else []
    views = {contract.name: contract.head() for contract in shown}
    listed = [
        (contract.name, contract.wanted.schema, contract.wanted.examples)
        for contract in shown
        if contract.has_body and contract.wanted.schema is not None
    ]
    left = room - len(dump(views))
    batch = condense_batch(listed, budget=budget)
    sizes = {key: len(dump(view.to_json())) for key, view in batch.schemas.items()}
    if sizes and sum(sizes.values()) > left:
        batch = condense_batch(listed, budget=max(MIN_BUDGET, _level(list(sizes.values()), left)))
    first: dict[str, str] = {}
    for name, key in batch.requests.items():
        if key in first:
            views[name]["schema"] = {"$contract": first[key]}
            continue
        first[key] = name
        view = batch.schemas[key]
        views[name] |= view.to_json()
        if not view.is_complete:
            views[name]["complete"] = False
    return _fitting(views, room)


def _fitting(views: Mapping[str, Any], room: int) -> dict[str, Any]:
    """Return the views that fit in ``room``, without those that refer to one that does not."""
    kept: dict[str, Any] = {}
    for name, view in views.items():
        referred = view["schema"].get("$contract") if "schema" in view else None
        room -= len(dump(view)) + len(name) + 4
        if room >= 0 and (referred is None or referred in kept):
            kept[name] = view
    return kept


def _level(sizes: list[int], room: int) -> int:
    """Return the size to cut the largest to, so that all fit in the room; they do not yet."""
    left = sorted(sizes)
    while left[0] * len(left) <= room:
        room -= left.pop(0)
    return room // len(left)


def _annotated(
    request: Mapping[str, Any], said: _Said, views: Mapping[str, Any], inlined: AbstractSet[str]
) -> dict[str, Any]:
    """Return a request as an assistant reads it."""
    shown = {key: value for key, value in request.items() if key not in _SAID_HERE}
    if said.mode != "enforce":
        shown["contractMode"] = said.mode
    if said.unchecked is not None:
        shown["unchecked"] = said.unchecked
    contract = said.contract
    if contract is not None and contract.name in inlined:
        shown["contract"] = _OWN
    elif contract is not None:
        name = contract.name
        shown["contract"] = name if name in views else _FOLDED
        if contract.own is not None:
            stand_in = {"$contract": name} if name in views else _FOLDED
            schema = request["metadata"]["schema"]
            is_wrapped = schema != contract.own
            replaced = {**schema, "response": stand_in} if is_wrapped else stand_in
            shown["metadata"] = {**request["metadata"], "schema": replaced}
    if said.violations:
        shown["requestViolations"] = said.violations
    return shown


def _violation(violation: Violation) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(violation)
    del shown["requestId"]
    return shown


def _one_line(text: str | None, chars: int) -> str:
    return cut(" ".join((text or "").split()), chars)
