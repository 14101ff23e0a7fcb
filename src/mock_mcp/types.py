"""The frozen values that travel through the house.

Field names are snake_case in Python and camelCase on the wire (``requestId``); the renaming is part
of each struct, so a value is encoded and decoded with ``msgspec`` and nothing else. An optional
field that is ``None`` is omitted when encoded. Durations carry their unit in the name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

__all__ = [
    "ASKING_HEADERS",
    "BatchInfo",
    "Claim",
    "ClaimInfo",
    "DaemonEvent",
    "DaemonInfo",
    "DaemonStatus",
    "HistoryEntry",
    "Mock",
    "MockRequest",
    "Provided",
    "RunInfo",
    "Source",
    "TestMeta",
    "UsedValues",
    "Violation",
    "Waiting",
]


Source = Literal["ai", "example", "live", "hand"]
"""Who an answer comes from: an assistant, the contract alone, the real API, or a person."""

ASKING_HEADERS = ("range", "x-ms-range", "x-amz-target")
"""The headers that say what is asked for where the URL does not: which part of a file (large ones
come in parts, from several threads), and which operation where AWS has one URL for all."""


class _Value(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A frozen value with camelCase wire names whose absent fields are omitted."""


class TestMeta(_Value, frozen=True):
    """Name the test a run belongs to: its file and, where known, its name."""

    __test__ = False  # pytest must not collect a class because its name begins with "Test"

    test_file: str | None = None
    test_name: str | None = None


class MockRequest(_Value, frozen=True, gc=False):
    """One intercepted HTTP request that waits for a mock.

    ``json`` is the request object exactly as the test sent it, unknown keys included (DESIGN
    section 3: everything but the three typed fields is opaque and echoed). ``names_contract`` tells
    whether it brings a schema or documents of its own.
    """

    request_id: str
    endpoint: str
    method: str
    json: msgspec.Raw
    names_contract: bool = False


class Mock(_Value, frozen=True):
    """The answer to one request.

    ``data`` is the body (any JSON value), ``status`` an HTTP status from 100 to 599 (200 when
    absent), ``headers`` map a name to one value or to a list of values, ``delay_ms`` is how long
    the test waits before it sees the answer (up to ten minutes). With ``reuse`` a responder gives
    the answer for the whole run: the daemon answers the same request with it from then on. A test
    never sees the field. ``source`` says where the answer comes from if no assistant wrote it.
    """

    request_id: str
    data: Any
    status: Annotated[int, msgspec.Meta(ge=100, le=599)] | None = None
    headers: dict[str, str | list[str]] | None = None
    delay_ms: Annotated[float, msgspec.Meta(ge=0, le=600_000)] | None = None
    reuse: Literal["run"] | None = None
    source: Source | None = None


class Violation(_Value, frozen=True, omit_defaults=False):
    """One place where a mock (or a request) breaks its contract.

    ``pointer`` is a JSON pointer into the checked value (``/body/items/0/id``, ``/status``,
    ``/headers/content-type``), ``keyword`` the broken rule, ``expected`` and ``actual`` bounded
    excerpts, ``hint`` the sentence that says how to repair it.
    """

    request_id: str
    pointer: str
    keyword: str
    expected: str
    actual: str
    hint: str

    @property
    def advice(self) -> str:
        """What to do, for a reader who is shown nothing else of the violation.

        It leaves out ``actual``, which may be a secret, and says what is expected where the hint
        names only the nearest option.
        """
        if self.keyword in ("enum", "const") and self.expected not in self.hint:
            return f"Expected {self.expected}. {self.hint}"
        return self.hint


class HistoryEntry(_Value, frozen=True):
    """One earlier claim of a batch that ended without an answer, or one rejection of its data.

    ``outcome`` is ``released``, ``expired`` or ``rejected``; ``reason`` is what the responder or
    the contract gate said.
    """

    outcome: str
    adapter_id: str
    reason: str | None = None


class UsedValues(_Value, frozen=True):
    """What one answered call of a run has used, by the path of each value in its body.

    ``sent`` are plain values of the request's body, ``answer`` what identifies something in the
    response: ``{"id": 7, "owner.name": "Ann", "[0].id": 1}``.
    """

    method: str
    endpoint: str
    sent: dict[str, Any] = {}
    status: int = 200
    answer: dict[str, Any] = {}


class Claim(_Value, frozen=True, omit_defaults=False):
    """A batch under a lease: the result of ``claimNextBatch``.

    ``requests`` are the request objects as the test sent them. ``lease_until`` is Unix
    milliseconds, for people: the lease itself is counted on the daemon's monotonic clock. ``used``
    is what earlier calls of the run have used, the latest last. ``logged`` says that the daemon
    writes a batch log and wants to be told what the model reads (``logShown``).
    """

    batch_id: str
    run_id: str
    requests: list[dict[str, Any]]
    claim_token: str
    lease_until: int
    attempts: int = 0
    history: list[HistoryEntry] = []
    used: list[UsedValues] = []
    logged: bool = False


class ClaimInfo(_Value, frozen=True):
    """Who holds a batch and until when (Unix milliseconds); never the token."""

    adapter_id: str
    lease_until: int


class BatchInfo(_Value, frozen=True):
    """A read-only view of one batch. ``status`` is ``pending``, ``claimed`` or ``fulfilled``.

    ``rejections`` counts the answers that the contract gate refused.
    """

    batch_id: str
    run_id: str
    requests: list[dict[str, Any]]
    status: str
    created_at: int
    claim: ClaimInfo | None = None
    rejections: int = 0


class Provided(_Value, frozen=True):
    """The daemon's answer to ``provideBatch``.

    ``delivered`` is false when the test has not acknowledged the result yet (it is kept for its
    reconnect) or no longer wants it; ``message`` says which. ``warnings`` are violations that were
    delivered all the same (contract mode ``warn``); ``unchecked`` maps request ids to why no
    contract judged their mocks, or what of it was ignored when they were judged.
    """

    ok: bool
    message: str
    delivered: bool
    warnings: list[Violation] = []
    unchecked: dict[str, str] = {}


class RunInfo(_Value, frozen=True):
    """One connected test process. ``started_at`` is ISO 8601, ``last_seen`` Unix milliseconds."""

    run_id: str
    pid: int | float
    cwd: str
    started_at: str
    last_seen: int
    pending_batches: int
    test_meta: TestMeta | None = None


class DaemonStatus(_Value, frozen=True):
    """The result of ``getStatus``.

    ``uptime`` is milliseconds; ``total_batches`` counts the batches submitted since the daemon
    started.
    """

    version: str
    project_id: str
    project_root: str
    pid: int
    uptime: int
    runs: int
    pending: int
    claimed: int
    total_batches: int
    protocol: int | None = None


class Waiting(_Value, frozen=True):
    """The result of ``waitForBatch``: claimable batches, and when the oldest was created."""

    pending: int
    oldest_created_at: int | None = None


class DaemonEvent(_Value, frozen=True):
    """Something that happened lately, in a few words.

    ``seq`` counts the events of one daemon process, ``at`` is Unix milliseconds. ``event`` is the
    batch log's word: ``submit``, ``claim``, ``provide`` and so on; ``detail`` the first request, a
    count, a reason or an error code.
    """

    seq: int
    event: str
    run_id: str
    batch_id: str = ""
    adapter_id: str = ""
    detail: str = ""
    at: int = 0


class DaemonInfo(_Value, frozen=True):
    """The registry entry of one daemon (``<projectId>.json``, DESIGN section 7)."""

    project_id: str
    project_root: str
    ipc_path: str
    token: str
    pid: int
    started_at: str
    version: str

    def __repr__(self) -> str:
        """Show everything but the token, which must not reach a log."""
        return f"DaemonInfo(project_root={self.project_root!r}, pid={self.pid})"
