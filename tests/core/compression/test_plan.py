"""Plans of compression: what is accepted, what is refused and why, what is sealed, and what a rerun skips."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from tests.core.compression.conftest import Digits, Run, Unchanged

from quatrain.core.bundle.open import Bundle, open_bundle
from quatrain.core.compression.artifact import Artifact, Step
from quatrain.core.compression.gate import Gate, Promise
from quatrain.core.compression.measures import Scored, accuracy, held_back
from quatrain.core.compression.plan import compress
from quatrain.core.compression.quantize import MATMUL_ONLY, DynamicInt8, Int8
from quatrain.core.compression.report import PlanReport, pareto_front
from quatrain.core.inference import InvalidInputError, load_model, open_session


@dataclass
class Counted:
    """A step that counts how often it is done, and can be killed while at it."""

    inner: Step
    n_done: int = 0
    is_killed: bool = False
    name = "counted"

    @property
    def promise(self) -> Promise:
        """What the step inside promises."""
        return self.inner.promise

    def settings(self) -> dict[str, object]:
        """Return the settings of the step inside."""
        return dict(self.inner.settings())

    def apply(self, before: Artifact) -> Artifact:
        """Do the step inside, or die."""
        if self.is_killed:
            raise KeyboardInterrupt
        self.n_done += 1
        return self.inner.apply(before)

    def fallbacks(self, before: Artifact) -> Iterable[Step]:
        """Return those of the step inside."""
        return self.inner.fallbacks(before)


def test_an_accepted_step_is_sealed_with_its_lineage(run: Run, bundle: Bundle, digits: Digits) -> None:
    """The new bundle names its parent, holds the report, keeps the decision, and is integers throughout."""
    result = run(Int8(calibration=digits.calibration))
    assert result.bundle is not None
    manifest = open_bundle(result.bundle.path).manifest
    measured = result.report.steps[0].measured
    assert measured is not None
    assert manifest.parent == bundle.digest
    assert manifest.compression["steps"][0]["measured"] == measured.model_dump(mode="json")
    assert manifest.compression["baseline"]["digest"] == bundle.digest
    assert manifest.decision == bundle.manifest.decision
    assert manifest.metrics == {"held_back": {"acc": measured.metric_after}}
    assert measured.integer_share == 1.0
    assert measured.n_bytes < 0.5 * len(bundle.onnx)
    assert measured.agreement is not None
    assert measured.agreement >= 0.995
    assert "## Compression" in result.bundle.card


def test_an_accepted_bundle_answers_as_its_parent_does(run: Run, bundle: Bundle, digits: Digits) -> None:
    """Loaded like any bundle, it gives the parent's labels, and its own golden outputs within its tolerance."""
    result = run(Int8(calibration=digits.calibration))
    assert result.bundle is not None
    ours = load_model(result.bundle.path).predict(digits.x_test)["probability"]
    theirs = load_model(bundle.path).predict(digits.x_test)["probability"]
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.995
    assert 1e-4 <= result.bundle.manifest.golden_atol < 0.1


@pytest.mark.parametrize("operators", [("LSTM",), ("Relu", "Add")])
def test_a_quantization_that_quantises_nothing_is_refused(run: Run, digits: Digits, operators: tuple[str, ...]) -> None:
    """No node is of that kind, or none that multiplies: the reason says what the graph has."""
    for step in (Int8(calibration=digits.calibration, operators=operators), DynamicInt8(operators=operators)):
        result = run(step)
        assert result.bundle is None
        (reason,) = result.report.steps[0].reasons
        assert reason.startswith(f"there is nothing to quantise: no product among {', '.join(operators)} is left")
        assert "Conv" in reason
        assert result.report.refusal == "nothing was sealed: no step was accepted"


def test_a_graph_that_is_int8_in_name_only_is_refused(run: Run) -> None:
    """A step that claims another precision and changes nothing loses nothing, and passes no gate."""

    @dataclass(frozen=True)
    class Pretended(Unchanged):
        """Nothing, under another name."""

        name = "int8"
        promise = Promise(same_model=True, integers=True)

    result = run(Pretended())
    assert result.bundle is None
    (reason,) = result.report.steps[0].reasons
    assert reason.startswith("nothing was quantised: no integer kernel ran")


def test_a_graph_without_products_is_refused_rather_than_broken(
    seal_doubling: Callable[..., Bundle], gate: Gate, tmp_path: Path
) -> None:
    """A graph without any product has nothing to gain from integers, whichever way it is asked."""
    bundle = seal_doubling()
    rows = {"features": np.random.default_rng(0).uniform(0, 5, (40, 2)).astype(np.float32)}
    evaluate = held_back(rows, np.zeros(40), output="doubled")
    steps = [Int8(calibration=rows), Int8(calibration=rows, operators=MATMUL_ONLY), DynamicInt8()]
    result = compress(bundle, steps, gate=gate, evaluate=evaluate, folder=tmp_path / "plan")
    assert all(step.reasons[0].startswith("there is nothing to quantise") for step in result.report.steps)
    assert "no convolution or matrix product is left of the graph's operators, Mul" in result.report.steps[0].reasons[0]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (np.full((64, 1, 8, 8), 0.5, np.float32), "has 1 different rows of 64"),
        (
            np.repeat(np.linspace(0, 1, 64, dtype=np.float32), 64).reshape(64, 1, 8, 8),
            "one constant throughout",
        ),
    ],
)
def test_a_calibration_set_of_constants_is_refused(run: Run, rows: np.ndarray, reason: str) -> None:
    """Rows all alike, and rows that are each one grey, say nothing about ranges."""
    result = run(Int8(calibration={"image": rows}))
    assert result.bundle is None
    assert reason in result.report.steps[0].reasons[0]


def test_calibration_rows_that_the_model_refuses_are_the_callers_error(run: Run, digits: Digits) -> None:
    """A row out of the sealed range never reaches the quantizer."""
    with pytest.raises(InvalidInputError, match="image must not be above 1"):
        run(Int8(calibration={"image": digits.x_train[:64] * 2}))


def test_too_few_held_back_rows_are_refused_rather_than_believed(
    bundle: Bundle, gate: Gate, digits: Digits, tmp_path: Path
) -> None:
    """One wrong row of forty: the drop is within the budget, its interval is not."""
    onnx = bundle.onnx
    rows = {"image": digits.x_test[:40]}
    truth = open_session(onnx, threads=1).run(["probability"], rows)[0].argmax(1)
    calls = iter((False, True))

    def evaluate(predict: Callable[..., dict[str, np.ndarray]]) -> Scored:
        scores = predict(rows)["probability"].copy()
        if next(calls):
            scores[0] = np.roll(scores[0], 1)
        return Scored(truth, scores)

    result = compress(
        bundle,
        [Int8(calibration=digits.calibration, method="minmax")],
        gate=replace(gate, metric_drop=0.03),
        evaluate=evaluate,
        folder=tmp_path / "plan",
    )
    assert "hold back more rows to show that less is lost" in result.report.steps[0].reasons[0]


def test_a_sealed_int8_bundle_refuses_nan_at_the_door_and_in_the_graph(run: Run, digits: Digits) -> None:
    """`predict` refuses the row; the bare graph, served by something else, gives NaN for it and only for it."""
    result = run(Int8(calibration=digits.calibration, method="minmax"))
    assert result.bundle is not None
    image = digits.x_test[:3].copy()
    clean = open_session(result.bundle.onnx, threads=1).run(["probability"], {"image": image})[0]
    image[1, 0, 4, 4] = np.nan
    with pytest.raises(InvalidInputError, match="image must be finite"):
        load_model(result.bundle.path).predict(image)
    bare = open_session(result.bundle.onnx, threads=1).run(["probability"], {"image": image})[0]
    assert np.isnan(bare[1]).all()
    np.testing.assert_array_equal(bare[[0, 2]], clean[[0, 2]])


def test_a_plan_that_ends_too_slow_seals_nothing(run: Run, gate: Gate, digits: Digits) -> None:
    """A thousandfold speed is out of reach, and the report says what was reached."""
    result = run(Int8(calibration=digits.calibration, method="minmax"), gate=replace(gate, min_speedup=1000))
    assert result.bundle is None
    assert "the first model's speed, 1000x is asked" in result.report.steps[0].reasons[0]


def test_a_refused_step_is_left_out_and_the_next_one_takes_what_was_accepted(run: Run, digits: Digits) -> None:
    """A bad calibration in the middle of a plan costs that step only."""
    bad = Int8(calibration={"image": np.zeros((64, 1, 8, 8), np.float32)})
    result = run(bad, Int8(calibration=digits.calibration, method="minmax"))
    assert [step.accepted for step in result.report.steps] == [False, True]
    assert result.bundle is not None
    assert len(result.bundle.manifest.compression["steps"]) == 2


def test_a_killed_plan_goes_on_from_its_finished_steps(run: Run, digits: Digits) -> None:
    """The first step is not done again, gives the same bytes, and the second one is done then."""
    first = Counted(Unchanged())
    second = Counted(Int8(calibration=digits.calibration, method="minmax"), is_killed=True)
    with pytest.raises(KeyboardInterrupt):
        run(first, second)
    second.is_killed = False
    bad_first = Counted(Unchanged(), is_killed=True)
    result = run(bad_first, second)
    assert (first.n_done, bad_first.n_done, second.n_done) == (1, 0, 1)
    assert [step.was_kept for step in result.report.steps] == [True, False]
    again = run(bad_first, replace(second, is_killed=True), overwrite=True)
    assert [step.was_kept for step in again.report.steps] == [True, True]
    assert again.report.steps[1].onnx_sha256 == result.report.steps[1].onnx_sha256


def test_a_step_is_done_again_for_another_model_calibration_or_evaluation(
    run: Run, bundle: Bundle, gate: Gate, digits: Digits, tmp_path: Path
) -> None:
    """What decided an outcome is its key: a damaged file or other held-back rows do not pass for it."""
    step = Counted(Int8(calibration=digits.calibration, method="minmax"))
    run(step)
    other = Counted(Int8(calibration={"image": digits.x_train[64:128]}, method="minmax"))
    run(other, overwrite=True)
    assert (step.n_done, other.n_done) == (1, 1)
    fewer = held_back({"image": digits.x_test[:300]}, digits.y_test[:300], output="probability")
    compress(bundle, [step], gate=gate, evaluate=fewer, folder=tmp_path / "plan", overwrite=True)
    assert step.n_done == 2
    for kept in (tmp_path / "plan" / "steps").glob("*/model.onnx"):
        kept.write_bytes(b"damaged")
    run(step, overwrite=True)
    assert step.n_done == 3


def test_another_metric_of_the_same_name_is_measured_anew(run: Run, gate: Gate, digits: Digits) -> None:
    """Two thresholds give one name and other figures: the step of an earlier call does not stand for this one."""
    step = Counted(Int8(calibration=digits.calibration, method="minmax"))
    run(step)

    def stricter(targets: np.ndarray, scores: np.ndarray) -> float:
        return float(((scores.argmax(1) == targets) & (scores.max(1) > 0.6)).mean())

    other = run(step, gate=replace(gate, metric=stricter), overwrite=True)
    assert step.n_done == 2
    measured = other.report.steps[0].measured
    assert measured is not None
    assert measured.metric_before == other.report.baseline.metric
    run(step, gate=replace(gate, metric=stricter), overwrite=True)
    assert step.n_done == 2


def test_other_truth_of_the_same_rows_is_measured_anew(
    run: Run, bundle: Bundle, gate: Gate, digits: Digits, tmp_path: Path
) -> None:
    """One corrected label is another evaluation, even where the metric's figure stays."""
    step = Counted(Int8(calibration=digits.calibration, method="minmax"))
    run(step)
    scores = open_session(bundle.onnx, threads=1).run(["probability"], {"image": digits.x_test})[0]
    wrong = np.flatnonzero(scores.argmax(1) != digits.y_test)[0]
    corrected = digits.y_test.copy()
    corrected[wrong] = next(label for label in range(10) if label not in {corrected[wrong], scores[wrong].argmax()})
    evaluate = held_back({"image": digits.x_test}, corrected, output="probability")
    compress(bundle, [step], gate=gate, evaluate=evaluate, folder=tmp_path / "plan", overwrite=True)
    assert step.n_done == 2


def test_a_kept_measurement_is_judged_by_the_gate_of_now(run: Run, gate: Gate, digits: Digits) -> None:
    """A stricter gate refuses a step that an earlier call had accepted, without doing it again."""
    step = Counted(Int8(calibration=digits.calibration, method="minmax"))
    assert run(step).report.steps[0].accepted
    strict = run(step, gate=replace(gate, min_sqnr_db=150))
    assert step.n_done == 1
    assert "at least 150 dB is asked" in strict.report.steps[0].reasons[0]


def test_the_report_is_text_json_and_a_picture(run: Run, digits: Digits, tmp_path: Path) -> None:
    """All three lie in the plan's folder, name every step, and the JSON is the report itself."""
    result = run(Int8(calibration=digits.calibration), DynamicInt8())
    folder = tmp_path / "plan"
    written = json.loads((folder / "compression.json").read_text())
    assert PlanReport.model_validate(written).table() == result.report.table()
    assert written == result.report.model_dump(mode="json")
    text = (folder / "compression.txt").read_text()
    assert text == result.report.table()
    assert text.splitlines()[1].startswith("as trained")
    assert text.splitlines()[2].startswith("int8")
    assert "int8: calibration " in text
    assert text.count("accepted") == 1
    assert (folder / "compression.png").read_bytes().startswith(b"\x89PNG")


def test_the_front_is_what_nothing_else_beats() -> None:
    """Of (cost, value) pairs: cheaper or better than every other; equals stay both."""
    assert pareto_front([(10, 0.9), (5, 0.8), (6, 0.7), (5, 0.8), (1, 0.5), (12, 0.9)]) == {0, 1, 3, 4}


def test_other_rows_than_the_first_models_are_an_error(
    bundle: Bundle, gate: Gate, digits: Digits, tmp_path: Path
) -> None:
    """An evaluation that shuffles cannot be paired."""
    rng = np.random.default_rng(0)

    def shuffled(predict: Callable[..., dict[str, np.ndarray]]) -> Scored:
        rows = rng.permutation(len(digits.x_test))
        return Scored(digits.y_test[rows], predict({"image": digits.x_test[rows]})["probability"])

    step = Int8(calibration=digits.calibration, method="minmax")
    with pytest.raises(ValueError, match="the same held-back rows in the same order"):
        compress(bundle, [step], gate=gate, evaluate=shuffled, folder=tmp_path / "plan")


def test_what_is_too_coarse_is_tried_again_with_its_most_sensitive_nodes_in_float(
    run: Run, gate: Gate, digits: Digits
) -> None:
    """All in int8 misses the asked SQNR, one node in float reaches it: both rows are in the report."""
    step = Int8(calibration=digits.calibration, method="minmax", mixed=2)
    coarse = run(replace(step, mixed=0)).report.steps[0].measured
    assert coarse is not None
    result = run(step, gate=replace(gate, min_sqnr_db=coarse.sqnr_db + 0.5), overwrite=True)
    assert [taken.accepted for taken in result.report.steps] == [False, True]
    assert [taken.was_kept for taken in result.report.steps] == [True, False]
    milder = result.report.steps[1]
    assert milder.name == "int8, 1 in float"
    assert len(milder.settings["keep_float"]) == 1
    assert milder.measured is not None
    assert milder.measured.integer_kernels == 2
    assert result.bundle is not None


def test_no_milder_form_helps_against_what_is_not_coarse(run: Run, gate: Gate, digits: Digits) -> None:
    """A plan that is too slow is not made slower yet."""
    step = Int8(calibration=digits.calibration, method="minmax", mixed=2)
    result = run(step, gate=replace(gate, min_speedup=1000))
    assert len(result.report.steps) == 1


def test_quantising_twice_is_refused(run: Run, digits: Digits) -> None:
    """A second quantization would round what is rounded; the first one stays."""
    result = run(Int8(calibration=digits.calibration, method="minmax"), DynamicInt8())
    assert result.bundle is not None
    assert result.report.steps[1].reasons == (
        "the graph is quantised already; quantise once, as the last step of a plan",
    )


def test_a_plan_without_steps_is_an_error(run: Run) -> None:
    """There is nothing to do."""
    with pytest.raises(ValueError, match="needs one step or more"):
        run()


def test_budgets_that_mean_nothing_are_an_error() -> None:
    """A negative drop would refuse everything in silence."""
    with pytest.raises(ValueError, match="expected metric_drop >= 0"):
        Gate(metric=accuracy, metric_name="acc", metric_drop=-0.1)
    with pytest.raises(ValueError, match="expected a batch"):
        Gate(metric=accuracy, metric_name="acc", batch_size=0)
