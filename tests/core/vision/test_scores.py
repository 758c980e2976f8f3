"""Measures of a classifier agree with scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from quatrain.core.calibration.temperature import sigmoid, softmax
from quatrain.core.vision.scores import scores_of

RNG = np.random.default_rng(0)


def test_two_classes_agree_with_sklearn_by_either_link() -> None:
    """Two logits, or the one that is their difference, are the same model."""
    labels = RNG.integers(0, 2, 200)
    logits = RNG.normal(size=(200, 2)) + np.eye(2)[labels]
    two = scores_of(logits, labels, link="softmax")
    one = scores_of(logits[:, 1] - logits[:, 0], labels, link="sigmoid")
    positive = softmax(logits)[:, 1]
    expected = {
        "acc": accuracy_score(labels, positive >= 0.5),
        "auc": roc_auc_score(labels, positive),
        "log_loss": log_loss(labels, positive),
    }
    for scores in (two, one):
        assert {name: scores.values[name] for name in expected} == pytest.approx(expected)
        assert 0 <= scores.values["ece"] <= 1
        for name, (low, high) in scores.intervals.items():
            assert low < scores.values[name] < high


def test_several_classes_agree_with_sklearn() -> None:
    """The area is the mean of one against the rest."""
    labels = RNG.integers(0, 4, 300)
    logits = RNG.normal(size=(300, 4)) + np.eye(4)[labels]
    scores = scores_of(logits, labels, link="softmax")
    assert scores.values["auc"] == pytest.approx(roc_auc_score(labels, softmax(logits), multi_class="ovr"))
    assert scores.values["log_loss"] == pytest.approx(log_loss(labels, softmax(logits)))
    low, high = scores.intervals["auc"]
    assert low < scores.values["auc"] < high


def test_a_part_without_a_class_has_no_area() -> None:
    """What cannot be measured is left out, never made up."""
    scores = scores_of(np.array([2.0, -1.0, 3.0]), np.array([1, 1, 1]), link="sigmoid")
    assert "auc" not in scores.values
    assert scores.values["acc"] == pytest.approx(2 / 3)
    assert scores.values["log_loss"] == pytest.approx(-np.log(sigmoid(np.array([2.0, -1.0, 3.0]))).mean())
