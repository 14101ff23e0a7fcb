"""What of a conversion may be recorded: cleaned of secrets, and checked against the contract.

Both are done as a test that records does it, in the same order of things: what is checked is what
will be written, because that is what a replay checks again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from mock_mcp.contract.project import ProjectContracts
from mock_mcp.convert.values import Conversion
from mock_mcp.errors import MockMcpError
from mock_mcp.recordings.drift import judge
from mock_mcp.recordings.format import RecordedInteraction, encode_interaction
from mock_mcp.recordings.redact import Redaction
from mock_mcp.types import Mock

__all__ = ["Checked", "ContractCheck", "accept"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a contract says of an interaction.

    Attributes:
        violations: What is wrong with it, in sentences.
        refused: Whether it is therefore not recorded.
        contract: The hash of the contract that it was checked against.
        operation: The contract's name for the call.
    """

    violations: tuple[str, ...] = ()
    refused: bool = False
    contract: str | None = None
    operation: str | None = None


class ContractCheck:
    """Ask a project's contract, in the project's mode, about what another tool recorded."""

    def __init__(self, contracts: ProjectContracts) -> None:
        self._contracts = contracts

    def declared_headers(self, interaction: RecordedInteraction) -> Sequence[str]:
        """Return the names of the headers that the contract declares for an answer."""
        contracts, mode = self._contracts.current()
        if mode == "off" or interaction.response is None:
            return ()
        source = contracts.resolve(_wire(interaction))
        return source.declared_headers(interaction.response.status)

    def check(self, interaction: RecordedInteraction) -> Checked:
        """Check one interaction as it would be recorded."""
        contracts, mode = self._contracts.current()
        if mode == "off":
            return Checked()
        fit = judge(interaction, contracts, mode="enforce")
        violations = tuple(
            f"{what} {found.pointer}: {found.advice}"
            for what, violations in (("the call", fit.request), ("the answer", fit.response))
            for found in violations
        )
        verdict = None
        if (response := interaction.response) is not None:
            body = None if response.body is msgspec.UNSET else response.body
            mock = Mock("imported", body, response.status, response.headers)
            verdict = contracts.check_mock(_wire(interaction), mock)
        return Checked(
            violations,
            refused=bool(violations) and mode == "enforce",
            contract=None if verdict is None else verdict.contract_hash,
            operation=fit.operation,
        )


def _wire(interaction: RecordedInteraction) -> dict[str, str]:
    request = interaction.request
    return {"requestId": "imported", "endpoint": request.url, "method": request.method}


def accept(
    conversion: Conversion, redaction: Redaction, check: ContractCheck | None = None
) -> list[RecordedInteraction]:
    """Return the interactions that may be recorded; note in the conversion those that may not.

    Args:
        conversion: As it was read; losses are added.
        redaction: What may be written.
        check: Asks the contract; None checks nothing.
    """
    accepted: list[RecordedInteraction] = []
    for place, interaction in conversion.calls:
        try:
            declared = check.declared_headers(interaction) if check is not None else ()
            cleaned = redaction.interaction(interaction, declared)
            encode_interaction(cleaned)
            checked = check.check(cleaned) if check is not None else Checked()
        except (ValueError, TypeError, RecursionError) as exc:
            conversion.lose(place, f"it cannot be written as JSON: {exc}", call=True)
            continue
        except MockMcpError as exc:
            conversion.lose(place, f"it cannot be checked: {exc.message}", call=True)
            continue
        if checked.violations:
            reason = f"it breaks the contract: {'; '.join(checked.violations)}"
            conversion.lose(place, reason, call=checked.refused)
            if checked.refused:
                continue
        if interaction.response is not None and cleaned.response is not None:
            conversion.unnamed |= interaction.response.headers.keys() - cleaned.response.headers
        accepted.append(
            msgspec.structs.replace(cleaned, contract=checked.contract, operation=checked.operation)
        )
    return accepted
