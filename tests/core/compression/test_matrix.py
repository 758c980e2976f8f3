"""Every kind of step on one sealed network: what it gives in every batch size, and what it is refused for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from tests.core.compression.conftest import Digits, Run, Unchanged

from quatrain.core.bundle.open import Bundle
from quatrain.core.compression.artifact import Step
from quatrain.core.compression.gate import Gate, Promise, reasons_against
from quatrain.core.compression.half import HalfPrecision
from quatrain.core.compression.nncf_int8 import NncfInt8
from quatrain.core.compression.quantize import MATMUL_ONLY, DynamicInt8, Int8
from quatrain.core.compression.weight_only import WeightOnly
from quatrain.core.export import check_parity


@pytest.mark.parametrize(
    "make",
    [
        lambda calibration: [Int8(calibration=calibration)],
        lambda calibration: [Int8(calibration=calibration, method="entropy", operators=("Conv",))],
        lambda calibration: [Int8(calibration=calibration, method="percentile", operators=MATMUL_ONLY)],
        lambda _: [DynamicInt8()],
        lambda _: [Unchanged()],
        lambda _: [HalfPrecision(kind="float16")],
        lambda _: [HalfPrecision(kind="bfloat16")],
        lambda _: [WeightOnly(bits=8)],
        lambda _: [WeightOnly(bits=8, activations="int8")],
        lambda _: [WeightOnly(bits=4, block_size=16)],
        lambda calibration: [NncfInt8(calibration=calibration)],
        lambda calibration: [HalfPrecision(), Int8(calibration=calibration)],
    ],
    ids=[
        "int8",
        "int8 convolutions",
        "int8 products",
        "dynamic",
        "float",
        "float16",
        "bfloat16",
        "weights 8",
        "weights 8 activations 8",
        "weights 4",
        "nncf",
        "float16 then int8",
    ],
)
def test_every_artifact_gives_its_golden_outputs_at_every_batch_size(
    run: Run, gate: Gate, digits: Digits, make: Callable[..., list[Step]]
) -> None:
    """The tolerance that is sealed is one that every batch size keeps."""
    result = run(*make(digits.calibration), gate=replace(gate, min_agreement=0.98))
    assert result.bundle is not None, result.report.table()
    inputs, expected = result.bundle.golden()
    check_parity(result.bundle.onnx, inputs, expected, atol=result.bundle.manifest.golden_atol, batches=(1, 2, 7, 64))


@pytest.mark.parametrize(
    "make",
    [
        lambda calibration: Int8(calibration=calibration, method="minmax", guard=False),
        lambda calibration: NncfInt8(calibration=calibration, guard=False),
        lambda _: WeightOnly(activations="int8", guard=False),
    ],
    ids=["int8", "nncf", "weights and activations"],
)
def test_a_graph_that_answers_nan_is_refused(run: Run, gate: Gate, digits: Digits, make: Callable[..., Step]) -> None:
    """Without the guard the graph gives a probability for NaN, where the float model gives none."""
    result = run(make(digits.calibration), gate=replace(gate, min_agreement=0.98))
    assert result.bundle is None
    (reason,) = result.report.steps[0].reasons
    assert reason.startswith("it answers what is no number: nan in image")


@pytest.mark.parametrize(
    "make",
    [
        lambda calibration: Int8(calibration=calibration, method="minmax"),
        lambda calibration: NncfInt8(calibration=calibration),
    ],
    ids=["int8", "nncf"],
)
def test_a_drop_past_the_gate_is_refused_with_its_interval(run: Run, digits: Digits, make: Callable[..., Step]) -> None:
    """Ranges from images a hundred times too dark cut everything off: the metric says so."""
    result = run(make({"image": digits.x_train[:64] * 0.01}))
    assert result.bundle is None
    reasons = " ".join(result.report.steps[0].reasons)
    assert "acc falls by" in reasons
    assert "at most 0.02 is allowed; compress less" in reasons
    assert "of rows keep their label, at least 99.50% must" in reasons


@pytest.mark.parametrize(
    "make",
    [
        lambda calibration: Int8(calibration=calibration),
        lambda calibration: NncfInt8(calibration=calibration),
    ],
    ids=["int8", "nncf"],
)
def test_a_calibration_set_of_one_constant_is_refused(run: Run, make: Callable[..., Step]) -> None:
    """Rows all alike say nothing about ranges."""
    result = run(make({"image": np.full((64, 1, 8, 8), 0.5, np.float32)}))
    assert result.bundle is None
    assert "has 1 different rows of 64" in result.report.steps[0].reasons[0]


def test_a_graph_that_is_short_in_name_only_is_refused(run: Run) -> None:
    """A step whose worth is a smaller file, and whose file is not smaller, lost nothing and gained nothing."""

    @dataclass(frozen=True)
    class Pretended(Unchanged):
        """Nothing, under another name."""

        name = "float16 weights"
        promise = Promise(same_model=True, smaller=True)

    (reason,) = run(Pretended()).report.steps[0].reasons
    assert reason.startswith("nothing got smaller: the graph takes ")


def test_a_step_is_held_to_the_noise_that_its_numbers_have(run: Run, gate: Gate) -> None:
    """Sixteen bits never leave less than 35 dB, whatever the gate asks: less is a sign of damage."""
    measured = run(HalfPrecision(kind="bfloat16")).report.steps[0].measured
    assert measured is not None
    assert measured.sqnr_db > 40
    assert reasons_against(measured, gate, HalfPrecision.promise, is_last=False) == []
    damaged = measured.model_copy(update={"sqnr_db": 34.9})
    (reason,) = reasons_against(damaged, gate, HalfPrecision.promise, is_last=False)
    assert reason == "its outputs have an SQNR of 34.9 dB, at least 35 dB is asked"


def test_weights_stored_short_halve_the_file_at_the_speed_of_before(run: Run, bundle: Bundle) -> None:
    """The report says how much, and which of the two was asked is in the name."""
    measured = run(HalfPrecision()).report.steps[0].measured
    assert measured is not None
    assert measured.n_bytes < 0.6 * len(bundle.onnx)
    assert measured.sqnr_db > 60
    assert measured.agreement == 1.0
