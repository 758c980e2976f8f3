"""The recipe is chosen on validation rows, part by part, and ships as one graph."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from quatrain.core import export
from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models import recipe as recipes
from quatrain.fintech.models.fold import Fold, X
from quatrain.fintech.models.recipe import Recipe, choose, fit
from quatrain.fintech.models.recipe_settings import IsolationSettings, RecipeSettings, quick_settings
from quatrain.fintech.models.stacking import Stack
from quatrain.fintech.models.tabm_settings import TabmSettings
from quatrain.fintech.models.trees import TreeSettings

NAMES = ("amount", "customer_mean_7d", "V1")
TREES = TreeSettings(max_rounds=30, step=10, n_seeds=2, learning_rate=0.2, num_leaves=6, max_bin=63)
TABM = TabmSettings(members=2, hidden=(16,), bins=8, epochs=3, batch_size=128, learning_rate=1e-2, device="cpu")
ISOLATION = IsolationSettings(n_trees=10, n_rows=32)
LEAN = RecipeSettings(trees={"small": TREES})


def world(n: int, *, seed: int, kind: str = "ratio") -> tuple[X, Labels]:
    """Return rows in which frauds have a high amount for their card ("ratio"), or a high V1 ("plain")."""
    rng = np.random.default_rng(seed)
    mean = np.exp(2 * rng.normal(size=n))
    amount = mean * np.exp(rng.normal(size=n) / 2)
    v1 = rng.normal(size=n)
    strength = np.log(amount / mean) * 6 if kind == "ratio" else 3 * v1
    label = rng.random(n) < 1 / (1 + np.exp(6 - strength))
    return np.column_stack([amount, mean, v1]).astype(np.float32), label


def folds(kind: str = "ratio") -> list[Fold]:
    """Return two folds."""
    made = []
    for seed in (0, 2):
        (x, y), (later_x, later_y) = world(2500, seed=seed, kind=kind), world(2500, seed=seed + 1, kind=kind)
        made.append(Fold(x_train=x, y_train=y, x_valid=later_x, y_valid=later_y))
    return made


def with_everything() -> Recipe:
    """Return a recipe of all parts, chosen by hand."""
    return Recipe(
        name="small",
        settings=TREES,
        valid_ap={"small": 0.5},
        ratios=((0, 1),),
        isolation=ISOLATION,
        tabm=TABM,
        stack=Stack(weights=(0.7, 0.4), intercept=-0.1),
    )


def test_ratios_are_kept_where_they_help() -> None:
    """What a tree finds in one split of a quotient takes it many of two columns."""
    chosen = choose(folds(), LEAN, seed=0, names=NAMES)
    assert chosen.ratios == ((0, 1),)
    assert chosen.valid_ap["small + ratios"] > chosen.valid_ap["small"] + 0.03


def test_without_names_or_wish_there_are_no_ratios() -> None:
    """A caller that knows no names gets the inputs as they are."""
    assert choose(folds(), LEAN, seed=0).ratios == ()
    assert choose(folds(), LEAN.model_copy(update={"ratios": False}), seed=0, names=NAMES).ratios == ()


def test_every_look_is_told() -> None:
    """Each part's rounds or epochs so far; the highest of a part is what the recipe says of it."""
    looks: list[tuple[str, int, float]] = []
    settings = RecipeSettings(trees={"small": TREES}, tabm=TABM)
    chosen = choose(folds(), settings, seed=0, names=NAMES, on_look=lambda *look: looks.append(look))
    assert [step for part, step, _ in looks if part == "small"] == [10, 20, 30]
    assert [step for part, step, _ in looks if part == "tabm"] == [1, 2, 3]
    for part in ("small", "small + ratios", "tabm"):
        assert max(ap for name, _, ap in looks if name == part) == pytest.approx(chosen.valid_ap[part])


def test_the_first_way_of_growing_wins_a_tie() -> None:
    """The same settings under another name are no better; useless ones neither; better ones are."""
    poor = TREES.model_copy(update={"max_rounds": 1, "step": 1, "num_leaves": 2})
    alike = RecipeSettings(trees={"first": TREES, "second": TREES, "poor": poor})
    assert choose(folds("plain"), alike, seed=0).name == "first"
    better = RecipeSettings(trees={"poor": poor, "good": TREES})
    assert choose(folds(), better, seed=0).name == "good"


def test_rounds_are_chosen_and_the_seeds_are_those_of_the_settings() -> None:
    """Trials grow one seed; the final trees all of them, for the rounds of the best look."""
    chosen = choose(folds("plain"), LEAN, seed=0)
    assert chosen.settings.max_rounds in (10, 20, 30)
    assert chosen.settings == TREES.model_copy(update={"max_rounds": chosen.settings.max_rounds})
    assert fit(chosen, *world(500, seed=9), seed=0).booster.num_trees() == 2 * chosen.settings.max_rounds


def test_parts_that_add_nothing_are_left_out() -> None:
    """Oddness is noise here, and so is the answer of a network that never learned."""
    idle = TABM.model_copy(update={"epochs": 1, "learning_rate": 1e-9})
    settings = RecipeSettings(trees={"small": TREES}, isolation=ISOLATION, tabm=idle)
    chosen = choose(folds("plain"), settings, seed=0)
    assert (chosen.isolation, chosen.tabm, chosen.stack) == (None, None, None)
    assert chosen.valid_ap.keys() == {"small", "small + isolation", "tabm", "stack", "stack's trees alone"}


def test_a_network_that_adds_something_answers_beside_the_trees() -> None:
    """Stumps of a few rounds know little; the network's weight is above 0, its epochs within the settings."""
    stumps = TREES.model_copy(update={"max_rounds": 3, "step": 3, "num_leaves": 2, "n_seeds": 1})
    settings = RecipeSettings(trees={"stumps": stumps}, tabm=TABM)
    chosen = choose(folds(), settings, seed=0, names=NAMES)
    assert chosen.tabm is not None
    assert 1 <= chosen.tabm.epochs <= 3
    assert chosen.stack is not None
    assert chosen.stack.weights[1] > 0
    assert chosen.valid_ap["stack"] > chosen.valid_ap["stack's trees alone"]


def test_oddness_that_tells_frauds_becomes_a_column() -> None:
    """Frauds lie far out in any direction: one column says it, where a stump sees one side."""
    made = []
    for seed in (0, 2):
        rng = np.random.default_rng(seed)
        x, later = rng.normal(size=(2, 2500, 6)).astype(np.float32)
        y, later_y = (np.linalg.norm(rows, axis=1) + rng.normal(size=2500) / 5 > 3.7 for rows in (x, later))
        made.append(Fold(x_train=x, y_train=y, x_valid=later, y_valid=later_y))
    stumps = TREES.model_copy(update={"num_leaves": 2})
    settings = RecipeSettings(trees={"stumps": stumps}, isolation=IsolationSettings())
    assert choose(made, settings, seed=0).isolation == IsolationSettings()


def test_too_many_rows_leave_the_network_out() -> None:
    """Its training would take hours: it is not even tried."""
    settings = RecipeSettings(trees={"small": TREES}, tabm=TABM, tabm_rows=2499)
    assert "tabm" not in choose(folds("plain"), settings, seed=0).valid_ap


def test_folds_with_one_label_teach_nothing() -> None:
    """They are left out; where all are, the caller hears of it."""
    made = folds("plain")
    blind = replace(made[0], y_valid=np.zeros(2500, dtype=bool))
    assert choose([blind, made[1]], LEAN, seed=0) == choose(made[1:], LEAN, seed=0)
    with pytest.raises(ValueError, match="needs at least one fold with both labels in both of its parts"):
        choose([blind], LEAN, seed=0)


def test_choosing_again_chooses_the_same() -> None:
    """Deterministic for a seed."""
    first, second = (choose(folds(), LEAN, seed=4, names=NAMES) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("parts", [(), ("ratios",), ("isolation",), ("ratios", "isolation"), ("tabm", "stack"), "all"])
def test_the_graph_of_any_recipe_gives_its_answers(parts: tuple[str, ...] | str) -> None:
    """Float32 inputs to one probability, within 1e-5 at batches of 1, 2, 7 and 64."""
    whole = with_everything()
    kept = vars(whole) if parts == "all" else {part: getattr(whole, part) for part in parts}
    recipe = Recipe(**{**kept, "name": "small", "settings": TREES, "valid_ap": {}})
    x, y = world(1500, seed=5)
    ensemble = fit(recipe, x, y, seed=0)
    # A card without a mean, and amounts that no float32 quotient holds.
    rows = np.concatenate([x[:130], [[5, 0, 0], [3e38, 1e-38, 1], [0, 3e38, -3e38]]]).astype(np.float32)
    exported = ensemble.export()
    answer = ensemble.predict(rows)
    assert answer.dtype == np.float64
    assert ((answer >= 0) & (answer <= 1)).all()
    expected = {"probability": answer.astype(np.float32)}
    assert export.check_parity(exported.onnx, {"features": rows}, expected, atol=1e-5) < 1e-5
    assert (exported.weights is None) == (ensemble.tabm is None)
    assert average_precision(y, ensemble.predict(x)) > 0.3


def test_a_recipe_trained_again_is_the_same_model() -> None:
    """The graph byte for byte; another seed gives another."""
    x, y = world(800, seed=6)
    first, again, other = (fit(with_everything(), x, y, seed=seed).export().onnx for seed in (1, 1, 2))
    assert first == again != other


def test_the_summary_names_every_part() -> None:
    """What a manifest says: plain JSON values, the parts that are missing included."""
    summary = with_everything().summary()
    assert summary["trees"] == "small"
    assert summary["max_rounds"] == 30
    assert summary["ratios"] == 1
    assert summary["tabm"]["epochs"] == 3
    assert summary["stack"] == {"weights": [0.7, 0.4], "intercept": -0.1}
    bare = Recipe(name="small", settings=TREES, valid_ap={}).summary()
    assert [bare[part] for part in ("ratios", "isolation", "tabm", "stack")] == [0, None, None, None]


def test_the_quick_settings_need_no_torch() -> None:
    """Choosing, training and exporting import none."""
    assert quick_settings(max_rounds=10).trees["lightgbm"].step == 10
    code = (
        "import sys, numpy as np\n"
        "from quatrain.fintech.models.recipe import Fold, choose, fit\n"
        "from quatrain.fintech.models.recipe_settings import quick_settings\n"
        "x = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)\n"
        "y = x[:, 0] > 1\n"
        "recipe = choose([Fold(x_train=x, y_train=y, x_valid=x, y_valid=y)], quick_settings(max_rounds=10), seed=0)\n"
        "fit(recipe, x, y, seed=0).export()\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_stack_is_judged_on_rows_that_its_weights_have_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of the latest fold's first half, judged on its second half and the fold before."""
    fitted: list[int] = []
    judged: list[list[int]] = []
    fit_stack, is_better = recipes.fit_stack, recipes.is_better

    def spy_fit(odds: Floats, label: Labels) -> Stack:
        fitted.append(len(label))
        return fit_stack(odds, label)

    def spy_judge(folds: list[Fold], *rest: Any, **settings: Any) -> bool:
        judged.append([len(fold.y_valid) for fold in folds])
        return is_better(folds, *rest, **settings)

    monkeypatch.setattr(recipes, "fit_stack", spy_fit)
    monkeypatch.setattr(recipes, "is_better", spy_judge)
    choose(folds(), RecipeSettings(trees={"small": TREES}, tabm=TABM), seed=0)
    assert fitted[0] == 1250
    assert judged == [[2500, 1250]]


def test_a_network_is_not_tried_where_half_of_the_rows_has_no_fraud(caplog: pytest.LogCaptureFixture) -> None:
    """Few frauds are no reason to fail; the log says what was left out, and so for too many rows."""
    made = folds("plain")
    first = np.arange(len(made[-1].y_valid)) < 1250
    made[-1] = replace(made[-1], y_valid=made[-1].y_valid & first)
    settings = RecipeSettings(trees={"small": TREES}, tabm=TABM)
    assert choose(made, settings, seed=0).tabm is None
    assert "half of the latest validation rows" in caplog.text
    assert choose(made, settings.model_copy(update={"tabm_rows": 10}), seed=0).tabm is None
    assert "tabm_rows=10" in caplog.text


def test_nothing_of_the_later_rows_reaches_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that are fitted, such as oddness, are fitted on the earlier rows of each fold."""
    seen: list[int] = []
    grow = recipes.grow_isolation

    def spy(settings: IsolationSettings, x: X, *, seed: int) -> object:
        seen.append(len(x))
        return grow(settings, x, seed=seed)

    monkeypatch.setattr(recipes, "grow_isolation", spy)
    made = [replace(fold, x_train=fold.x_train[:2000], y_train=fold.y_train[:2000]) for fold in folds("plain")]
    choose(made, RecipeSettings(trees={"small": TREES}, isolation=ISOLATION), seed=0)
    assert seen == [2000, 2000]
