"""An encoder of histories: what it learns from, what it may not learn from, and the graph that it becomes."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tests.fintech.features.oracle import DAY, HOUR, Event, to_table

from quatrain.core import export
from quatrain.core.errors import UserError
from quatrain.fintech.features.sequences import CHANNELS, Ints, SequenceSpec, Tokens, Values, sequences, tokens_of
from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.metrics.scored import Labels
from quatrain.fintech.models import history_training
from quatrain.fintech.models.history_settings import HistorySettings, StageSettings
from quatrain.fintech.models.history_training import HistoryEncoder, parts, pretrained, train_history

SETTINGS = HistorySettings(
    sequence=SequenceSpec(length=8, buckets=64),
    width=16,
    layers=1,
    heads=2,
    n_bins=8,
    negatives=16,
    pretraining_stride=8,
    tuning_stride=4,
    pretraining=StageSettings(epochs=1, batch_size=64),
    tuning=StageSettings(epochs=6, batch_size=64, learning_rate=1e-2),
    device="cpu",
)
N_CARDS, N_EVENTS = 50, 36


@dataclass(frozen=True, kw_only=True)
class World:
    """Cards that buy every six hours; what follows an odd input within the next three events is fraud."""

    tokens: Tokens
    # Of each event, whether the row itself is odd: the input, which the frauds themselves do not show.
    inputs: Values
    labels: Labels
    train: Ints
    test: Ints


@pytest.fixture(scope="module")
def world() -> World:
    """Return the world; the first two thirds of its time are to train on."""
    rng = np.random.default_rng(0)
    start = 19_000 * DAY
    events = [
        Event(start + k * 6 * HOUR + card, f"{k}-{card}", 10.0, customer=f"c{card}", terminal=f"t{rng.integers(20)}")
        for k in range(N_EVENTS)
        for card in range(N_CARDS)
    ]
    tokens = tokens_of([to_table(events)], SETTINGS.sequence)
    is_odd = (rng.random((N_EVENTS, N_CARDS)) < 0.06).astype(np.float32)
    after = np.zeros_like(is_odd)
    for lag in (1, 2, 3):
        after[lag:] = np.maximum(after[lag:], is_odd[:-lag])
    inputs, labels = np.zeros((len(tokens), 1), dtype=np.float32), np.zeros(len(tokens), dtype=np.bool_)
    inputs[tokens.place, 0], labels[tokens.place] = is_odd.ravel(), after.ravel() > 0
    cut = len(tokens) * 2 // 3
    order = np.arange(len(tokens))
    return World(tokens=tokens, inputs=inputs, labels=labels, train=order[:cut], test=order[cut:])


def trained(
    world: World, *, seed: int = 0, labels: Labels | None = None, inputs: Values | None = None
) -> HistoryEncoder:
    """Return an encoder of the world's first part."""
    known = world.labels if labels is None else labels
    return train_history(
        SETTINGS,
        world.tokens,
        world.train,
        world.train,
        known[world.train],
        seed=seed,
        inputs=world.inputs if inputs is None else inputs,
    )


@pytest.fixture(scope="module")
def encoder(world: World) -> HistoryEncoder:
    """Return a trained encoder."""
    return trained(world)


def test_it_sees_in_the_past_what_the_row_does_not_show(world: World, encoder: HistoryEncoder) -> None:
    """A fraud's own row is like any other; only the events before it tell. Later rows of all cards, never learned."""
    embedded = encoder.embed_events(world.tokens, world.test, inputs=world.inputs)
    assert embedded.shape == (len(world.test), len(encoder.names))
    score = embedded[:, encoder.names.index("history_customer_now")].astype(np.float64)
    label = world.labels[world.test]
    # A row alone gives the share of frauds, about 0.17.
    assert average_precision(label, score) > 0.6


def test_the_graph_gives_the_same_embedding(world: World, encoder: HistoryEncoder) -> None:
    """Batches of 1, 2, 7 and 64, padded sequences included; the weights come along."""
    x = sequences(world.tokens, np.arange(100), SETTINGS.sequence, inputs=world.inputs)
    x = np.concatenate([x, np.zeros_like(x[:1])])
    made = encoder.exported()
    assert export.check_parity(made.onnx, {"history": x}, {"embedding": encoder.embed(x)}, atol=1e-4) <= 1e-4
    assert made.weights is not None
    assert made.weights.keys() == encoder.module.state_dict().keys()


def test_same_seed_gives_the_same_weights(world: World, encoder: HistoryEncoder) -> None:
    """Bit for bit; another seed others."""
    weights = encoder.module.state_dict()
    again, other = (trained(world, seed=seed).module.state_dict() for seed in (0, 1))
    assert all(torch.equal(weight, again[name]) for name, weight in weights.items())
    assert any(not torch.equal(weight, other[name]) for name, weight in weights.items())


def test_each_network_learns_from_no_label_of_its_part(world: World, encoder: HistoryEncoder) -> None:
    """With all labels of part 0 turned, what embeds part 0 stays; the other network changes."""
    turned = world.labels ^ (parts(world.tokens) == 0)
    other = trained(world, labels=turned)
    x = sequences(world.tokens, world.test[:50], SETTINGS.sequence, inputs=world.inputs)
    np.testing.assert_array_equal(other.embed(x, part=0), encoder.embed(x, part=0))
    assert not np.allclose(other.embed(x, part=1), encoder.embed(x, part=1))


def test_training_rows_are_embedded_by_the_network_of_their_part(world: World, encoder: HistoryEncoder) -> None:
    """Row by row as `embed` does with that part."""
    rows = world.train[::37]
    found = encoder.embed_events(world.tokens, rows, inputs=world.inputs, is_training=True)
    part = parts(world.tokens)[rows]
    assert set(part) == {0, 1}
    x = sequences(world.tokens, rows, SETTINGS.sequence, inputs=world.inputs)
    for k in (0, 1):
        np.testing.assert_allclose(found[part == k], encoder.embed(x[part == k], part=k), atol=1e-5)


def test_later_events_are_not_looked_at(world: World, encoder: HistoryEncoder) -> None:
    """With other tokens, inputs and labels after the training time, the weights stay."""
    tokens, inputs, labels = (np.copy(a) for a in (world.tokens.values, world.inputs, world.labels))
    tokens[world.test] += 1
    inputs[world.test] = 9
    labels[world.test] ^= True
    later = Tokens(**{**vars(world.tokens), "values": tokens})
    changed = World(tokens=later, inputs=inputs, labels=labels, train=world.train, test=world.test)
    weights = encoder.module.state_dict()
    again = trained(changed).module.state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in weights.items())


def test_pretraining_learns_a_routine(world: World) -> None:
    """Every card buys every six hours: the gap to the next event is soon no surprise."""
    untaught, taught = (
        pretrained(SETTINGS.model_copy(update={"pretraining": stage}), world.tokens, world.train, seed=0)
        for stage in (
            StageSettings(epochs=1, learning_rate=1e-9),
            StageSettings(epochs=10, batch_size=32, learning_rate=1e-2, ema_decay=0.9),
        )
    )
    x = torch.from_numpy(sequences(world.tokens, world.test[::9], SETTINGS.sequence))
    with torch.no_grad():
        nats = [dict(zip(model.names, model(x).mean(0).tolist(), strict=True)) for model in (untaught, taught)]
    assert nats[1]["gap"] < nats[0]["gap"] / 3
    assert nats[1]["hour"] < nats[0]["hour"] / 2


def test_it_learns_from_tokens_alone(world: World) -> None:
    """Without inputs the networks read the channels only."""
    encoder = train_history(SETTINGS, world.tokens, world.train, world.train, world.labels[world.train], seed=0)
    x = sequences(world.tokens, world.test[:20], SETTINGS.sequence)
    assert x.shape[2] == len(CHANNELS)
    assert encoder.n_inputs == 0
    assert np.isfinite(encoder.embed(x)).all()


def test_frauds_of_one_part_only_are_refused(world: World) -> None:
    """One of the two networks would have nothing to learn."""
    with pytest.raises(ValueError, match="frauds and legitimate rows in each of 2 parts of the customers"):
        trained(world, labels=world.labels & (parts(world.tokens) == 0))


def test_sequences_without_their_inputs_are_refused(world: World, encoder: HistoryEncoder) -> None:
    """Tokens alone, where the encoder learned from tokens and an input."""
    x = sequences(world.tokens, world.test[:3], SETTINGS.sequence)
    with pytest.raises(ValueError, match=rf"expected sequences of shape \(n, 8, {len(CHANNELS) + 1}\), got \(3, 8,"):
        encoder.embed(x)


def test_no_sequences_give_no_embeddings(encoder: HistoryEncoder) -> None:
    """Shape and dtype stay."""
    found = encoder.embed(np.zeros((0, SETTINGS.sequence.length, len(CHANNELS) + 1), dtype=np.float32))
    assert found.shape == (0, len(encoder.names))
    assert found.dtype == np.float32


def test_a_training_that_was_stopped_is_no_encoder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM in the middle raises instead of handing half-trained weights on."""
    once = history_training._once

    def and_stop(*arguments: object) -> object:
        monkeypatch.setattr(torch.nn.functional, "binary_cross_entropy_with_logits", stopping)
        return once(*arguments)

    whole = torch.nn.functional.binary_cross_entropy_with_logits

    def stopping(*arguments: object, **options: object) -> torch.Tensor:
        signal.raise_signal(signal.SIGTERM)
        return whole(*arguments, **options)

    monkeypatch.setattr(history_training, "_once", and_stop)
    with pytest.raises(UserError, match=r"training ended at epoch \d of 6: .*SIGTERM; nothing was sealed"):
        trained(world)
