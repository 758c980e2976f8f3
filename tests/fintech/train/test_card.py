"""The card says what the model is made of, and what was tried and left out."""

from __future__ import annotations

from typing import Any

import pytest

from quatrain.fintech.evaluate.protocol import Row
from quatrain.fintech.models.isolation import IsolationSettings
from quatrain.fintech.models.network_recipe import NetworkRecipe
from quatrain.fintech.models.network_settings import MlpSettings
from quatrain.fintech.models.recipe import Recipe
from quatrain.fintech.models.stacking import Stack
from quatrain.fintech.models.tabm_settings import TabmSettings
from quatrain.fintech.models.trees import TreeSettings
from quatrain.fintech.train.card import write_card

DATA = {
    "name": "bank",
    "licence": None,
    "sha256": "ab",
    "is_synthetic": False,
    "rows": 100,
    "frauds": 2,
    "rejected": 0,
    "from": "2018-04-01 00:00",
    "to": "2018-05-01 00:00",
    "train": 60,
    "valid": 20,
    "waiting": 5,
    "test": 15,
}
DECISION = {
    "label_delay_days": 7.0,
    "alert_budget": 0.005,
    "threshold": 0.5,
    "alert_rate": {"rate": 0.004, "low": 0.003, "high": 0.006, "horizon_days": 7},
    "calibration": {"method": "beta", "n": 20, "n_frauds": 1},
}
PARTS: dict[str, dict[str, Any]] = {
    "not tried": {"valid_ap": {"lightgbm": 0.5}},
    "tried and left out": {"valid_ap": {"lightgbm": 0.5, "lightgbm + isolation": 0.49, "tabm": 0.4, "stack": 0.5}},
    "kept": {
        "valid_ap": {"lightgbm": 0.5, "lightgbm + isolation": 0.6, "tabm": 0.6, "stack": 0.7},
        "isolation": IsolationSettings(),
        "tabm": TabmSettings(),
        "stack": Stack(weights=(0.75, 0.5), intercept=0.1),
    },
}


def card(**parts: Any) -> str:
    """Return the card of a model of these parts."""
    recipe = Recipe(name="lightgbm", settings=TreeSettings(max_rounds=250), **parts)
    rows = [Row(name="quatrain", split="test", n=15, metrics={"ap": 0.75}, intervals={"ap": (0.7, 0.8)})]
    return write_card(
        rows=rows, data=DATA, decision=DECISION, training={"recipe": recipe.summary()}, names=("amount", "V1", "V2")
    )


@pytest.mark.parametrize("verdict", PARTS)
def test_each_part_has_a_verdict(verdict: str) -> None:
    """A network or an odd-row column was never tried, was tried and left out, or is in."""
    written = card(**PARTS[verdict])
    assert f"An isolation forest's path length as an input: {verdict}" in written
    assert f"A network (TabM) beside the trees: {verdict}" in written
    for name, ap in PARTS[verdict]["valid_ap"].items():
        assert f"| {name} | {ap:.4f} |" in written
    assert ("0.75, 0.50" in written) == (verdict == "kept")


def test_quotients_are_told_only_where_there_are_some() -> None:
    """And the trees with what matters of their settings, not as a dictionary."""
    assert "3 seeds of 250 trees averaged with 2 quotients" in card(valid_ap={}, ratios=((0, 1), (1, 0)))
    plain = card(valid_ap={})
    assert "averaged\n- Settings: learning_rate 0.02, num_leaves 16" in plain
    assert "{" not in plain


def test_the_data_s_own_columns_are_one_line() -> None:
    """Apart from the inputs that are computed, which are told by what they are about."""
    assert "- amount: `amount`\n- columns of the data: `V1`, `V2`\n" in card(valid_ap={})


def test_a_network_in_place_of_the_trees_is_told() -> None:
    """Its size, its epochs, and that nothing was compared with it."""
    chosen = NetworkRecipe(
        kind="mlp", settings=MlpSettings(hidden=(32, 16), epochs=5), ratios=((0, 1),), valid_ap={"mlp": 0.61}
    )
    rows = [Row(name="quatrain", split="test", n=15, metrics={"ap": 0.75}, intervals={"ap": (0.7, 0.8)})]
    text = write_card(
        rows=rows, data=DATA, decision=DECISION, training={"recipe": chosen.summary()}, names=("amount", "V1", "V2")
    )
    assert "- A perceptron, with 1 quotients of inputs made inside the graph" in text
    assert "epochs 5" in text
    assert "hidden 32 x 16" in text
    assert "Validation AP at the epochs chosen there: 0.6100" in text
    assert "LightGBM" not in text.split("## Results")[0]
