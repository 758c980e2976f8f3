"""What an app tells the overview about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["good", "attention", "empty"]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One line of an app's card: "Open alerts", "37", "12,400.00 at risk"."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where an app stands now.

    `headline` is a short sentence for the state. `command` is the exact next command for
    somebody who has to do something, shown under `next_step`.
    """

    state: State
    headline: str
    facts: tuple[Fact, ...] = ()
    next_step: str = ""
    command: str = ""
    is_synthetic: bool = False


@dataclass(frozen=True, kw_only=True)
class Card:
    """An app on the overview; the entry-point group `quatrain.cards` points to one per app."""

    title: str
    summary: str
    status: Callable[[], Status]
