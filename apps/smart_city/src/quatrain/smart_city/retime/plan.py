"""A fixed-time plan: the rows that one signal shows in turn, and how SUMO reads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from quatrain.smart_city.data.network import Phase, Programme


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One signal's plan: rows of (state, seconds), the offset of the first, and SUMO's type of control."""

    tls: str
    name: str
    rows: tuple[Phase, ...]
    offset_s: float = 0.0
    # static, actuated or delay_based.
    kind: str = "static"

    @property
    def cycle_s(self) -> float:
        """The sum of the rows' durations."""
        return sum(row.duration_s for row in self.rows)


def plan_of(programme: Programme, *, name: str | None = None) -> Plan:
    """Return a city's programme as a plan."""
    return Plan(
        tls=programme.tls,
        name=name or programme.name,
        rows=programme.phases,
        offset_s=programme.offset_s,
        kind=programme.kind,
    )


def to_additional(plans: Iterable[Plan]) -> str:
    """Return the plans as a SUMO additional file."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<additional>"]
    for plan in plans:
        lines.append(
            f"    <tlLogic id={quoteattr(plan.tls)} type={quoteattr(plan.kind)} "
            f'programID={quoteattr(plan.name)} offset="{plan.offset_s:g}">'
        )
        lines += [f"        {_row(row)}" for row in plan.rows]
        lines.append("    </tlLogic>")
    return "\n".join([*lines, "</additional>"]) + "\n"


def _row(row: Phase) -> str:
    limits: Sequence[str] = [
        f' {name}="{value:g}"' for name, value in (("minDur", row.min_s), ("maxDur", row.max_s)) if value is not None
    ]
    return f'<phase duration="{row.duration_s:g}" state={quoteattr(row.state)}{"".join(limits)}/>'
