"""A Transformer over the events of a card or a device, pretrained to say what comes next.

An event is predicted in three steps from what came before it: when (gap and hour); where, given
when; how much, given when and where. Blocks and configuration are Llama's from `transformers`, with
vectors of events in place of a vocabulary: nothing is downloaded.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quatrain.core.errors import require
from quatrain.fintech.features.sequences import Values
from quatrain.fintech.models.history_settings import HistorySettings
from quatrain.fintech.models.history_tokens import CHANNEL, HOURS, N_AGO, TokenParts, channel

PACKAGE = "quatrain-fintech[deep]"
# Counted beside every bucket's events: one that training never saw is not impossible.
_UNSEEN = 0.5


class EventHistory(nn.Module):
    """What an owner's events up to each one say.

    Shape: tokens (B, T, C) with C >= len(CHANNELS) -> (B, T, width); channels beyond CHANNELS are
    left to other modules. `tokens` (n, C) of the training time fix the bins.
    """

    def __init__(self, tokens: Values, settings: HistorySettings) -> None:
        super().__init__()
        llama = require("transformers.models.llama.modeling_llama", package=PACKAGE)
        width = settings.width
        self.settings = settings
        self.parts = TokenParts(tokens, settings)
        # Stands where the owner has no event, and so for one of which nothing is known.
        self.start = nn.Parameter(torch.zeros(width))
        self.enter = nn.LayerNorm(width)
        self.dropout = nn.Dropout(settings.dropout)
        config = _llama_config(settings)
        self.blocks = nn.ModuleList(llama.LlamaDecoderLayer(config, layer) for layer in range(settings.layers))
        self.positions = llama.LlamaRotaryEmbedding(config)
        self.norm = llama.LlamaRMSNorm(width, eps=config.rms_norm_eps)

    def forward(self, x: Tensor, added: Tensor | None = None) -> tuple[Tensor, Parts]:
        """Return the states (B, T, width) and the tokens' parts; `added` (B, T, width) goes into the tokens."""
        parts = self.parts(x)
        is_event = channel(x, "is_event") > 0  # (B, T)
        h = self.enter(torch.where(is_event[..., None], sum_of(parts), self.start))
        if added is not None:
            h = h + added * is_event[..., None]
        h = self.dropout(h)
        place = torch.arange(x.shape[1], device=x.device)
        # An event looks at itself and at events before it; itself too where it is padding, or softmax had nothing.
        is_seen = ((place[:, None] >= place) & is_event[:, None, :]) | (place[:, None] == place)
        mask = torch.where(is_seen, 0.0, torch.finfo(torch.float32).min)[:, None]  # (B, 1, T, T)
        turns = self.positions(h, place[None])
        for block in self.blocks:
            h = block(h, attention_mask=mask, position_embeddings=turns)
        states: Tensor = self.norm(h)
        return states, parts


class NextEvent(nn.Module):
    """The next event's distribution, given the state before it and the parts of it that are already told."""

    def __init__(self, tokens: Values, parts: TokenParts, settings: HistorySettings) -> None:
        super().__init__()
        width = settings.width
        # What is predicted in classes; buckets of places are predicted apart, among so many.
        self.fields = ("gap", "hour", *(f"{key}_ago" for key in parts.keys), "same_amount", "amount")
        self.gap = nn.Linear(width, parts.gap.n_classes)
        self.hour = nn.Linear(width, HOURS)
        self.given_when = _mixed(2 * width, width)
        self.ago = nn.ModuleList(nn.Linear(width, N_AGO) for _ in parts.keys)
        self.place = nn.ModuleList(
            nn.Sequential(_mixed(2 * width, width), nn.Linear(width, width)) for _ in parts.places
        )
        self.given_both = _mixed(3 * width, width)
        self.same_amount = nn.Linear(width, N_AGO)
        self.amount = nn.Linear(width, parts.amount.n_classes)
        self.log_shares = nn.ParameterList(_log_shares(tokens, place, settings) for place in parts.places)

    def logits(self, state: Tensor, when: Tensor, where: Tensor) -> list[Tensor]:
        """Return each field's logits (..., classes) from the state before an event and its when and where."""
        placed = self.given_when(torch.cat([state, when], -1))
        paid = self.given_both(torch.cat([state, when, where], -1))
        ago = [head(placed) for head in self.ago]
        return [self.gap(state), self.hour(state), *ago, self.same_amount(paid), self.amount(paid)]

    def classes(self, parts: TokenParts, x: Tensor) -> list[Tensor]:
        """Return each field's class of the tokens, int64 (B, T)."""
        ago = [parts.ago_classes(x, f"{key}_ago") for key in parts.keys]
        gap, amount = parts.gap.classes(channel(x, "log_gap")), parts.amount.classes(channel(x, "log_amount"))
        hour = channel(x, "hour").long().clamp(0, HOURS - 1)
        return [gap, hour, *ago, parts.ago_classes(x, "same_amount_ago"), amount]

    def affinities(
        self, parts: TokenParts, x: Tensor, state: Tensor, when: Tensor
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return (query (B, T, width), bucket (B, T), their score (B, T)) for each place.

        A place's score is how much likelier than usual it is here: a product of the query with the
        vector that its bucket is read by.
        """
        given = torch.cat([state, when], -1)
        queries = [body(given) for body in self.place]
        return [
            (query, bucket, (query * embed(bucket)).sum(-1))
            for query, bucket, embed in zip(queries, parts.buckets(x), parts.place, strict=True)
        ]


class Pretraining(nn.Module):
    """Surprise at each part of each next event, summed over a sequence: what pretraining makes small.

    `tokens` (n, C) of the training time fix how often each place is expected.
    """

    def __init__(self, history: EventHistory, tokens: Values) -> None:
        super().__init__()
        self.history = history
        self.next = NextEvent(tokens, history.parts, history.settings)
        self.names = (*self.next.fields, *(f"{place}_bucket" for place in history.parts.places))

    def forward(self, x: Tensor) -> Tensor:
        """Return nats per token (B, len(names)) of tokens (B, T, C)."""
        parts, head = self.history.parts, self.next
        states, (when, where, _) = self.history(x)
        state, following, when, where = states[:, :-1], x[:, 1:], when[:, 1:], where[:, 1:]
        logits = head.logits(state, when, where)
        nats = [surprise(row, told) for row, told in zip(logits, head.classes(parts, following), strict=True)]
        found = head.affinities(parts, following, state, when)
        for (query, bucket, score), embed, log_share in zip(found, parts.place, head.log_shares, strict=True):
            others = self._negatives(bucket)
            rivals = (query @ embed(others).T).masked_fill(others == bucket[..., None], -math.inf)
            # Negatives come as often as the bucket does, so their mean stands for the sum over all, each by its share.
            total = torch.logaddexp(rivals.logsumexp(-1) - math.log(len(others)), score + log_share[bucket])
            nats.append(total - score - log_share[bucket])
        is_event = channel(following, "is_event")[..., None]
        summed: Tensor = (torch.stack(nats, -1) * is_event).sum(1)
        return summed / x.shape[1]

    def _negatives(self, bucket: Tensor) -> Tensor:
        """Return buckets of this batch's events: drawn in training, evenly spaced otherwise."""
        pool, n = bucket.flatten(), self.history.settings.negatives
        if self.training:
            return pool[torch.randint(len(pool), (n,), device=pool.device)]
        return pool[torch.linspace(0, len(pool) - 1, n, device=pool.device).long()]


# (when, where, how much), each (B, T, width).
Parts = tuple[Tensor, Tensor, Tensor]


def sum_of(parts: Parts) -> Tensor:
    """Return the token's vector (B, T, width)."""
    return parts[0] + parts[1] + parts[2]


def surprise(logits: Tensor, told: Tensor) -> Tensor:
    """Return -log p of the class that came, in nats: logits (..., K) and classes (...) -> (...)."""
    return logits.logsumexp(-1) - logits.gather(-1, told[..., None]).squeeze(-1)


def _llama_config(settings: HistorySettings) -> Any:
    llama = require("transformers.models.llama.configuration_llama", package=PACKAGE)
    return llama.LlamaConfig(
        hidden_size=settings.width,
        intermediate_size=2 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=settings.sequence.length,
        attn_implementation="sdpa",
        # There is no vocabulary.
        vocab_size=1,
        bos_token_id=None,
        eos_token_id=None,
    )


def _mixed(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, width), nn.SiLU())


def _log_shares(tokens: Values, place: str, settings: HistorySettings) -> nn.Parameter:
    """Return the logarithm of each bucket's share of the events, which is not trained."""
    buckets = tokens[:, CHANNEL[f"{place}_bucket"]].astype(np.int64)
    n = np.bincount(buckets, minlength=settings.sequence.buckets) + _UNSEEN
    return nn.Parameter(torch.as_tensor(np.log(n / n.sum()), dtype=torch.float32), requires_grad=False)
