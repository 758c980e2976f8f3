"""Online decisions: those of batch scoring, transaction by transaction, across restarts and late labels."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fintech.conftest import Trained, write_world
from tests.fintech.score_models import DAY_US, LABEL_DELAY_DAYS, NAMES, START_US, make_world, seal_model

from quatrain.core.errors import BadDataError
from quatrain.core.inference import Model, load_model
from quatrain.fintech import journal
from quatrain.fintech.data.columns import TYPES
from quatrain.fintech.decide import Decider, Decision, StateError
from quatrain.fintech.features.build import build
from quatrain.fintech.features.transaction import Transaction, transactions
from quatrain.fintech.score.run import ScoreConfig, score

DELAY_US = round(LABEL_DELAY_DAYS * DAY_US)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Return a calibrated model that decides on its score."""
    seal_model(tmp_path / "bundle", is_calibrated=True, threshold=0.9, threshold_on="score")
    return load_model(tmp_path / "bundle")


def in_order(world: pa.Table) -> pa.Table:
    """Return the world in the total order."""
    return world.sort_by([("timestamp", "ascending"), ("transaction_id", "ascending")])


def decide_all(decider: Decider, rows: pa.Table) -> list[Decision]:
    """Return a decision on each row."""
    return [decider.decide(transaction) for transaction in transactions(rows)]


def assert_same(decisions: list[Decision], scores: pa.Table) -> None:
    """Raise unless every number and every decision is that of the scores file."""
    assert [decision.transaction_id for decision in decisions] == scores["transaction_id"].to_pylist()
    assert [decision.is_alert for decision in decisions] == scores["is_alert"].to_pylist()
    assert [decision.score for decision in decisions] == scores["score"].to_pylist()
    assert [decision.probability for decision in decisions] == scores["probability"].to_pylist()
    low, high = scores["low"].to_pylist(), scores["high"].to_pylist()
    assert [decision.interval for decision in decisions] == list(zip(low, high, strict=True))


def test_a_replay_decides_as_batch_scoring_did(model: Model, tmp_path: Path) -> None:
    """Equal numbers, not close ones; the past is the model's journal in both."""
    world = in_order(make_world(900, has_labels=True))
    journal.save_for(model.digest, world.slice(0, 500))
    new = world.slice(500).drop_columns(["is_fraud"])
    (tmp_path / "in").mkdir()
    pq.write_table(new, tmp_path / "in" / "new.parquet")
    score(ScoreConfig(inputs=(tmp_path / "in",), bundle=str(tmp_path / "bundle"), out=tmp_path / "out"))
    decisions = decide_all(Decider(model), new)
    assert_same(decisions, pq.read_table(next((tmp_path / "out" / "scores").iterdir())))
    assert 0 < sum(decision.is_alert for decision in decisions) < len(decisions)


def test_a_champion_decides_online_as_in_batch(trained: Trained, tmp_path: Path) -> None:
    """A real one: boosted trees, calibrated, with every history feature that its data allow."""
    world = in_order(pq.read_table(trained.data))
    journal.save_for(trained.result.bundle.digest, world)
    (tmp_path / "in").mkdir()
    new = in_order(pq.read_table(write_world(tmp_path / "new.parquet", seed=4, days=3)).drop_columns(["is_fraud"]))
    later = pa.compute.add(new["timestamp"], pa.scalar(30 * DAY_US, pa.duration("us"))).cast(TYPES["timestamp"])
    new = new.set_column(new.column_names.index("timestamp"), "timestamp", later)
    pq.write_table(new, tmp_path / "in" / "new.parquet")
    score(ScoreConfig(inputs=(tmp_path / "in",), bundle=str(trained.bundle), out=tmp_path / "out"))
    decisions = decide_all(Decider(trained.bundle), new)
    assert_same(decisions, pq.read_table(next((tmp_path / "out" / "scores").iterdir())))


def test_a_restart_goes_on_as_if_nothing_had_happened(model: Model, tmp_path: Path) -> None:
    """State saved in the middle, another process reads it: the same numbers from there on."""
    world = in_order(make_world(400))
    whole = decide_all(Decider(model), world)
    first = Decider(model)
    decide_all(first, world.slice(0, 250))
    first.save(tmp_path / "state")
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o600
    second = Decider.restored(model, tmp_path / "state")
    rest = decide_all(second, world.slice(250))
    assert [vars(one) | {"latency_s": 0} for one in rest] == [vars(one) | {"latency_s": 0} for one in whole[250:]]


def test_a_label_counts_from_when_it_is_known(model: Model) -> None:
    """What it learns online is what a history with labels tells the offline engine."""
    world = in_order(make_world(500, days=30))
    known_us = START_US + 15 * DAY_US
    frauds = set(world["transaction_id"].to_pylist()[:150:6])
    decider, scores = Decider(model), []
    is_told = False
    for transaction in transactions(world):
        if transaction.at_us >= known_us and not is_told:
            is_told = True
            for each in transactions(world.slice(0, 150)):
                if each.transaction_id in frauds:
                    decider.learn(each, known_us)
        scores.append(decider.decide(transaction).score)
    is_fraud = [id_ in frauds for id_ in world["transaction_id"].to_pylist()]
    known = pa.array([known_us if one else None for one in is_fraud], TYPES["labelled_at"])
    told = world.append_column("is_fraud", pa.array(is_fraud)).append_column("labelled_at", known)
    x = build(told, NAMES, label_delay_us=DELAY_US)
    np.testing.assert_array_equal(np.array(scores, dtype=np.float32), model.predict(x)["score"])
    assert (x != build(world, NAMES, label_delay_us=DELAY_US)).any()


def test_only_alerts_have_reasons(model: Model) -> None:
    """In words, when they are wanted; nobody waits for those of an ordinary transaction."""
    world = in_order(make_world(200))
    decisions = decide_all(Decider(model), world)
    assert all(bool(decision.reasons) <= decision.is_alert for decision in decisions)
    assert any(", usually " in reason for decision in decisions for reason in decision.reasons)
    assert all(decision.latency_s > 0 for decision in decisions)
    quiet = decide_all(Decider(model, has_reasons=False), world)
    assert not any(decision.reasons for decision in quiet)


def test_a_model_with_one_output_calls_its_score_a_probability(tmp_path: Path) -> None:
    """And has no interval."""
    seal_model(tmp_path / "plain", ("amount", "hour"))
    decision = Decider(tmp_path / "plain").decide(Transaction(at_us=START_US, transaction_id="t", amount=5.0))
    assert decision.probability == decision.score
    assert decision.interval is None


def test_a_late_transaction_is_refused_and_not_remembered(model: Model) -> None:
    """Its features would not be exact; the next one is decided as if it had not come."""
    world = in_order(make_world(100, days=30))
    expected = decide_all(Decider(model), world)
    decider = Decider(model)
    decide_all(decider, world.slice(0, 99))
    late = Transaction(at_us=START_US, transaction_id="late", amount=5.0, customer_id="C1")
    with pytest.raises(BadDataError, match="days older than the latest one"):
        decider.decide(late)
    assert decide_all(decider, world.slice(99))[0].score == expected[99].score


def test_the_state_of_another_model_is_refused(model: Model, tmp_path: Path) -> None:
    """Its events say nothing of what this one looks back on."""
    seal_model(tmp_path / "other", ("amount", "customer_count_7d"))
    Decider(tmp_path / "other").save(tmp_path / "state")
    with pytest.raises(StateError, match="the saved state is of other inputs than those of"):
        Decider.restored(model, tmp_path / "state")
    (tmp_path / "state").write_bytes(b"nonsense")
    with pytest.raises(BadDataError, match="no saved state"):
        Decider.restored(model, tmp_path / "state")
