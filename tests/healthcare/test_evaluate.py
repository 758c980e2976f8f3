"""Evaluation, alarm and repair on another site; checks of what is no such picture; the commands' JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from tests.healthcare.conftest import Trained, blobs

from quatrain.core.calibration.conformal import fit_class_thresholds
from quatrain.core.errors import UsageError
from quatrain.core.inference import load_model
from quatrain.healthcare.checks import POSES, Checks, posed
from quatrain.healthcare.decision import Decision, by_class
from quatrain.healthcare.evaluate.adapt import adapt
from quatrain.healthcare.evaluate.config import AdaptConfig, EvaluateConfig
from quatrain.healthcare.evaluate.run import evaluate
from quatrain.healthcare.evaluate.site_shift import ks_gap, mmd_test
from quatrain.healthcare.metrics.measure import mean_auc, measure, quadratic_kappa
from quatrain.healthcare.train.checks_fitting import fit_checks

COMMAND = Path(sys.executable).with_name("quatrain")


def quick(trained: Trained, **changes: object) -> EvaluateConfig:
    """Return a config with few resamples."""
    base = {"data": str(trained.data), "bundle": str(trained.bundle), "n_resamples": 20, "n_permutations": 99}
    return EvaluateConfig.model_validate(base | changes)


def test_the_other_site_rings_the_alarm_and_the_own_does_not(trained: Trained) -> None:
    """Before any label is looked at; baselines come after the model."""
    other, own = evaluate(quick(trained)), evaluate(quick(trained, split="val", baselines=False))
    assert other["site_shift"]["is_alarm"] is True
    assert own["site_shift"]["is_alarm"] is False
    assert [row["name"] for row in other["rows"]][1:] == ["coarse pixels", "commonest class"]
    shipped = other["rows"][0]["metrics"]
    assert {"auc", "acc", "sensitivity", "specificity", "ece", "coverage_0", "coverage_1", "abstained"} <= set(shipped)
    assert set(other["rows"][0]["intervals"]) == set(shipped)
    assert {(group["column"], group["value"]) for group in other["groups"]} == {("sex", "female"), ("sex", "male")}
    assert other["note"] == "Not for diagnosis"


def test_few_labels_repair_coverage_and_probabilities(trained: Trained, tmp_path: Path) -> None:
    """Coverage fails at the other site and is right afterwards; the written bundle gives what was measured."""
    config = AdaptConfig(
        data=str(trained.data),
        bundle=str(trained.bundle),
        labels=50,
        repeats=20,
        out=tmp_path / "new",
        n_permutations=19,
    )
    document = adapt(config)
    after, before = (row["metrics"] for row in document["rows"])
    assert before["coverage_0"] < 0.8
    assert 0.85 <= after["coverage_0"] <= 0.95
    assert 0.85 <= after["coverage_1"] <= 0.95
    assert after["ece"] < before["ece"]
    assert after["acc"] > before["acc"]
    model = load_model(tmp_path / "new")
    assert model.manifest.parent == trained.result.bundle.digest
    images = np.load(trained.data)["test_images"][:8]
    old = load_model(trained.bundle).predict(images)
    slope, offset = model.manifest.decision["slope"], model.manifest.decision["offset"]
    expected = 1 / (1 + np.exp(-(slope * old["logits"] + np.array(offset))))
    np.testing.assert_allclose(model.predict(images)["probability"], expected, atol=1e-5)
    assert "Adapted" in (tmp_path / "new" / "CARD.md").read_text(encoding="utf-8")


def test_a_repair_needs_images_to_measure_with(trained: Trained) -> None:
    """More labels than half of the split are refused with the number that would do."""
    with pytest.raises(UsageError, match="give --labels 200 or fewer"):
        adapt(AdaptConfig(data=str(trained.data), bundle=str(trained.bundle), labels=300))


def test_a_permutation_test_is_honest_without_a_difference() -> None:
    """P-values of two samples of one distribution are below .1 about a tenth of the time, and small for a shift."""
    rng = np.random.default_rng(0)
    p = [
        mmd_test(rng.normal(size=(40, 4)), rng.normal(size=(40, 4)), n_permutations=39, rng=rng)[1] for _ in range(200)
    ]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.06)
    assert mmd_test(rng.normal(size=(40, 4)), rng.normal(1, 1, (40, 4)), n_permutations=99, rng=rng)[1] == 0.01
    assert ks_gap(np.array([1, 2, 3]), np.array([2.5, 3.5])) == pytest.approx(2 / 3)


def test_negatives_turned_and_foreign_pictures_are_caught() -> None:
    """All of them at 1 % false alarms; sets that lie no way in particular are not checked for it."""
    good = blobs(1500, seed=1)[0]
    checks = Checks.from_json(fit_checks(good[:900], good[900:1200], false_alarms=0.01, has_pose=True).to_json())
    assert np.mean([bool(fault) for fault in checks.faults(good[1200:])]) < 0.04
    for pose in range(1, len(POSES)):
        faults = checks.faults(posed(good[1200:], pose))
        assert all(faults), POSES[pose]
        assert np.mean([f"looks {POSES[pose]}" in fault for fault in faults]) > 0.9
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 20), dtype=np.uint8)
    assert all("unlike" in " ".join(fault) for fault in checks.faults(noise))
    free = fit_checks(good[:900], good[900:1200], false_alarms=0.01, has_pose=False)
    assert not any("looks" in " ".join(fault) for fault in free.faults(posed(good[1200:], 3)))


def test_measures_agree_with_sklearn() -> None:
    """Mean area over classes, kappa, and accuracy at the sealed threshold."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    p = rng.dirichlet(np.ones(4), 300) + 0.5 * np.eye(4)[labels]
    p /= p.sum(1, keepdims=True)
    assert mean_auc(labels, p) == pytest.approx(roc_auc_score(labels, p, multi_class="ovr"), abs=1e-12)
    named = p.argmax(1)
    expected = cohen_kappa_score(labels, named, weights="quadratic")
    assert quadratic_kappa(labels, named, n_classes=4) == pytest.approx(expected, abs=1e-12)
    floors = fit_class_thresholds(by_class(p, "ordinal"), labels).floors
    decision = Decision(
        kind="ordinal",
        classes=("a", "b", "c", "d"),
        threshold=0.5,
        level=0.9,
        floors=(floors,),
        distance_limit=1,
        false_alarms=0.01,
    )
    row = measure("x", "test", p, labels, decision, n_resamples=10)
    assert row.metrics["acc"] == pytest.approx((named == labels).mean())
    assert row.metrics["coverage_a"] >= 0.9


def test_commands_print_one_object_and_say_what_they_are_not_for(trained: Trained, tmp_path: Path) -> None:
    """`data generate`, `data describe`, `evaluate` and `score` as a person or cron calls them."""
    made = tmp_path / "p.npz"
    sizes = ["--set", "n_train=10", "--set", "n_val=5", "--set", "n_test=5", "--set", "side=48"]
    assert run("data", "generate", made, *sizes, "--json")["is_synthetic"] is True
    assert run("data", "describe", "--data", made, "--json")["splits"] == {"train": 10, "val": 5, "test": 5}
    found = run(
        "evaluate", "--bundle", trained.bundle, "--data", trained.data, "--split", "test", "--json", "-q",
        "--set", "n_resamples=10", "--set", "n_permutations=19",
    )  # fmt: skip
    assert (found["app"], found["split"], found["n"]) == ("healthcare", "test", 400)


def run(*arguments: str | Path) -> dict[str, object]:
    """Return what the command printed, which must be one JSON object."""
    done = subprocess.run(
        [str(COMMAND), "healthcare", *map(str, arguments)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, object] = json.loads(done.stdout)
    return document
