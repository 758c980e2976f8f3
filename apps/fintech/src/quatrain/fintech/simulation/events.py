"""Simulated transactions as arrays, and the names of the frauds among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.simulation.draw import Codes, Floats, Ints

LEGITIMATE = "legitimate"
# What a transaction is in truth; its place here is its code.
FRAUD_TYPES = (
    LEGITIMATE,
    "card_testing",
    "account_takeover",
    "merchant_compromise",
    "mule_ring",
    "lost_card",
    "first_party",
)
CARD_TESTING, TAKEOVER, COMPROMISE, MULE_RING, LOST_CARD, FIRST_PARTY = range(1, len(FRAUD_TYPES))
# How the fraud was done; those after `friendly` appear only in the last part of the span.
TACTICS = (
    "none",
    "burst",
    "new_device",
    "own_device",
    "clone",
    "not_present",
    "shared_devices",
    "contactless",
    "bust_out",
    "friendly",
    "distributed_testing",
    "low_and_slow",
    "wallet",
    "separate_devices",
)
(
    BURST,
    NEW_DEVICE,
    OWN_DEVICE,
    CLONE,
    NOT_PRESENT,
    SHARED_DEVICES,
    CONTACTLESS,
    BUST_OUT,
    FRIENDLY,
    DISTRIBUTED,
    LOW_AND_SLOW,
    WALLET,
    SEPARATE_DEVICES,
) = range(1, len(TACTICS))
NEW_TACTICS = (DISTRIBUTED, LOW_AND_SLOW, WALLET, SEPARATE_DEVICES)


@dataclass(frozen=True, kw_only=True)
class Events:
    """One array entry per transaction, in any order."""

    # Seconds since the start of the world.
    at_s: Floats
    customer: Ints
    outlet: Ints
    terminal: Ints
    # -1 where none is known.
    device: Ints
    amount: Floats
    # Indices into FRAUD_TYPES and TACTICS.
    kind: Codes
    tactic: Codes
    # One number for all that one customer suffers (or does) in one go; 0 for legitimate rows.
    case: Ints
    # One number for what the same crew does in one go; 0 for legitimate rows.
    campaign: Ints

    def __len__(self) -> int:
        """Return the number of transactions."""
        return len(self.at_s)

    def take(self, rows: NDArray[Any]) -> Events:
        """Return the chosen rows."""
        return Events(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def legitimate(*, at_s: Floats, customer: Ints, outlet: Ints, terminal: Ints, device: Ints, amount: Floats) -> Events:
    """Return transactions that are no fraud."""
    n_rows = len(at_s)
    return Events(
        at_s=at_s,
        customer=customer,
        outlet=outlet,
        terminal=terminal,
        device=device,
        amount=amount,
        kind=np.zeros(n_rows, dtype=np.int8),
        tactic=np.zeros(n_rows, dtype=np.int8),
        case=np.zeros(n_rows, dtype=np.int64),
        campaign=np.zeros(n_rows, dtype=np.int64),
    )


def concatenate(parts: Sequence[Events]) -> Events:
    """Return all parts' rows in their order."""
    return Events(
        **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Events)}
    )
