"""Pruning and distillation on a small network: what shrinks, what is kept, and what is refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.core.compression.conftest import Digits, Run, SmallCnn, WithSoftmax
from torch import nn

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.open import Bundle
from quatrain.core.compression.artifact import Artifact
from quatrain.core.compression.distill import Distill
from quatrain.core.compression.gate import Gate
from quatrain.core.compression.kernels import cost_of
from quatrain.core.compression.measures import Evaluate
from quatrain.core.compression.modules import exported, weights_of, with_weights
from quatrain.core.compression.plan import CompressionResult, compress
from quatrain.core.compression.prune import Prune
from quatrain.core.compression.quantize import Int8
from quatrain.core.compression.retraining import TrainingRows, dist_loss, kd_loss, label_loss
from quatrain.core.errors import UserError
from quatrain.core.export import check_parity
from quatrain.core.inference import load_model, open_session
from quatrain.core.training.config import FitConfig

KEEP = ("classifier.head",)


def classifier_of(module: nn.Module) -> nn.Module:
    """Return the part that gives logits."""
    return module.get_submodule("classifier")


def require_golden(bundle: Bundle) -> None:
    """Require the golden outputs in every batch size, within the tolerance that was sealed."""
    inputs, expected = bundle.golden()
    check_parity(bundle.onnx, inputs, expected, atol=bundle.manifest.golden_atol, batches=(1, 2, 7, 64))


@pytest.fixture
def training(digits: Digits) -> TrainingRows:
    """Return the training part and two epochs on it."""
    return TrainingRows(
        inputs=torch.from_numpy(digits.x_train),
        targets=torch.from_numpy(digits.y_train),
        config=FitConfig(epochs=2, batch_size=64, learning_rate=3e-3, device="cpu"),
        logits=classifier_of,
    )


@pytest.fixture
def module(trained_cnn: SmallCnn) -> nn.Module:
    """Return the module that was exported into the bundle."""
    return WithSoftmax(copy.deepcopy(trained_cnn)).eval()


@pytest.fixture
def run(bundle: Bundle, gate: Gate, evaluate: Evaluate, module: nn.Module, tmp_path: Path) -> Run:
    """Return a function that runs a plan of these steps on the sealed network and its module."""
    generous = replace(gate, metric_drop=0.05)

    def start(
        *steps: object, module: nn.Module | None = module, gate: Gate = generous, overwrite: bool = False
    ) -> CompressionResult:
        folder = tmp_path / "plan"
        return compress(bundle, steps, gate=gate, evaluate=evaluate, folder=folder, module=module, overwrite=overwrite)

    return start


def test_a_pruned_model_is_sealed_with_weights_that_its_module_takes(
    run: Run, bundle: Bundle, module: nn.Module, training: TrainingRows, digits: Digits
) -> None:
    """Half the channels of each layer go; the weights fit the old module again, and give the graph's answers."""
    result = run(Prune(ratio=0.5, training=training, keep=KEEP))
    assert result.bundle is not None, result.report.table()
    weights = result.bundle.weights()
    assert weights["classifier.features.0.weight"].shape == (8, 1, 3, 3)
    assert weights["classifier.features.3.weight"].shape == (16, 8, 3, 3)
    assert weights["classifier.head.weight"].shape == (10, 16 * 16)
    rebuilt = with_weights(module, weights)
    with torch.no_grad():
        answers = rebuilt(torch.from_numpy(digits.x_test)).numpy()
    sealed = load_model(result.bundle.path).predict(digits.x_test)["probability"]
    np.testing.assert_allclose(answers, sealed, atol=1e-5)
    measured = result.report.steps[0].measured
    assert measured is not None
    assert measured.macs == 64 * 8 * 9 + 16 * 16 * 8 * 9 + 16 * 16 * 10
    assert measured.macs < cost_of(bundle.onnx, {"image": digits.x_test}).macs / 2
    require_golden(result.bundle)


def test_prune_then_int8_is_one_plan_and_its_artifacts_keep_their_golden_outputs(
    run: Run, training: TrainingRows, digits: Digits
) -> None:
    """Float steps first, integers last; batches of 1, 2, 7 and 64 agree."""
    result = run(Prune(ratio=0.5, training=training, keep=KEEP), Int8(calibration=digits.calibration))
    assert [step.accepted for step in result.report.steps] == [True, True], result.report.table()
    assert result.bundle is not None
    require_golden(result.bundle)
    assert "weights.safetensors" not in result.bundle.manifest.files


def test_a_killed_plan_takes_the_pruned_module_from_its_folder(
    run: Run, training: TrainingRows, module: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second step learns from where the first one ended, without pruning again."""
    narrowed = Prune(ratio=0.5, training=training, keep=KEEP)
    lesson = Distill(teacher=module, training=training)
    first = run(narrowed)
    monkeypatch.setattr(Prune, "apply", lambda *_: pytest.fail("pruned again"))
    result = run(narrowed, lesson, overwrite=True)
    assert result.report.steps[0].was_kept
    assert result.report.steps[0].onnx_sha256 == first.report.steps[0].onnx_sha256
    measured = result.report.steps[1].measured
    assert measured is not None
    assert measured.macs == first.report.steps[0].measured.macs


def test_a_distillation_that_does_not_help_is_refused(run: Run, training: TrainingRows, digits: Digits) -> None:
    """A teacher that knows nothing makes the student worse, and the step before stays."""
    torch.manual_seed(1)
    ignorant = WithSoftmax(SmallCnn())
    result = run(Distill(teacher=ignorant, training=training), Int8(calibration=digits.calibration, method="minmax"))
    refused = result.report.steps[0]
    assert any(reason.startswith("it did not help: acc changes by -") for reason in refused.reasons)
    assert result.report.steps[1].accepted
    assert result.bundle is not None


def test_a_lesson_from_features_is_kept_where_it_helps(
    run: Run, gate: Gate, training: TrainingRows, module: nn.Module
) -> None:
    """After hard pruning, the trained network's maps bring some of it back through a projection."""
    hint = (("classifier.features.2", "classifier.features.2"),)
    longer = replace(training, config=training.config.model_copy(update={"epochs": 8}))
    result = run(
        Prune(ratio=0.75, training=training, keep=KEEP, round_to=4),
        Distill(teacher=module, training=longer, method="feature", hints=hint),
        gate=replace(gate, metric_drop=0.1),
    )
    assert result.report.steps[1].name == "distill feature"
    assert result.report.steps[1].accepted, result.report.table()
    assert result.bundle is not None
    require_golden(result.bundle)


def test_pruning_past_the_gate_is_refused(run: Run, gate: Gate, training: TrainingRows) -> None:
    """What a few channels cannot hold, the metric shows."""
    hasty = replace(training, config=FitConfig(epochs=1, batch_size=1024, learning_rate=1e-5, device="cpu"))
    result = run(Prune(ratio=0.9, training=hasty, keep=KEEP, round_to=1), gate=gate)
    assert result.bundle is None
    assert "acc falls by" in result.report.steps[0].reasons[0]


def test_pruning_less_than_a_vector_is_refused(run: Run, training: TrainingRows) -> None:
    """A tenth of 16 channels is no multiple of 16."""
    result = run(Prune(ratio=0.1, training=training, keep=KEEP, round_to=16))
    assert "no layer got narrower" in result.report.steps[0].reasons[0]


def test_the_layer_that_is_missed_most_keeps_most(run: Run, module: nn.Module, training: TrainingRows) -> None:
    """A score that looks at one layer only makes that one the sensitive one, and the other one pays.

    Uniform widths of 8 and 16 leave 25600 multiply-accumulates; 16 and 6 take 9216 + 6 x 2464.
    """
    watched = module.get_submodule("classifier.features.0").weight.shape[0]

    def score(trial: nn.Module) -> float:
        return float(trial.get_submodule("classifier.features.0").weight.shape[0] == watched)

    result = run(Prune(ratio=0.5, training=training, keep=KEEP, round_to=2, score=score))
    weights = result.report.steps[0]
    assert weights.notes[1] == ("widths by sensitivity: classifier.features.3 32 to 6, classifier.features.0 16 to 16")
    assert weights.measured is not None
    assert weights.measured.macs == 9216 + 6 * 2464


def test_sizes_that_a_bundle_leaves_open_stay_open() -> None:
    """A step that exports its module again does not freeze height and width at the golden rows'."""
    module = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    inputs = (TensorSpec(name="x", dtype="float32", shape=("batch", 1, "height", "width")),)
    outputs = (TensorSpec(name="y", dtype="float32", shape=("batch", 2)),)
    rows = {"x": np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)}
    artifact = exported(Artifact(b"", inputs, outputs, rows), module, notes=())
    larger = np.random.default_rng(1).normal(size=(3, 1, 11, 17)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(larger)).numpy()
    np.testing.assert_allclose(open_session(artifact.onnx).run(None, {"x": larger})[0], expected, atol=1e-5)


def test_steps_on_modules_need_one(run: Run, training: TrainingRows) -> None:
    """Without a module the step is refused, and says what to pass."""
    result = run(Prune(ratio=0.5, training=training, keep=KEEP), module=None)
    assert "pass module= to compress" in result.report.steps[0].reasons[0]


def test_another_module_than_the_bundles_is_an_error(run: Run, training: TrainingRows) -> None:
    """Fresh weights do not give the golden outputs."""
    with pytest.raises(UserError, match="does not give the bundle's golden probability"):
        run(Prune(ratio=0.5, training=training, keep=KEEP), module=WithSoftmax(SmallCnn()))


@pytest.mark.parametrize("changes", [{"ratio": 0.0}, {"ratio": 1.0}, {"ratio": 0.5, "rounds": 0}])
def test_settings_that_prune_nothing_or_all_are_an_error(training: TrainingRows, changes: dict[str, float]) -> None:
    """Before anything is trained."""
    with pytest.raises(ValueError, match="expected 0 < ratio < 1"):
        Prune(training=training, keep=KEEP, **changes)


def test_weights_rebuild_grouped_and_normalised_layers() -> None:
    """Depthwise convolutions have as many groups as channels, batch statistics as many as features."""
    wide = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    slim = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Conv2d(5, 5, 3, groups=5), nn.BatchNorm2d(5), nn.Conv2d(5, 4, 1))
    rebuilt = with_weights(wide.eval(), weights_of(slim))
    x = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(rebuilt(x), slim.eval()(x))
    assert wide[0].out_channels == 8
    assert repr(rebuilt[1]) == repr(slim[1])


def test_a_teacher_that_the_student_matches_teaches_nothing() -> None:
    """Of the loss only the label's share is left; and DIST does not see a teacher's confidence scaled alike."""
    torch.manual_seed(0)
    logits, label = torch.randn(6, 4), torch.tensor([0.0, 1, 2, 3, 0, 1])[:, None]
    taught = torch.cat([label, logits], dim=1)
    torch.testing.assert_close(kd_loss(logits, taught), 0.1 * label_loss(logits, taught))
    torch.testing.assert_close(dist_loss(logits, taught), label_loss(logits, taught))


def test_the_distillation_loss_is_that_of_the_paper() -> None:
    """T^2 KL(teacher / T || student / T), by hand for one row."""
    student, teacher = np.array([1.0, -1.0, 0.5]), np.array([2.0, 0.0, 1.0])

    def softened(logits: np.ndarray) -> np.ndarray:
        return np.exp(logits / 4) / np.exp(logits / 4).sum()

    p, q = softened(teacher), softened(student)
    expected = 0.1 * -np.log(np.exp(student[2]) / np.exp(student).sum()) + 0.9 * 16 * (p * np.log(p / q)).sum()
    targets = torch.tensor([[2.0, *teacher]])
    assert kd_loss(torch.from_numpy(student[None]), targets.double()).item() == pytest.approx(expected)


def test_one_logit_is_that_of_the_second_of_two_classes() -> None:
    """A binary head is taught as its two-class twin."""
    student, teacher = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([1.0, -0.5, 0.1])
    label = torch.tensor([1.0, 0.0, 1.0])
    zeros = torch.zeros(3)
    twin = torch.stack([label, zeros, teacher], dim=1)
    alone = torch.stack([label, teacher], dim=1)
    for loss in (kd_loss, dist_loss):
        torch.testing.assert_close(loss(student, alone), loss(torch.stack([zeros, student], dim=1), twin))
