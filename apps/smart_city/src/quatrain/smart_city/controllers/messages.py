"""What signals tell their neighbours: who is about to leave towards them, and when they will be there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Coming:
    """A vehicle on its way from the signal before: the link it heads for, and when it reaches the stop line."""

    link: int
    at_s: float


class Messages:
    """One inbox per signal; a newer message about a vehicle replaces the older one."""

    def __init__(self) -> None:
        self._inboxes: dict[str, dict[str, Coming]] = defaultdict(dict)

    def send(self, tls: str, vehicle: str, coming: Coming) -> None:
        """Tell `tls` about a vehicle."""
        self._inboxes[tls][vehicle] = coming

    def read(self, tls: str, now: float, seen: Collection[str]) -> list[Coming]:
        """Return who is still to come, without those already seen and those overdue."""
        inbox = self._inboxes[tls]
        for vehicle in [vehicle for vehicle, coming in inbox.items() if vehicle in seen or coming.at_s <= now]:
            del inbox[vehicle]
        return list(inbox.values())
