"""The three HTTP APIs that models are called by, each in its own words.

OpenAI's Chat Completions, which many servers speak; Anthropic's Messages; Ollama's chat. Each asks
for structured output where its API offers it, and for less where a server refuses that.

Sources: platform.openai.com/docs/api-reference/chat, docs.anthropic.com/en/api/messages,
github.com/ollama/ollama/blob/main/docs/api.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from mock_mcp.responders.errors import CannotAnswer
from mock_mcp.responders.http import Api, CallRefused
from mock_mcp.responders.model import Ask, Reply

__all__ = ["ANTHROPIC_VERSION", "Anthropic", "ChatModel", "Ollama", "OpenAI"]

ANTHROPIC_VERSION = "2023-06-01"
ANTHROPIC_MAX_TOKENS = 8192
"""The output limit where the user sets none: the API wants one, and older models take no more."""
OLLAMA_CONTEXT = 8192
"""The smallest context asked for, in tokens: Ollama cuts a longer prompt without a word."""
CHARS_A_TOKEN = 3
"""Fewer than in English text: JSON has more tokens."""
TOOL = "provide_mocks"


class ChatModel(ABC):
    """A model behind an API.

    Args:
        api: The server.
        model: The model's name there.
        max_tokens: Limit of one answer; the server's, or what the API needs, when None.
    """

    path: ClassVar[str]
    probe_path: ClassVar[str]
    structures: ClassVar[tuple[str, ...]]
    """Ways to ask for JSON, the strictest first."""

    def __init__(self, api: Api, model: str, max_tokens: int | None = None) -> None:
        self.name = api.name
        self.model = model
        self.max_tokens = max_tokens
        self._api = api
        self._structure = 0

    async def start(self) -> None:
        """Check that the server is there and takes the key."""
        await self._api.probe(self.probe_path)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def ask(self, ask: Ask) -> Reply:
        """Return the model's answer, with as much structure as the server takes.

        Raises:
            CannotAnswer: The server fails, refuses the call, or answers something else.
            ResponderUnusable: The server will take no call.
        """
        refused: CallRefused | None = None
        for number in range(self._structure, len(self.structures)):
            try:
                answer = await self._api.post(self.path, self.payload(ask, self.structures[number]))
            except CallRefused as exc:
                refused = refused or exc
                continue
            self._structure = number
            try:
                return self.read(answer)
            except (KeyError, IndexError, TypeError, AttributeError):
                raise CannotAnswer(f"{self.name} answered something that is no answer.") from None
        assert refused is not None
        raise refused

    @abstractmethod
    def payload(self, ask: Ask, structure: str) -> dict[str, Any]:
        """Return the body of a call."""

    @abstractmethod
    def read(self, answer: Any) -> Reply:
        """Return what the body of an answer says; raises what a wrong shape raises."""


class OpenAI(ChatModel):
    """Chat Completions of OpenAI and of the servers that speak it."""

    path = "chat/completions"
    probe_path = "models"
    structures = ("json_schema", "json_object", "text")

    def payload(self, ask: Ask, structure: str) -> dict[str, Any]:
        """Return the body of a call."""
        payload: dict[str, Any] = {"model": self.model, "messages": [*_messages(ask)]}
        if structure == "json_schema":
            # Not strict: that would want every field of every body to be named beforehand.
            schema = {"name": "mocks", "schema": ask.schema, "strict": False}
            payload["response_format"] = {"type": structure, "json_schema": schema}
        elif structure == "json_object":
            payload["response_format"] = {"type": structure}
        if self.max_tokens is not None:
            payload["max_tokens"] = self.max_tokens
        return payload

    def read(self, answer: Any) -> Reply:
        """Return what the body of an answer says."""
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        message, reason = choice["message"], choice.get("finish_reason")
        content = message.get("content") or ""
        refusal = message.get("refusal")
        if reason == "content_filter":
            refusal = refusal or "its content filter stopped the answer"
        return Reply(
            content,
            content,
            is_cut=reason == "length",
            refusal=refusal,
            tokens_in=usage.get("prompt_tokens") or 0,
            tokens_out=usage.get("completion_tokens") or 0,
        )


class Ollama(ChatModel):
    """Ollama's own API."""

    path = "api/chat"
    probe_path = "api/tags"
    structures = ("schema", "json", "text")

    def payload(self, ask: Ask, structure: str) -> dict[str, Any]:
        """Return the body of a call."""
        messages = [*_messages(ask)]
        chars = sum(len(message["content"]) for message in messages)
        context = OLLAMA_CONTEXT
        while context < 2 * chars // CHARS_A_TOKEN:  # as much again for the answer
            context *= 2  # in few steps: another context makes Ollama load the model again
        payload: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "stream": False,
            "options": {"num_ctx": context},
        }
        if structure != "text":
            payload["format"] = ask.schema if structure == "schema" else "json"
        if self.max_tokens is not None:
            payload["options"]["num_predict"] = self.max_tokens
        return payload

    def read(self, answer: Any) -> Reply:
        """Return what the body of an answer says."""
        content = answer["message"]["content"]
        return Reply(
            content,
            content,
            is_cut=answer.get("done_reason") == "length",
            tokens_in=answer.get("prompt_eval_count") or 0,
            tokens_out=answer.get("eval_count") or 0,
        )


class Anthropic(ChatModel):
    """Anthropic's Messages; the answer is the input of a tool that the model must use."""

    path = "v1/messages"
    probe_path = "v1/models"
    structures = ("tool",)

    def payload(self, ask: Ask, structure: str) -> dict[str, Any]:
        """Return the body of a call."""
        messages: list[dict[str, Any]] = []
        for turn in ask.turns:
            content: Any = turn.text
            if turn.reply is not None:
                messages.append({"role": "assistant", "content": turn.reply})
                used = [block["id"] for block in turn.reply if block.get("type") == "tool_use"]
                if used:
                    content = [
                        {"type": "tool_result", "tool_use_id": tool_id, "content": turn.text}
                        for tool_id in used
                    ]
            messages.append({"role": "user", "content": content})
        tool = {
            "name": TOOL,
            "description": "Provide the mocks of the test's requests.",
            "input_schema": ask.schema,
        }
        return {
            "model": self.model,
            "max_tokens": self.max_tokens or ANTHROPIC_MAX_TOKENS,
            "system": ask.system,
            "messages": messages,
            "tools": [tool],
            "tool_choice": {"type": "tool", "name": TOOL},
        }

    def read(self, answer: Any) -> Reply:
        """Return what the body of an answer says."""
        blocks, reason, usage = answer["content"], answer.get("stop_reason"), answer["usage"]
        inputs = [block["input"] for block in blocks if block["type"] == "tool_use"]
        text = "".join(block["text"] for block in blocks if block["type"] == "text")
        cached = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        return Reply(
            inputs[0] if inputs else text,
            # Content that is empty is refused when it is sent back.
            blocks or [{"type": "text", "text": "(no answer)"}],
            is_cut=reason == "max_tokens",
            refusal=(text or "it gave no reason") if reason == "refusal" else None,
            tokens_in=sum(usage.get(name) or 0 for name in cached),
            tokens_out=usage.get("output_tokens") or 0,
        )


def _messages(ask: Ask) -> Iterator[dict[str, str]]:
    """Yield a conversation of text."""
    yield {"role": "system", "content": ask.system}
    for turn in ask.turns:
        if turn.reply is not None:
            yield {"role": "assistant", "content": turn.reply}
        yield {"role": "user", "content": turn.text}
