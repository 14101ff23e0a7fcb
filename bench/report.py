"""A row of a benchmark: ours beside a reference that was measured in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Row", "Size", "alternate", "heading", "text_of"]


@dataclass(frozen=True)
class Size:
    """How much is measured: the smoke size only shows that everything still runs."""

    smoke: bool

    def of(self, full: int, smoke: int) -> int:
        """Choose a number."""
        return smoke if self.smoke else full


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        what: What was measured.
        ours: Values of ours, in ``unit``.
        reference: What ``theirs`` are values of.
        theirs: Values of the reference; paired with ours one by one for a difference.
        unit: What the values count.
        target: The figure wanted, at most; None when it is only for information.
        figure: The medians' ratio, or the median of the pairs' differences.
        note: What the figure does not say.
    """

    what: str
    ours: Sequence[float]
    reference: str
    theirs: Sequence[float]
    unit: str = "ms"
    target: float | None = None
    figure: Literal["ratio", "difference"] = "ratio"
    note: str = ""

    @property
    def value(self) -> float:
        """The figure."""
        if self.figure == "difference":
            pairs = zip(self.ours, self.theirs, strict=True)
            return statistics.median(ours - theirs for ours, theirs in pairs)
        return statistics.median(self.ours) / statistics.median(self.theirs)

    @property
    def met(self) -> bool | None:
        """Whether the figure is as wanted; None without a target."""
        return None if self.target is None else self.value <= self.target

    def to_json(self) -> dict[str, Any]:
        """Return the row with medians and quartiles."""
        return {
            "what": self.what,
            "unit": self.unit,
            "ours": spread(self.ours),
            "reference": self.reference,
            "theirs": spread(self.theirs),
            "figure": self.figure,
            "value": self.value,
            "target": self.target,
            "met": self.met,
            **({"note": self.note} if self.note else {}),
        }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the quartiles and the smallest of some values."""
    if len(values) == 1:
        return dict.fromkeys(("median", "low", "high", "min"), values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high, "min": min(values)}


def alternate(rounds: int, *works: Callable[[], float]) -> list[list[float]]:
    """Run works in turns, each first as often as the others; return the values of each."""
    values: list[list[float]] = [[] for _ in works]
    for number in range(rounds):
        for turn in range(len(works)):
            index = (number + turn) % len(works)
            values[index].append(works[index]())
    return values


def heading() -> str:
    return f"{'':58} {'ours: median (quartiles)':>30} {'reference':>52}  figure"


def text_of(row: Row) -> str:
    """Return a row as a line of the table."""
    ours, theirs = (_range(spread(values)) for values in (row.ours, row.theirs))
    reference = f"{row.reference}: {theirs}"
    value = f"{row.value:.2f}x" if row.figure == "ratio" else f"{row.value:+.1f} {row.unit}"
    wanted = ""
    if row.target is not None:
        wanted = f"  wanted <= {row.target:g}{'' if row.met else '  MISSED'}"
    note = f"  [{row.note}]" if row.note else ""
    return f"{f'{row.what}, {row.unit}':58} {ours:>30} {reference:>52}  {value}{wanted}{note}"


def _range(found: dict[str, float]) -> str:
    return "{} ({} to {})".format(*(_short(found[name]) for name in ("median", "low", "high")))


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
