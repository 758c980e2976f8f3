"""Plans as a line or a TOML file: the steps they become, and what a slip of the pen is told."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from quatrain.core.compression import plans
from quatrain.core.compression.distill import Distill
from quatrain.core.compression.planned import KINDS, Materials
from quatrain.core.compression.plans import described, parse, steps_of
from quatrain.core.compression.prune import Prune
from quatrain.core.compression.quantize import MATMUL_ONLY, DynamicInt8, Int8
from quatrain.core.compression.retraining import TrainingRows
from quatrain.core.errors import UsageError
from quatrain.core.training.config import FitConfig


@pytest.fixture(scope="module")
def materials() -> Materials:
    """Return everything that a step may need."""
    training = TrainingRows(inputs=torch.zeros(4, 2), targets=torch.zeros(4), config=FitConfig(epochs=1))
    rows = {"x": np.zeros((4, 2), np.float32)}
    return Materials(calibration=rows, training=training, keep=("head",), teacher=nn.Linear(2, 1))


def test_a_line_becomes_the_steps_it_names_with_their_options(materials: Materials) -> None:
    """The option that matters most may come without its name."""
    line = "prune:0.5:rounds=2, distill:dist, int8:minmax:mixed=4:operators=MatMul+Gemm, dynamic-int8"
    prune, distill, int8, dynamic = steps_of(line, materials)
    assert isinstance(prune, Prune)
    assert (prune.ratio, prune.rounds, prune.round_to, prune.keep) == (0.5, 2, 8, ("head",))
    assert isinstance(distill, Distill)
    assert (distill.method, distill.teacher) == ("dist", materials.teacher)
    assert isinstance(int8, Int8)
    assert (int8.method, int8.mixed, int8.operators, int8.calibration) == (
        "minmax",
        4,
        MATMUL_ONLY,
        materials.calibration,
    )
    assert isinstance(dynamic, DynamicInt8)
    assert dynamic.operators == MATMUL_ONLY
    (last_resort,) = steps_of("int8:qat=yes", materials)
    assert isinstance(last_resort, Int8)
    assert last_resort.qat is materials.training
    (taught,) = steps_of("distill:feature:hints=body.0+body.2", materials)
    assert isinstance(taught, Distill)
    assert taught.hints == (("body.0", "body.0"), ("body.2", "body.2"))


def test_a_file_says_the_same_as_a_line(materials: Materials, tmp_path: Path) -> None:
    """Their settings are equal, so that a finished step is found whichever way it was asked for."""
    file = tmp_path / "plan.toml"
    file.write_text(
        '[[steps]]\nstep = "prune"\nratio = 0.5\n\n[[steps]]\nstep = "int8"\noperators = ["MatMul", "Gemm"]\n'
    )
    by_file = steps_of(str(file), materials)
    by_line = steps_of("prune:0.5,int8:operators=MatMul+Gemm", materials)
    assert [dict(step.settings()) for step in by_file] == [dict(step.settings()) for step in by_line]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("prune:0.5,int9", "step 2 of the plan is unknown: 'int9'; did you mean 'int8'?"),
        ("", "step 1 of the plan has no name; known: distill, "),
        ("int8,,prune:0.5", "step 2 of the plan has no name"),
        ("prune", "step 1 of the plan: prune needs ratio, such as prune:0.5:rounds=2"),
        ("prune:1.5", "ratio of prune: input should be less than 1, got '1.5'"),
        ("prune:half", "ratio of prune: input should be a valid number"),
        ("prune:0.5:ronds=2", "prune has no option 'ronds'; did you mean 'rounds'?"),
        ("prune:0.5:3", "expected prune:key=value, got 'prune:0.5:3'"),
        ("distill:feature", "hints go with method feature, which needs one layer or more"),
        ("int8:minimax", "method of int8: input should be 'auto', 'minmax', 'percentile' or 'entropy'"),
        ("weight-only:3", "bits of weight-only: input should be 4 or 8, got 3"),
        ("weight-only:four", "bits of weight-only: input should be 4 or 8"),
        ("trim-trees:2.5", "keep of trim-trees: input should be a whole number of trees, or a share below 1"),
        ("half:float8", "kind of half: input should be 'float16' or 'bfloat16'"),
        ("dynamic-int8:8", "expected dynamic-int8:key=value, got 'dynamic-int8:8'"),
        ("nowhere/plan.toml", "cannot read the plan nowhere/plan.toml: No such file or directory"),
    ],
)
def test_a_slip_is_told_with_its_place_and_the_nearest_word(line: str, reason: str) -> None:
    """Before a model is loaded."""
    with pytest.raises(UsageError) as told:
        parse(line)
    assert reason in str(told.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("steps = 3", "names no steps; write one table for each"),
        ("", "names no steps"),
        ('[[step]]\nstep = "int8"', "unknown key step in "),
        ("[[steps]\n", "is not valid TOML"),
        ("[[steps]]\nratio = 0.5", "step 1 of the plan has no name"),
        ("[[steps]]\nstep = 8", "step 1 of the plan is unknown: 8"),
    ],
)
def test_a_file_that_is_no_plan_is_told_why(tmp_path: Path, text: str, reason: str) -> None:
    """And how one looks."""
    file = tmp_path / "plan.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as told:
        parse(str(file))
    assert reason in str(told.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("int8", "int8 needs calibration rows"),
        ("int8:qat=true", "int8 needs calibration rows"),
        ("prune:0.5", "prune needs rows to train on"),
        ("distill", "distill needs rows to train on"),
    ],
)
def test_a_step_without_its_materials_is_refused(line: str, reason: str) -> None:
    """An app without a teacher cannot distil, whatever its user asks for."""
    with pytest.raises(UsageError, match=reason):
        steps_of(line, Materials())


def test_every_kind_is_described_by_an_example_that_works(materials: Materials) -> None:
    """The help of a command names each, and none is out of date."""
    lines = described().splitlines()
    assert [line.partition(":")[0] for line in lines] == sorted(KINDS)
    for name, kind in KINDS.items():
        (step,) = steps_of(kind.example, materials)
        assert step.name
        assert kind.example.startswith(name)


def test_the_examples_of_the_module_are_true() -> None:
    """They are run here."""
    results: Any = doctest.testmod(plans)
    assert results.attempted > 0
    assert results.failed == 0
