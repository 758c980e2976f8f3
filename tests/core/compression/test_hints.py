"""Hints from a teacher's layers: the distance by hand, what is trained, and what is left behind."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.core.compression.conftest import Digits, SmallCnn
from torch import nn

from quatrain.core.compression.distill import Distill
from quatrain.core.compression.hints import hinted, relative_distance
from quatrain.core.compression.modules import weights_of
from quatrain.core.compression.retraining import TrainingRows, hint_loss, itself, kd_loss
from quatrain.core.training.config import FitConfig

LAYER = "features.5"


@pytest.fixture
def training(digits: Digits) -> TrainingRows:
    """Return some training rows and an epoch on them."""
    return TrainingRows(
        inputs=torch.from_numpy(digits.x_train[:512]),
        targets=torch.from_numpy(digits.y_train[:512]),
        config=FitConfig(epochs=2, batch_size=64, learning_rate=3e-3, device="cpu"),
    )


def student(width: int = 16) -> nn.Module:
    """Return an untrained network whose last map has `width` channels."""
    torch.manual_seed(1)
    model = SmallCnn()
    model.features[3] = nn.Conv2d(16, width, 3, stride=2, padding=1)
    model.features[4] = nn.BatchNorm2d(width)
    model.head = nn.Linear(width * 16, 10)
    return model


def unexplained(of: nn.Module, teacher: nn.Module, x: torch.Tensor) -> float:
    """Return the share of the teacher's last map that no projection of the student's channels explains.

    Least squares with a constant: what the best 1 x 1 convolution leaves.
    """
    given, wanted = (
        module.get_submodule("features").eval()(x).detach().permute(0, 2, 3, 1).flatten(0, 2).double().numpy()
        for module in (of, teacher)
    )
    design = np.column_stack([given, np.ones(len(given))])
    rest = wanted - design @ np.linalg.lstsq(design, wanted, rcond=None)[0]
    return float((rest**2).sum() / ((wanted - wanted.mean(0)) ** 2).sum())


def test_the_distance_is_the_mean_squared_difference_in_shares_of_the_teachers_power() -> None:
    """By hand: differences 1 and 2, then 0; the teacher's mean square is 5 / 2."""
    wanted = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    given = torch.tensor([[2.0, 4.0], [2.0, 1.0]])
    torch.testing.assert_close(relative_distance(given, wanted), torch.tensor([2.5 / 2.5, 0.0]))
    torch.testing.assert_close(relative_distance(7 * given, 7 * wanted), relative_distance(given, wanted))


def test_a_larger_map_is_pooled_to_the_teachers() -> None:
    """Means of 2 x 2 places."""
    given = torch.arange(16.0).reshape(1, 1, 4, 4)
    pooled = torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]])
    torch.testing.assert_close(relative_distance(given, pooled), torch.zeros(1))


def test_a_student_that_is_its_teacher_is_at_no_distance(trained_cnn: SmallCnn, digits: Digits) -> None:
    """And the loss is that of the logits alone."""
    x = torch.from_numpy(digits.x_test[:8])
    twin = copy.deepcopy(trained_cnn)
    with hinted(twin, trained_cnn, [(LAYER, LAYER)], logits=itself, example=x) as taught:
        logits, hints = taught.eval()(x)
        assert not list(taught.adapters.parameters())
    torch.testing.assert_close(hints, torch.zeros(8))
    targets = torch.cat([torch.from_numpy(digits.y_test[:8])[:, None].float(), logits], dim=1)
    torch.testing.assert_close(hint_loss((logits, hints), targets), kd_loss(logits, targets))


def test_a_teachers_features_are_learned_through_a_projection(
    trained_cnn: SmallCnn, training: TrainingRows, digits: Digits
) -> None:
    """A student half as wide explains more of the teacher's map than one that saw its logits only."""
    x = torch.from_numpy(digits.x_test[:100])
    left = {}
    long = replace(training, config=training.config.model_copy(update={"epochs": 12}))
    for method, hints in (("kd", ()), ("feature", ((LAYER, LAYER),))):
        taught = student()
        long.distil(taught, trained_cnn, method=method, hints=hints)
        left[method] = unexplained(taught, trained_cnn, x)
    assert left["feature"] < 0.9 * left["kd"], left


def test_nothing_of_the_lesson_stays(trained_cnn: SmallCnn, training: TrainingRows) -> None:
    """The student has its own weights only, the teacher its very bits, and neither a hook."""
    before = weights_of(copy.deepcopy(trained_cnn))
    taught = student()
    names = set(taught.state_dict())
    training.distil(taught, trained_cnn, method="feature", hints=((LAYER, LAYER),))
    assert set(taught.state_dict()) == names
    for name, array in weights_of(trained_cnn).items():
        np.testing.assert_array_equal(array, before[name])
    assert not any(layer._forward_hooks for module in (taught, trained_cnn) for layer in module.modules())
    assert not trained_cnn.training


def test_the_same_lesson_gives_the_same_student(trained_cnn: SmallCnn, training: TrainingRows) -> None:
    """Projections begin at random, from the configured seed."""
    short = replace(training, config=FitConfig(epochs=1, batch_size=256, device="cpu"))
    taught = [student(), student()]
    for each in taught:
        torch.rand(3)
        short.distil(each, trained_cnn, method="feature", hints=((LAYER, LAYER),))
    torch.testing.assert_close(*(each.state_dict() for each in taught), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        (("featurs.5", LAYER), "the student has no layer 'featurs.5'; did you mean 'features"),
        ((LAYER, "body"), "the teacher has no layer 'body'"),
        ((LAYER, "head"), "cannot be compared: they give .2, 16, 4, 4. and .2, 10."),
    ],
)
def test_a_hint_that_cannot_be_is_told(
    trained_cnn: SmallCnn, training: TrainingRows, hint: tuple[str, str], reason: str
) -> None:
    """Before anything is trained, and without leaving hooks."""
    taught = student()
    with pytest.raises(ValueError, match=reason):
        training.distil(taught, trained_cnn, method="feature", hints=(hint,))
    assert not any(layer._forward_hooks for module in (taught, trained_cnn) for layer in module.modules())


def test_hints_go_with_their_method(trained_cnn: SmallCnn, training: TrainingRows) -> None:
    """Hints that nobody takes, and a lesson from features without any, are slips."""
    with pytest.raises(ValueError, match="hints go with method feature"):
        Distill(teacher=trained_cnn, training=training, hints=((LAYER, LAYER),))
    with pytest.raises(ValueError, match="it needs one or more"):
        Distill(teacher=trained_cnn, training=training, method="feature")
