"""What the contracts say of one call: found once, for the request and for a recorded answer.

An answer that is obtained comes later, perhaps minutes later, and is judged by the contracts as
they are then: it has a ruling of its own.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

from mock_mcp.client.police import ContractMode, Police
from mock_mcp.errors import ContractWarning
from mock_mcp.types import Mock

if TYPE_CHECKING:
    from mock_mcp.contract.gate import Contracts, Source, Verdict
    from mock_mcp.scope.call import Call

__all__ = ["Ruling", "rule"]

_WARNED_FRAMES = 6
"""Frames between a check that warns and the HTTP library's call."""


class Ruling(NamedTuple):
    """The contract of a call, as it was when the ruling was made, and how violations are treated.

    ``source`` names the operation, or why there is none.
    """

    contracts: Contracts
    mode: ContractMode
    source: Source

    def check_request(self, call: Call) -> None:
        """Check what the code under test sends.

        Raises:
            ContractViolation: It breaks the contract, and the mode is ``enforce``.
            MockMcpError: A document cannot be used.
        """
        violations = self.contracts.check_request(call.wire, self.source)
        if violations:
            what = f"{call.method} {call.url}"
            Police.report(what, violations, self.mode, stacklevel=_WARNED_FRAMES + 1)

    def check_answer(self, call: Call, mock: Mock, mode: ContractMode | None = None) -> Verdict:
        """Check an answer.

        Args:
            call: What it answers.
            mock: The answer.
            mode: How its violations are treated, if not as those of the call.

        Raises:
            ContractViolation: It breaks the contract, and the mode is ``enforce``.
            MockMcpError: The contract cannot judge it, and the mode is ``enforce``.
        """
        verdict = self.contracts.check_mock(call.wire, mock, self.source)
        chosen = mode or self.mode
        if verdict.error is not None:  # nobody judged it
            if chosen == "enforce":
                raise verdict.error
            message = f"The answer to {call.method} {call.url} was not checked: {verdict.error}"
            warnings.warn(message, ContractWarning, stacklevel=_WARNED_FRAMES)
        if verdict.violations:
            what = f"The answer to {call.method} {call.url}"
            Police.report(what, verdict.violations, chosen, stacklevel=_WARNED_FRAMES)
        return verdict


def rule(police: Police, call: Call) -> Ruling | None:
    """Return what the contracts say of a call now; None when none can apply.

    Raises:
        ConfigurationError: The project's settings cannot be used.
    """
    found = police.contracts_for(call.wire)
    return None if found is None else Ruling(*found, found[0].resolve(call.wire))
