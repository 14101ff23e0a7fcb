"""The tools: their arguments, schemas and what they tell an assistant.

Each tool's arguments are one struct; its input schema is made from the struct, so what is declared
is what is checked. Unknown arguments are errors, an optional argument that is null is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any, TypeVar

import msgspec
from mcp_types import Tool, ToolAnnotations
from msgspec import UNSET, Meta, UnsetType

from mock_mcp.errors import InvalidParams
from mock_mcp.integers import convert
from mock_mcp.serving.mocks import MockArgument, argument_schema
from mock_mcp.serving.text import HOW_TO_READ

__all__ = ["TOOLS", "Arguments", "arguments_of"]

T = TypeVar("T")

WAIT_MS = 45_000
"""Longest wait of one call: several clients end a call after 60 s."""
MAX_BATCHES = 10
"""Most batches of one claim: they share the room of one result."""
LEASE_MS = 600_000
"""Longest lease the daemon grants."""
DEPTH = 150
"""Deepest nesting of arguments, under what the daemon takes with its message around them."""

_AGAIN = "Nothing was done: correct the arguments and call again."

_BatchId = Annotated[str, Meta(description="The batch's id, as claim_next_batch returned it.")]
_Token = Annotated[str, Meta(description="The claimToken that came with your claim.")]
_RunId = Annotated[str, Meta(description="Only batches of this test run; see list_runs.")]
_LeaseMs = Annotated[
    float,
    Meta(
        ge=1,
        le=LEASE_MS,
        description="How long you hold the batch, in milliseconds. Leave it out: the lease is then "
        "renewed for you while you write, for two minutes.",
    ),
]


class Arguments(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The arguments of one tool."""


class Nothing(Arguments, frozen=True):
    """No arguments."""


class ClaimNextBatch(Arguments, frozen=True):
    """Arguments of ``claim_next_batch``."""

    run_id: _RunId | UnsetType = UNSET
    lease_ms: _LeaseMs | UnsetType = UNSET
    wait_ms: (
        Annotated[
            float,
            Meta(
                ge=0,
                le=WAIT_MS,
                description="How long to wait for a batch if there is none, in milliseconds.",
            ),
        ]
        | UnsetType
    ) = UNSET
    max_batches: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=MAX_BATCHES,
                description="Take up to so many batches at once. They come in `batches`, each with "
                "a claimToken of its own.",
            ),
        ]
        | UnsetType
    ) = UNSET


class GetBatch(Arguments, frozen=True):
    """Arguments of ``get_batch``."""

    batch_id: _BatchId


class ProvideBatch(Arguments, frozen=True):
    """Arguments of ``provide_batch_mock_data``."""

    batch_id: _BatchId
    claim_token: _Token
    mocks: Annotated[
        list[MockArgument],
        Meta(
            description="One mock for every request of the batch; after a refusal, only those that "
            "were missing or wrong."
        ),
    ]


class ReleaseBatch(Arguments, frozen=True):
    """Arguments of ``release_batch``."""

    batch_id: _BatchId
    claim_token: _Token
    reason: Annotated[str, Meta(description="Why, for whoever claims it next.")] | UnsetType = UNSET


class GetPendingBatches(Arguments, frozen=True):
    """Arguments of ``get_pending_batches``."""

    run_id: _RunId | UnsetType = UNSET


class RenewClaim(Arguments, frozen=True):
    """Arguments of ``renew_claim``."""

    batch_id: _BatchId
    claim_token: _Token
    lease_ms: _LeaseMs | UnsetType = UNSET


class GetSchema(Arguments, frozen=True):
    """Arguments of ``get_schema``."""

    batch_id: _BatchId
    request_id: Annotated[str, Meta(description="A request of the batch.")]
    pointer: Annotated[
        str,
        Meta(description='The pointer of a `$fold`: "#/$defs/user"; "" for the whole schema.'),
    ]
    status: (
        Annotated[
            int,
            Meta(ge=100, le=599, description="Status of the answer; that of success if left out."),
        ]
        | UnsetType
    ) = UNSET


ARGUMENTS: Mapping[str, type[Arguments]] = {
    "get_status": Nothing,
    "list_runs": Nothing,
    "claim_next_batch": ClaimNextBatch,
    "get_batch": GetBatch,
    "provide_batch_mock_data": ProvideBatch,
    "release_batch": ReleaseBatch,
    "get_pending_batches": GetPendingBatches,
    "renew_claim": RenewClaim,
    "get_schema": GetSchema,
}


def arguments_of(tool: str, arguments: Mapping[str, Any]) -> Arguments:
    """Check the arguments of a call.

    Args:
        tool: One of `TOOLS`.
        arguments: As the client sent them.

    Raises:
        InvalidParams: The message names every unknown argument, or the first wrong value.
    """
    cls = ARGUMENTS[tool]
    names = _names(cls)
    if unknown := [name for name in arguments if name not in names]:
        takes = f"it takes {', '.join(names)}" if names else "it takes none"
        raise InvalidParams(
            f"{tool} has no argument {', '.join(map(repr, unknown))[:500]}; {takes}. {_AGAIN}"
        )
    values = _without_nulls(arguments)
    if problem := _unrepresentable(values):
        raise InvalidParams(f"{tool}: {problem} {_AGAIN}")
    try:
        return convert(values, cls)
    except msgspec.ValidationError as exc:
        problem = str(exc)
        hint = ""
        if problem.startswith(("Expected `array`, got `str`", "Expected `object`, got `str`")):
            hint = " Send the JSON value itself, not text that contains it."
        elif "$.mocks[" in problem:
            hint = f" A mock takes {', '.join(_names(MockArgument))}."
        raise InvalidParams(f"{tool}: {problem}.{hint} {_AGAIN}") from None


def _names(cls: type[msgspec.Struct]) -> list[str]:
    """Return the names of a struct's fields on the wire."""
    return [field.encode_name for field in msgspec.structs.fields(cls)]


def _without_nulls(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments without those that are null; a mock's ``data`` may be null."""
    values = {name: value for name, value in arguments.items() if value is not None}
    if isinstance(mocks := values.get("mocks"), list):
        values["mocks"] = [
            {key: part for key, part in mock.items() if part is not None or key == "data"}
            if isinstance(mock, dict)
            else mock
            for mock in mocks
        ]
    return values


def _unrepresentable(value: Any) -> str | None:
    """Say why a value the SDK let in is not JSON that can be passed on; None when it is."""
    level = [value]
    for _ in range(DEPTH):
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                following += item.values()
            elif isinstance(item, list):
                following += item
            elif isinstance(item, float) and not isfinite(item):
                return f"{item} is not JSON; give a number, a string or null."
        if not following:
            return None
        level = following
    return f"the arguments nest deeper than {DEPTH} levels."


# -- Schemas -----------------------------------------------------------------------------------


_STRING = {"type": "string"}
_NUMBER = {"type": "number"}
_BOOLEAN = {"type": "boolean"}
_OBJECT = {"type": "object"}
_STRINGS = {"type": "object", "additionalProperties": _STRING}


def _result(required: Mapping[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
    }


def _list(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


_REQUEST = _result({"requestId": _STRING, "endpoint": _STRING, "method": _STRING})
_SHOWN = _list(
    _result(
        {"requestId": _STRING, "endpoint": _STRING, "method": _STRING},
        metadata={},  # an object unless a test of another language thinks otherwise
        contract={
            "type": ["string", "object"],
            "description": "Name in contracts, `metadata.schema`, or a fold.",
        },
        contractMode={"type": "string", "enum": ["warn", "off"]},
        unchecked={"type": "string", "description": "Why no contract judges the answer."},
        requestViolations={
            "type": ["array", "object"],
            "description": "Where the request itself breaks the contract.",
        },
    )
)
_CONTRACTS = {
    "type": "object",
    "additionalProperties": _result(
        {"status": _NUMBER},
        operation=_STRING,
        summary=_STRING,
        statuses=_list(_STRING),
        mediaType=_STRING,
        body=_STRING,
        schema=_OBJECT,
        example={},
        complete=_BOOLEAN,
    ),
}
_USED = {
    **_list(_result({"call": _STRING}, sent=_OBJECT, status=_NUMBER, answer=_OBJECT)),
    "description": "Values of earlier calls of the run, by their path in the body.",
}
_HISTORY = _list(_result({"outcome": _STRING}, reason=_STRING))
_UNREACHABLE = _list(_result({"projectRoot": _STRING, "error": _STRING}))

_DAEMON = _result(
    {
        "projectRoot": _STRING,
        "projectId": _STRING,
        "own": _BOOLEAN,
        "version": _STRING,
        "pid": _NUMBER,
        "uptime": _NUMBER,
        "runs": _NUMBER,
        "pending": _NUMBER,
        "claimed": _NUMBER,
        "totalBatches": _NUMBER,
    }
)
_RUN = _result(
    {
        "runId": _STRING,
        "projectRoot": _STRING,
        "pid": _NUMBER,
        "cwd": _STRING,
        "startedAt": _STRING,
        "lastSeen": _NUMBER,
        "pendingBatches": _NUMBER,
    },
    testMeta=_STRINGS,
)
_CLAIMED = {
    "batchId": _STRING,
    "claimToken": _STRING,
    "leaseUntil": {"type": "number", "description": "Unix time in milliseconds."},
    "runId": _STRING,
    "projectRoot": _STRING,
    "test": _STRINGS,
    "attempts": _NUMBER,
    "history": _HISTORY,
    "requests": _SHOWN,
}
_MAY_BE_SHOWN = {
    "used": _USED,
    "contracts": _CONTRACTS,
    "shared": _OBJECT,
    "notShown": _NUMBER,
}
_PENDING = _result(
    {
        "batchId": _STRING,
        "runId": _STRING,
        "projectRoot": _STRING,
        "createdAt": _NUMBER,
        "requestCount": _NUMBER,
        "requests": _list(_REQUEST),
    }
)


def _tool(
    name: str,
    title: str,
    description: str,
    output: dict[str, Any],
    *,
    read_only: bool = False,
    idempotent: bool = False,
) -> Tool:
    return Tool(
        name=name,
        title=title,
        description=description,
        input_schema=argument_schema(ARGUMENTS[name]),
        output_schema=output,
        annotations=ToolAnnotations(
            title=title,
            read_only_hint=read_only,
            destructive_hint=False,
            idempotent_hint=idempotent or read_only,
            open_world_hint=False,
        ),
    )


TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        _tool(
            "get_status",
            "Status of mock-mcp",
            "Count the test runs, the batches that wait for mock data and those being worked on, "
            "for every project whose daemon runs. Changes nothing. To get work, call "
            "claim_next_batch.",
            _result(
                {
                    "adapterId": _STRING,
                    "version": _STRING,
                    "daemons": _list(_DAEMON),
                    "unreachable": _UNREACHABLE,
                    "runs": _NUMBER,
                    "pending": _NUMBER,
                    "claimed": _NUMBER,
                },
                notShown=_NUMBER,
            ),
            read_only=True,
        ),
        _tool(
            "list_runs",
            "List test runs",
            "List the test processes that are connected, of every project: run id, test file and "
            "name, working directory, and how many of their batches wait. Changes nothing.",
            _result({"runs": _list(_RUN), "unreachable": _UNREACHABLE}, notShown=_NUMBER),
            read_only=True,
        ),
        _tool(
            "claim_next_batch",
            "Claim the next batch",
            "Take the oldest batch of intercepted HTTP requests that a test waits for, so that you "
            "can write its mock responses. A test is blocked meanwhile: answer promptly.\n\n"
            "The loop: 1. call this with waitMs 45000; 2. if state is `empty`, call it again while "
            "the tests run; 3. if it is `claimed`, write one mock for every request: realistic, "
            "valid by its contract, following its instructions, consistent across the requests; 4. "
            "call provide_batch_mock_data; 5. go to 1. If you cannot answer, call release_batch."
            "\n\n"
            f"{HOW_TO_READ}\n\n"
            "Nobody else can take the batch until its lease ends. Without leaseMs it is renewed "
            "for you for two minutes; renew_claim starts that anew. If it ended while you wrote, "
            "provide all the same: it works unless somebody else took the batch.",
            _result(
                {"state": {"type": "string", "enum": ["claimed", "empty"]}, "next": _STRING},
                **_CLAIMED,
                **_MAY_BE_SHOWN,
                batches={
                    **_list(_result(_CLAIMED, **_MAY_BE_SHOWN)),
                    "description": "With maxBatches, instead of the fields of one batch.",
                },
            ),
        ),
        _tool(
            "get_batch",
            "Read a batch",
            "Read one batch again, with its requests and its status (`pending`, `claimed` or "
            "`fulfilled`), in the shape claim_next_batch uses. Changes nothing and claims nothing.",
            _result(
                {
                    "batchId": _STRING,
                    "runId": _STRING,
                    "projectRoot": _STRING,
                    "status": {"type": "string", "enum": ["pending", "claimed", "fulfilled"]},
                    "createdAt": _NUMBER,
                    "requests": _SHOWN,
                },
                contracts=_CONTRACTS,
                claim=_result({"adapterId": _STRING, "leaseUntil": _NUMBER}),
                shared=_OBJECT,
                notShown=_NUMBER,
            ),
            read_only=True,
        ),
        _tool(
            "provide_batch_mock_data",
            "Provide mock data",
            "Answer a batch you claimed: exactly one mock per request, each with requestId and "
            "data (the response body) and, where they matter, status, headers and delayMs. The "
            "test receives it at once, all or nothing. A large answer may be given in several "
            "calls: an incomplete one is kept, and the error says which mocks are missing.\n\n"
            "The data is checked against the API's contract first. If some of it does not fit, "
            "nothing is delivered, you keep the batch, and the error lists every violation; the "
            "mocks that were right are kept, so send only the corrected ones, with the same "
            "batchId and claimToken. Repeating a call that succeeded is harmless.\n\n"
            'A mock with reuse "run" answers the same request again for the rest of the run '
            "without asking you: give it to a poll's last state and to data that does not change.",
            _result(
                {"ok": _BOOLEAN, "message": _STRING, "delivered": _BOOLEAN, "next": _STRING},
                warnings={
                    **_list(_OBJECT),
                    "description": "Violations of the contract that were delivered all the same.",
                },
                unchecked={
                    **_STRINGS,
                    "description": "Requests whose mock no contract could judge, and why.",
                },
            ),
            idempotent=True,
        ),
        _tool(
            "release_batch",
            "Release a batch",
            "Give back a batch you claimed and will not answer, with the reason: others may claim "
            "it then, and read the reason. Its test goes on waiting.",
            _result({"ok": _BOOLEAN, "message": _STRING}),
            idempotent=True,
        ),
        _tool(
            "get_pending_batches",
            "List waiting batches",
            "List the batches that nobody works on, oldest first, with method and endpoint of "
            "their requests. Changes nothing and claims nothing; to work on one, call "
            "claim_next_batch.",
            _result(
                {"batches": _list(_PENDING), "total": _NUMBER, "unreachable": _UNREACHABLE},
                notShown=_NUMBER,
            ),
            read_only=True,
        ),
        _tool(
            "renew_claim",
            "Renew a claim",
            "Keep a batch for longer while you write a large answer. If the lease has ended and "
            "nobody took the batch, it is yours again.",
            _result({"ok": _BOOLEAN, "leaseUntil": _NUMBER}),
        ),
        _tool(
            "get_schema",
            "Open a schema",
            "Read a part of the response schema of one request, in the condensed form of "
            'claim_next_batch: pass the pointer of a `$fold` or `$more`, or "" for the whole. '
            "`status` reads the schema of another declared answer, such as 404. `complete` false: "
            "required parts are folded; open them too. Changes nothing.",
            _result(
                {
                    "batchId": _STRING,
                    "requestId": _STRING,
                    "pointer": _STRING,
                    "status": _NUMBER,
                    "schema": _OBJECT,
                },
                operation=_STRING,
                complete=_BOOLEAN,
            ),
            read_only=True,
        ),
    )
}
