"""What a Transformer's embedding of histories adds to a booster on the harder generator, over several worlds.

Per world: 56 days to train (a label counts only if known when the test began), 7 to wait, 28 to test, cards known as
compromised left out as the prequential protocol does. LightGBM on every feature of the full history, its rounds chosen
on the last 14 training days. Then the same booster with the embeddings joined: of the card's last events, and of the
device's over all cards. An encoder sees tokens and the booster's inputs of training time only, and training rows are
embedded by a network that did not learn from their owner. "lags" joins, without a Transformer, the booster's own
out-of-fold log odds of the same earlier events: what the idea is worth apart from the network. Intervals: paired
bootstrap over days. SYNTHETIC data. --quick is one small world with hardly trained networks; it claims nothing.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _report import claim, finish, parser, table

from quatrain.fintech.data.columns import ColumnMap
from quatrain.fintech.data.table import Labelled, load_labelled
from quatrain.fintech.evaluate.folds import Fold as TimeFold
from quatrain.fintech.evaluate.folds import Timeline
from quatrain.fintech.evaluate.windows import Window
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import feature_names
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.features.sequences import Ints, SequenceSpec, Tokens, Values, last_events, tokens_of
from quatrain.fintech.metrics.intervals import Difference, paired_day_difference
from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.metrics.scored import Floats, Scored
from quatrain.fintech.models import trees
from quatrain.fintech.models.fold import Fold
from quatrain.fintech.models.history_settings import HistorySettings, StageSettings
from quatrain.fintech.models.history_suspicion import read
from quatrain.fintech.models.history_training import PARTS, parts, train_history
from quatrain.fintech.models.trees import TreeSettings
from quatrain.fintech.simulation.hard import write_card_fraud_hard

_DELAY_DAYS = 7
_LOOKBACK_DAYS = SequenceSpec().lookback_days + 1
_ALONE, _CARD, _BOTH, _LAGS, _ALL = "booster", "+ card", "+ card, device", "+ lags", "+ card, device, lags"
_OWNERS = ("customer", "device")


@dataclass(frozen=True, kw_only=True)
class _Size:
    customers: int
    train_days: int
    valid_days: int
    test_days: int
    trees: TreeSettings
    history: HistorySettings


_FULL = _Size(
    customers=5_000,
    train_days=56,
    valid_days=14,
    test_days=28,
    trees=TreeSettings(learning_rate=0.06, lambda_l2=5.0, feature_fraction=0.4, n_seeds=2, max_rounds=500),
    history=HistorySettings(sequence=SequenceSpec(length=16), device="cpu"),
)
_ONE_EPOCH = StageSettings(epochs=1)
_QUICK = _Size(
    customers=400,
    train_days=42,
    valid_days=14,
    test_days=14,
    trees=TreeSettings(learning_rate=0.1, lambda_l2=5.0, n_seeds=1, max_rounds=50),
    history=_FULL.history.model_copy(update={"pretraining": _ONE_EPOCH, "tuning": _ONE_EPOCH}),
)


@dataclass(frozen=True, kw_only=True)
class _World:
    """One world's rows, their features, and the days they are learned and tested on."""

    labelled: Labelled
    timeline: Timeline
    x: Values
    fold: TimeFold
    # Rows before the last train days, what was known of them when those began, and those days' rows.
    choosing: TimeFold

    @property
    def train_stop_us(self) -> int:
        """The first moment of which nothing is learned."""
        return self.fold.window.train_stop * DAY_US


def main() -> None:
    """Print what each world gives, what they give together, and the claims."""
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13], help="Seeds of the worlds.")
    options = arguments.parse_args()
    size, seeds = (_QUICK, options.seeds[:1]) if options.quick else (_FULL, options.seeds)
    scored: dict[str, list[Scored]] = {}
    for seed in seeds:
        started = time.process_time()
        of_world = _measured(seed, size)
        for arm, of_arm in of_world.items():
            scored.setdefault(arm, []).append(of_arm)
        print(f"world {seed}: {time.process_time() - started:.0f} CPU-seconds", flush=True)
        _print_gains(f"world {seed}", {arm: [of_arm] for arm, of_arm in of_world.items()})
    if options.quick:
        finish()
    gains = _print_gains(f"{len(seeds)} worlds", scored)
    base = _ap(scored[_ALONE])
    finish(
        [
            claim("relative gain in AP of the embeddings", gains[_BOTH].value / base, 0.2, at_least=True),
            claim("its lower end", gains[_BOTH].low / base, 0, at_least=True),
        ]
    )


def _measured(seed: int, size: _Size) -> dict[str, Scored]:
    """Return the test rows as each arm scores them."""
    world = _world(seed, size)
    rounds = trees.look(size.trees, [_choosing_fold(world)], seed=seed).rounds
    settings = size.trees.model_copy(update={"max_rounds": rounds})
    train, test = world.fold.train, world.fold.test
    print(
        f"world {seed}: {len(train)} train rows with {world.fold.y_train.sum()} known frauds, {len(test)} test rows "
        f"with {world.timeline.label[test].sum()}, {world.x.shape[1]} features, {rounds} rounds",
        flush=True,
    )
    tokens = {owner: _tokens(world, owner, size) for owner in _OWNERS}
    embedded = {owner: _embedded(world, of_owner, owner, size, seed=seed) for owner, of_owner in tokens.items()}
    odds = _out_of_fold(world, tokens[_OWNERS[0]], settings, seed=seed)
    lags = {owner: _lags(world, of_owner, odds, size) for owner, of_owner in tokens.items()}
    joined = {
        _ALONE: [],
        _CARD: [embedded["customer"]],
        _BOTH: [*embedded.values()],
        _LAGS: [*lags.values()],
        _ALL: [*embedded.values(), *lags.values()],
    }
    found = {}
    for arm, blocks in joined.items():
        booster = trees.grow(settings, _columns(world, blocks, train), world.fold.y_train, seed=seed)
        score = trees.predict(booster, _columns(world, blocks, test))
        found[arm] = world.timeline.scored(world.fold, score, score, threshold=None)
    return found


def _world(seed: int, size: _Size) -> _World:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "world.parquet"
        write_card_fraud_hard(path, seed=seed, customers=size.customers)
        labelled = load_labelled(path, ColumnMap.model_validate({"label": {"missing": "unknown"}}))
    timeline = Timeline(labelled, delay_days=_DELAY_DAYS)
    stop = int(timeline.day[-1]) + 1
    train_stop = stop - size.test_days - _DELAY_DAYS
    window = Window(
        train_start=train_stop - size.train_days,
        train_stop=train_stop,
        test_start=train_stop + _DELAY_DAYS,
        test_stop=stop,
    )
    valid_start = train_stop - size.valid_days
    choosing = Window(
        train_start=window.train_start,
        train_stop=valid_start - _DELAY_DAYS,
        test_start=valid_start,
        test_stop=train_stop,
    )
    names = feature_names(
        labelled.table.column_names,
        labelled.extras,
        span_us=(train_stop - int(timeline.day[0])) * DAY_US,
        label_delay_us=_DELAY_DAYS * DAY_US,
        history="full",
    )
    return _World(
        labelled=labelled,
        timeline=timeline,
        x=build(labelled.table, names, label_delay_us=_DELAY_DAYS * DAY_US),
        fold=timeline.fold(window),
        choosing=timeline.fold(choosing),
    )


def _choosing_fold(world: _World) -> Fold:
    """Return what rounds are chosen on; a later row counts as fraud if that is known when the test begins."""
    known = np.zeros(len(world.x), dtype=np.bool_)
    known[world.fold.train] = world.fold.y_train
    train, valid = world.choosing.train, world.choosing.test
    return Fold(x_train=world.x[train], y_train=world.choosing.y_train, x_valid=world.x[valid], y_valid=known[valid])


def _spec(owner: str, size: _Size) -> SequenceSpec:
    return size.history.sequence.model_copy(update={"owner": owner})


def _tokens(world: _World, owner: str, size: _Size) -> Tokens:
    return tokens_of([world.labelled.table], _spec(owner, size))


def _embedded(world: _World, tokens: Tokens, owner: str, size: _Size, *, seed: int) -> Values:
    """Return the embedding of every train and test row, zero elsewhere."""
    settings = size.history.model_copy(update={"sequence": _spec(owner, size)})
    inputs = _of_events(tokens, world.x)
    train, test = tokens.place[world.fold.train], tokens.place[world.fold.test]
    past = np.flatnonzero(tokens.at_us < world.train_stop_us)
    started = time.process_time()
    encoder = train_history(settings, tokens, past, train, world.fold.y_train, seed=seed, inputs=inputs)
    trained = time.process_time()
    found = np.zeros((len(world.x), len(encoder.names)), dtype=np.float32)
    found[world.fold.train] = encoder.embed_events(tokens, train, inputs=inputs, is_training=True)
    found[world.fold.test] = encoder.embed_events(tokens, test, inputs=inputs)
    alone = average_precision(world.timeline.label[world.fold.test], found[world.fold.test, 0].astype(np.float64))
    print(
        f"  {owner}: trained in {trained - started:.0f} CPU-seconds, embedded in {time.process_time() - trained:.0f}; "
        f"its own log odds alone: AP {alone:.4f}",
        flush=True,
    )
    return found


def _out_of_fold(world: _World, tokens: Tokens, settings: TreeSettings, *, seed: int) -> Floats:
    """Return the booster's log odds of every row, before the test by one that learned from no row of its card."""
    part = parts(tokens)[tokens.place]
    train = world.fold.train
    odds = np.zeros((PARTS, len(part)))
    # No sequence reaches further back.
    read_rows = np.flatnonzero(world.timeline.day >= world.fold.window.train_start - _LOOKBACK_DAYS)
    settings = settings.model_copy(update={"n_seeds": 1})
    for k in range(PARTS):
        is_other = part[train] != k
        booster = trees.grow(settings, world.x[train[is_other]], world.fold.y_train[is_other], seed=seed)
        p = trees.predict(booster, world.x[read_rows])
        odds[k, read_rows] = np.log(p) - np.log1p(-p)
    is_train = world.timeline.day < world.fold.window.train_stop
    return np.where(is_train, np.choose(part, odds), np.mean(odds, axis=0))


def _lags(world: _World, tokens: Tokens, odds: Floats, size: _Size) -> Values:
    """Return what an embedding would tell of earlier events, of these log odds in place of a network's."""
    import torch

    spec = size.history.sequence
    found = np.zeros((len(world.x), 0), dtype=np.float32)
    of_event = _of_events(tokens, odds[:, None].astype(np.float32))[:, 0]
    rows = np.concatenate([world.fold.train, world.fold.test])
    for some in np.array_split(rows, 64):
        index = last_events(tokens, tokens.place[some], spec)
        x = np.where(index[..., None] >= 0, tokens.values[index], 0)
        told = read(torch.from_numpy(x), torch.from_numpy(of_event[index]))[:, 1:].numpy()
        if not found.shape[1]:
            found = np.zeros((len(world.x), told.shape[1]), dtype=np.float32)
        found[some] = told
    return found


def _of_events(tokens: Tokens, of_rows: Values) -> Values:
    values = np.zeros((len(tokens), of_rows.shape[1]), dtype=np.float32)
    values[tokens.place] = of_rows
    return values


def _columns(world: _World, blocks: list[Values], rows: Ints) -> Values:
    return np.hstack([world.x[rows], *(block[rows] for block in blocks)])


def _print_gains(title: str, scored: dict[str, list[Scored]]) -> dict[str, Difference]:
    """Print each arm's average precision and gains, and return the gains over the booster alone."""
    base = _ap(scored[_ALONE])
    gains = {arm: _gain(of_arm, scored[_ALONE]) for arm, of_arm in scored.items() if arm != _ALONE}
    rows: list[tuple[object, ...]] = [(_ALONE, base, "", "")]
    rows += [(arm, _ap(scored[arm]), *_cells(gain, base)) for arm, gain in gains.items()]
    table((title, "AP", "gain [95 %]", "relative to the booster"), rows)
    beyond = _gain(scored[_ALL], scored[_LAGS])
    table(
        (f"{title}, beyond the lags", "gain [95 %]", "relative to them"), [(_ALL, *_cells(beyond, _ap(scored[_LAGS])))]
    )
    return gains


def _gain(first: list[Scored], second: list[Scored]) -> Difference:
    return paired_day_difference(first, second, n_resamples=2000)["ap"]


def _cells(gain: Difference, base: float) -> tuple[str, str]:
    """Return the gain, and the gain in parts of what it is a gain over."""
    relative = f"{gain.value / base:+.1%} [{gain.low / base:+.1%}, {gain.high / base:+.1%}]"
    return f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]", relative


def _ap(folds: list[Scored]) -> float:
    return float(np.mean([average_precision(fold.label, fold.score) for fold in folds]))


if __name__ == "__main__":
    main()
