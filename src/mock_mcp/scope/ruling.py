"""What the contracts say of one call: found once, for the request and for a recorded answer.

An answer that is obtained comes later, perhaps minutes later, and is judged by the contracts as
they are then: it has a ruling of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mock_mcp.client.police import ContractMode, Police
from mock_mcp.errors import ContractWarning
from mock_mcp.real_files import on_real_files
from mock_mcp.types import Mock, Violation

if TYPE_CHECKING:
    from mock_mcp.contract.gate import Contracts, Source, Verdict

__all__ = ["Ruling", "rule"]

_WARNED_FRAMES = 6
"""Frames between a check that warns and the HTTP library's call."""


class Ruling(NamedTuple):
    """The contract of a call, as it was when the ruling was made, and how violations are treated.

    ``source`` names the operation, or why there is none; ``wire`` is the request object, ``name``
    what messages call it.
    """

    contracts: Contracts
    mode: ContractMode
    source: Source
    wire: Mapping[str, Any]
    name: str

    def check_request(self) -> None:
        """Check what the code under test sends.

        Raises:
            ContractViolation: It breaks the contract, and the mode is ``enforce``.
            MockMcpError: A document cannot be used.
        """
        if violations := self._violations():
            Police.report(
                self.name,
                violations,
                self.mode,
                stacklevel=_WARNED_FRAMES + 1,
                advice='If it is meant to, say so: contract="off" (in the marker or intercept).',
            )

    @on_real_files
    def _violations(self) -> Sequence[Violation]:
        return self.contracts.check_request(self.wire, self.source)

    @on_real_files
    def verdict(self, mock: Mock) -> Verdict:
        """Return what the contract says of an answer, and leave to the caller what it means."""
        return self.contracts.check_mock(self.wire, mock, self.source)

    def check_answer(
        self, mock: Mock, mode: ContractMode | None = None, *, advice: str | None = None
    ) -> Verdict:
        """Check an answer.

        Args:
            mock: The answer.
            mode: How its violations are treated, if not as those of the call.
            advice: What to do if it is meant to break the contract.

        Raises:
            ContractViolation: It breaks the contract, and the mode is ``enforce``.
            MockMcpError: The contract cannot judge it, and the mode is ``enforce``.
        """
        verdict = self.verdict(mock)
        chosen = mode or self.mode
        if verdict.error is not None:  # nobody judged it
            if chosen == "enforce":
                raise verdict.error
            message = f"The answer to {self.name} was not checked: {verdict.error}"
            warnings.warn(message, ContractWarning, stacklevel=_WARNED_FRAMES)
        if verdict.violations:
            what = f"The answer to {self.name}"
            Police.report(
                what, verdict.violations, chosen, stacklevel=_WARNED_FRAMES, advice=advice
            )
        return verdict


@on_real_files
def rule(police: Police, wire: Mapping[str, Any], name: str) -> Ruling | None:
    """Return what the contracts say of a call now; None when none can apply.

    Args:
        police: Who knows the contracts.
        wire: The request object.
        name: What messages call it.

    Raises:
        ConfigurationError: The project's settings cannot be used.
    """
    found = police.contracts_for(wire)
    return None if found is None else Ruling(*found, found[0].resolve(wire), wire, name)
