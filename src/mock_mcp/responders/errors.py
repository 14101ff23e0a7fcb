"""Why a responder could not answer."""

from __future__ import annotations

from mock_mcp.errors import MockMcpError

__all__ = ["CannotAnswer", "ResponderUnusable"]


class CannotAnswer(MockMcpError):
    """A responder could not answer one batch; the message is the reason its test is told."""

    code = "cannot-answer"


class ResponderUnusable(MockMcpError):
    """A responder can answer nothing: no key, a wrong key, no such model, no server there."""

    code = "responder-unusable"
