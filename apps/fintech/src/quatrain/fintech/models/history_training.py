"""An event-history encoder: pretrained on what comes next, tuned on frauds, and read off as an embedding."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quatrain.core import export
from quatrain.core.errors import UserError
from quatrain.core.training import evaluate
from quatrain.core.training.config import FitConfig
from quatrain.core.training.fit import fit
from quatrain.core.training.seeds import seed_everything
from quatrain.fintech.features.sequences import CHANNELS, Ints, Tokens, Values, last_events, sequences
from quatrain.fintech.metrics.scored import Labels
from quatrain.fintech.models.fold import Exported
from quatrain.fintech.models.history import EventHistory, Pretraining
from quatrain.fintech.models.history_settings import HistorySettings, StageSettings
from quatrain.fintech.models.history_suspicion import READ, Embedding, Suspicion, read

_LOG = logging.getLogger(__name__)
# The owners are dealt into so many parts; each network learns from the frauds of all but one.
PARTS = 2
_EMBED_ROWS = 512
# Of an event in a sequence to learn from: fraud, legitimate, or not to be asked here.
_FRAUD, _LEGITIMATE, _UNASKED = 1.0, 0.0, -1.0


@dataclass(frozen=True, kw_only=True)
class HistoryEncoder:
    """Networks that read a sequence, one per part of the owners, and what they make of it for a booster."""

    settings: HistorySettings
    module: Embedding
    # Inputs beside the channels of each event.
    n_inputs: int

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each column of the embedding."""
        return tuple(f"history_{self.settings.sequence.owner}_{name}" for name in READ)

    def embed(self, x: Values, *, part: int | None = None) -> Values:
        """Return the embeddings of sequences (n, T, C + I), float32 of shape (n, len(names)).

        With a `part`, by the network alone that learned from no owner of it. A booster must learn
        from such embeddings of its training rows: of what the networks learned they are too sure.
        Raises ValueError for sequences of another shape.
        """
        expected = self.settings.sequence.length, len(CHANNELS) + self.n_inputs
        if x.shape[1:] != expected:
            raise ValueError(f"expected sequences of shape (n, {expected[0]}, {expected[1]}), got {x.shape}")
        if not len(x):
            return np.empty((0, len(READ)), dtype=np.float32)
        module = self.module if part is None else _Alone(self.module.networks[part])
        embedded: Values = evaluate.predict(module, torch.from_numpy(x), batch_size=_EMBED_ROWS, device="cpu").numpy()
        return embedded

    def embed_events(
        self, tokens: Tokens, events: Ints, *, inputs: Values | None = None, is_training: bool = False
    ) -> Values:
        """Return the embeddings of the sequences that end in these events, a batch at a time.

        With `is_training`, each by the network that did not learn from its owner.
        """
        embedded = np.empty((len(events), len(READ)), dtype=np.float32)
        part = parts(tokens)[events] if is_training else np.zeros(len(events), dtype=np.int64)
        for k in np.unique(part):
            places = np.flatnonzero(part == k)
            for some in np.array_split(places, -(-len(places) // _EMBED_ROWS)):
                x = sequences(tokens, events[some], self.settings.sequence, inputs=inputs)
                embedded[some] = self.embed(x, part=int(k) if is_training else None)
        return embedded

    def exported(self) -> Exported:
        """Return the graph, float32 `history` (n, T, C + I) to `embedding` (n, len(names)), with its weights."""
        example = torch.zeros(2, self.settings.sequence.length, len(CHANNELS) + self.n_inputs)
        # The exporter calls the values of its own lookups "embedding", too.
        onnx = export.torch_model(self.module, {"history": example}, output_names=["told"])
        onnx = _renamed(onnx, {"embedding": "looked_up", "told": "embedding"})
        return Exported(onnx=onnx, weights={name: value.numpy() for name, value in self.module.state_dict().items()})


class _Alone(nn.Module):
    """One network's embedding."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return read(x, self.network(x))


def train_history(
    settings: HistorySettings,
    tokens: Tokens,
    past: Ints,
    rows: Ints,
    labels: Labels,
    *,
    seed: int,
    inputs: Values | None = None,
) -> HistoryEncoder:
    """Return the encoder pretrained on the events `past` and tuned on the labels of the events `rows`.

    `tokens` may hold later events, which are not looked at. `inputs`, one row per event, are what
    else was known of each as it came. Raises ValueError where frauds or other rows are missing in a
    part of the owners, and UserError when SIGTERM ended the training.
    """
    history = pretrained(settings, tokens, past, seed=seed).history
    asked = np.full(len(tokens), _UNASKED, dtype=np.float32)
    asked[rows] = np.where(labels, _FRAUD, _LEGITIMATE)
    part = parts(tokens)
    known = None if inputs is None else inputs[rows]
    networks = []
    for k in range(PARTS):
        of_others = np.where((part == k) | (tokens.owner < 0), np.float32(_UNASKED), asked)
        if not {_FRAUD, _LEGITIMATE} <= set(np.unique(of_others).tolist()):
            raise ValueError(
                f"tuning needs frauds and legitimate rows in each of {PARTS} parts of the {settings.sequence.owner}s, "
                f"got {int(labels.sum())} frauds in {len(labels)} rows"
            )
        prior = float(np.mean(of_others[of_others != _UNASKED] == _FRAUD))
        seed_everything(seed + k)
        network = Suspicion(history, known, prior=float(np.clip(prior, 1e-4, 0.5)))
        networks.append(_tuned(network, tokens, of_others, rows, inputs=inputs, seed=seed + k))
    module = Embedding(nn.ModuleList(networks)).eval()
    return HistoryEncoder(settings=settings, module=module, n_inputs=0 if inputs is None else inputs.shape[1])


def pretrained(settings: HistorySettings, tokens: Tokens, past: Ints, *, seed: int) -> Pretraining:
    """Return the Transformer, with its heads, that learned from these events what comes next; no label is read."""
    seed_everything(seed)
    history = EventHistory(tokens.values[past], settings)
    x = torch.from_numpy(sequences(tokens, _ends(tokens, past, settings.pretraining_stride), settings.sequence))
    model = Pretraining(history, tokens.values[past])
    _fit(model, (x, torch.zeros(len(x))), settings.pretraining, settings, loss=lambda nats, _: nats.sum(-1), seed=seed)
    return model


def parts(tokens: Tokens) -> Ints:
    """Return the part that each event's owner is dealt into, below PARTS."""
    return tokens.owner.astype(np.int64) % PARTS


def _tuned(
    network: Suspicion, tokens: Tokens, asked: NDArray[np.float32], rows: Ints, *, inputs: Values | None, seed: int
) -> Suspicion:
    settings = network.history.settings
    ends = _ends(tokens, rows, settings.tuning_stride)
    index = last_events(tokens, ends, settings.sequence)
    targets = _once(index, np.where(index >= 0, asked[index], np.float32(_UNASKED)), len(tokens))
    is_asked = (targets >= 0).any(axis=1)
    x = torch.from_numpy(sequences(tokens, ends[is_asked], settings.sequence, inputs=inputs))
    weight = torch.tensor(settings.fraud_weight)

    def loss(odds: Tensor, told: Tensor) -> Tensor:
        each = nn.functional.binary_cross_entropy_with_logits(
            odds, told.clamp(min=0), reduction="none", pos_weight=weight.to(odds.device)
        )
        return (each * (told >= 0)).sum(1)

    _fit(network, (x, torch.from_numpy(targets[is_asked])), settings.tuning, settings, loss=loss, seed=seed)
    return network


def _fit(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    stage: StageSettings,
    settings: HistorySettings,
    *,
    loss: Any,
    seed: int,
) -> None:
    config = FitConfig(**stage.model_dump(), seed=seed, device=settings.device)
    result = fit(model, data, loss=loss, config=config, resume=False)
    if result.status == "stopped":
        raise UserError(
            f"training ended at epoch {result.epochs} of {config.epochs}: {result.reason}; "
            "nothing was sealed, start the command again"
        )
    _LOG.debug("%s: loss %.4f", type(model).__name__, result.history[-1]["train_loss"])
    model.cpu().eval()


def _ends(tokens: Tokens, events: Ints, stride: int) -> Ints:
    """Return every stride-th of each owner's events among these, counted back from the last."""
    ordered = events[np.argsort(tokens.spot[events])]
    ordered = ordered[tokens.owner[ordered] >= 0]
    owner = tokens.owner[ordered]
    last = np.flatnonzero(np.diff(owner, append=-1) != 0)
    back = np.repeat(last, np.diff(last, prepend=-1)) - np.arange(len(ordered))
    ends: Ints = ordered[back % stride == 0]
    return ends


def _renamed(model: bytes, names: Mapping[str, str]) -> bytes:
    """Return the graph with other names for some of its values."""
    import onnx

    proto = onnx.load_from_string(model)
    for node in proto.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    for value in (*proto.graph.output, *proto.graph.value_info):
        value.name = names.get(value.name, value.name)
    return export.finished(proto)


def _once(index: Ints, targets: NDArray[np.float32], n_events: int) -> NDArray[np.float32]:
    """Return the targets with each event asked once: where it has the longest past."""
    place = np.broadcast_to(np.arange(index.shape[1]), index.shape)
    longest = np.zeros(n_events, dtype=np.int64)
    is_event = index >= 0
    np.maximum.at(longest, index[is_event], place[is_event])
    return np.where(place < longest[index], np.float32(_UNASKED), targets)
