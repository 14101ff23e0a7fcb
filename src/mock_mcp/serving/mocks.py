"""A mock as an assistant or a model writes it, and the JSON Schema that tells it how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mock_mcp.types import Mock

__all__ = ["MockArgument", "answer_schema", "argument_schema", "given"]

T = TypeVar("T")

_NOISE = ("title", "description")  # of structs: they document the code, not the argument


class MockArgument(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One mock, as `mock_mcp.types.Mock` but refusing unknown fields."""

    request_id: Annotated[str, Meta(description="The request this answers.")]
    data: Annotated[
        Any,
        Meta(
            description="The response body: any JSON value for a JSON API, a string for text, "
            '{"$base64": "..."} for binary.'
        ),
    ]
    status: Annotated[int, Meta(ge=100, le=599, description="HTTP status; 200 if left out.")] | (
        UnsetType
    ) = UNSET
    headers: (
        Annotated[
            dict[str, str | list[str]],
            Meta(description="Response headers; content-type is application/json if left out."),
        ]
        | UnsetType
    ) = UNSET
    delay_ms: (
        Annotated[
            float,
            Meta(ge=0, le=600_000, description="How long the test waits for this response."),
        ]
        | UnsetType
    ) = UNSET
    reuse: (
        Annotated[
            Literal["run"],
            Meta(
                description="Give this answer to the same request (method, endpoint, body, "
                "instructions) for the rest of the run, without asking you again: for polling."
            ),
        ]
        | UnsetType
    ) = UNSET

    def mock(self) -> Mock:
        """Return the value that goes to the daemon."""
        return Mock(
            self.request_id,
            self.data,
            given(self.status),
            given(self.headers),
            given(self.delay_ms),
            given(self.reuse),
        )


def given(value: T | UnsetType) -> T | None:
    """Return an optional argument, None when it was left out."""
    return None if isinstance(value, UnsetType) else value


def argument_schema(cls: type[msgspec.Struct]) -> dict[str, Any]:
    """Return a struct's JSON Schema, self-contained: some clients do not follow ``$ref``."""
    (root,), components = msgspec.json.schema_components([cls], ref_template="{name}")

    def resolve(schema: Any) -> Any:
        if isinstance(schema, list):
            return [resolve(part) for part in schema]
        if not isinstance(schema, dict):
            return schema
        if "$ref" in schema:
            target = resolve(components[schema["$ref"]])
            return {key: part for key, part in target.items() if key not in _NOISE}
        return {key: resolve(part) for key, part in schema.items()}

    resolved: dict[str, Any] = resolve(root)
    return resolved


def answer_schema(request_ids: Sequence[str]) -> dict[str, Any]:
    """Return the JSON Schema of ``{"mocks": […]}``, an answer to these requests."""
    mock = argument_schema(MockArgument)
    request_id = {**mock["properties"]["requestId"], "enum": list(request_ids)}
    mock = {**mock, "properties": {**mock["properties"], "requestId": request_id}}
    return {
        "type": "object",
        "properties": {"mocks": {"type": "array", "items": mock}},
        "required": ["mocks"],
        "additionalProperties": False,
    }
