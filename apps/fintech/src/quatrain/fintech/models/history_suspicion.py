"""From a sequence to an embedding: how suspicious each of its events is, read off for the last one.

A fraud seldom comes alone, and its neighbours' labels come weeks late. So every event gets log odds
of fraud, and a row's embedding tells its own and those of the events before it: of all, and of those
that share its peer (the device of a card's event, the card of a device's).
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn

from quatrain.fintech.features.sequences import CHANNELS, Values
from quatrain.fintech.models.history import EventHistory, sum_of
from quatrain.fintech.models.history_tokens import channel

# Of so many last events the mean log odds are told; of the most the highest, too.
_SPANS = (1, 3, 10)
_OF_PAST = (*(f"mean_{span}" for span in _SPANS), "highest")
READ = ("now", *(f"all_{kind}" for kind in _OF_PAST), *(f"peer_{kind}" for kind in _OF_PAST))
# Log odds where there is no earlier event: below any that occur.
_NONE = -20.0
_MOST = 15.0
# Standardised inputs beyond this say no more.
_CLIP = 5.0


class Inputs(nn.Module):
    """What else was known of each event, (…, I) raw, on one scale: asinh of quartile ranges from the median."""

    median: Tensor
    spread: Tensor
    mean: Tensor
    sd: Tensor

    def __init__(self, inputs: Values) -> None:
        super().__init__()
        low, median, high = np.quantile(inputs, [0.25, 0.5, 0.75], axis=0)
        sd = inputs.std(axis=0)
        spread = np.where(high > low, high - low, np.where(sd > 0, sd, 1.0))
        squeezed = np.arcsinh((inputs - median) / spread)
        deviation = squeezed.std(axis=0)
        scales = {"median": median, "spread": spread, "mean": squeezed.mean(axis=0)}
        scales["sd"] = np.where(deviation > 0, deviation, 1.0)
        for name, values in scales.items():
            self.register_buffer(name, torch.as_tensor(values, dtype=torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the standardised inputs."""
        squeezed = torch.asinh((inputs - self.median) / self.spread)
        return ((squeezed - self.mean) / self.sd).clamp(-_CLIP, _CLIP)


class Suspicion(nn.Module):
    """Log odds of fraud of each event, given it and those before it: (B, T, C + I) -> (B, T).

    `inputs` (n, I), those of the rows to learn from, fix the scales; None where there are none.
    """

    def __init__(self, history: EventHistory, inputs: Values | None, *, prior: float) -> None:
        super().__init__()
        width = history.settings.width
        self.history = copy.deepcopy(history)
        self.scale = None if inputs is None else Inputs(inputs)
        n_inputs = 0 if inputs is None else inputs.shape[1]
        self.enter = nn.Sequential(nn.Linear(n_inputs, width), nn.SiLU(), nn.Linear(width, width)) if n_inputs else None
        # What was known of the event before enters beside: a step that attention would need many frauds to learn.
        self.before = nn.Linear(width, width)
        last = nn.Linear(width, 1)
        nn.init.constant_(last.bias, math.log(prior / (1 - prior)))
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Dropout(history.settings.dropout), last)

    def forward(self, x: Tensor) -> Tensor:
        """Return log odds; those of padding mean nothing."""
        added = None
        if self.enter is not None and self.scale is not None:
            known = self.enter(self.scale(x[..., len(CHANNELS) :]))
            is_event = channel(x, "is_event")[..., None]
            added = known + self.before(nn.functional.pad((known * is_event)[:, :-1], (0, 0, 1, 0)))
        states, parts = self.history(x, added)
        token = sum_of(parts)
        odds: Tensor = self.head(torch.cat([states, token if added is None else token + added], -1)).squeeze(-1)
        return odds.clamp(-_MOST, _MOST)


class Embedding(nn.Module):
    """The module that is exported: sequences (B, T, C + I) -> (B, len(READ)), by the mean of its networks' log odds."""

    def __init__(self, networks: nn.ModuleList) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedding of each sequence's last event."""
        return read(x, torch.stack([network(x) for network in self.networks]).mean(0))


def read(x: Tensor, odds: Tensor) -> Tensor:
    """Return READ, (B, len(READ)), of sequences (B, T, C) and the log odds (B, T) of their events."""
    is_event = channel(x, "is_event") > 0
    peer = channel(x, "peer_bucket")
    is_peer = is_event & (peer == peer[:, -1:]) & (peer[:, -1:] > 0)
    past = odds[:, :-1]
    return torch.cat([odds[:, -1:], _of_past(past, is_event[:, :-1]), _of_past(past, is_peer[:, :-1])], 1)


def _of_past(odds: Tensor, is_meant: Tensor) -> Tensor:
    """Return _OF_PAST, (B, len(_OF_PAST)), over the events that are meant."""
    n = odds.shape[1]
    meant = is_meant.to(odds.dtype)
    # 1 for the last event that is meant, 2 for the one before it.
    rank = meant @ torch.ones(n, n, device=odds.device).tril()
    told = []
    for span in _SPANS:
        chosen = meant * (rank <= span)
        count = chosen.sum(1)
        told.append(torch.where(count > 0, (odds * chosen).sum(1) / count.clamp(min=1), _NONE))
    is_recent = is_meant & (rank <= _SPANS[-1])
    told.append(torch.where(is_recent, odds, _NONE).amax(1))
    return torch.stack(told, 1)
