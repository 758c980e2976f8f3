"""Loading a sealed model and asking it: right answers, or a reason, and never a plausible wrong number."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from quatrain.core import hardware
from quatrain.core.bundle.manifest import BundleError, TensorSpec
from quatrain.core.bundle.open import Bundle, pack
from quatrain.core.bundle.seal import seal
from quatrain.core.errors import UsageError
from quatrain.core.inference import InvalidInputError, InvalidOutputError, Model, load_model, open_session
from quatrain.core.store import Store, StoreError

COLUMNS = ("amount", "hour", "age")
WEIGHTS = np.array([[0.5], [-1.0], [2.0]], dtype=np.float32)
FEATURES = TensorSpec(
    name="features", dtype="float32", shape=("batch", 3), low=-100.0, high=0.1, units="EUR", columns=COLUMNS
)
SCORE = TensorSpec(name="score", dtype="float32", shape=("batch",))


def linear() -> list[NodeProto]:
    """Return the nodes of score = features @ WEIGHTS."""
    return [
        helper.make_node("MatMul", ["features", "weights"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], ["score"]),
    ]


def onnx_bytes(nodes: Sequence[NodeProto]) -> bytes:
    """Return a graph features (batch, 3) -> score (batch,)."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(WEIGHTS, "weights"), numpy_helper.from_array(np.array([1]), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())


def golden_features() -> NDArray[np.float32]:
    """Return five rows inside the range, the bounds included."""
    return np.linspace(-100, 0.1, 15, dtype=np.float32).reshape(5, 3)


def expected_score(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the model's answer by NumPy."""
    return (features.astype(np.float64) @ WEIGHTS.astype(np.float64))[:, 0].astype(np.float32)


def sealed(path: Path, **changes: Any) -> Bundle:
    """Return a sealed linear model, with any argument of seal replaced."""
    features = golden_features()
    arguments: dict[str, Any] = {
        "name": "tests/linear",
        "task": "regression",
        "onnx": onnx_bytes(linear()),
        "inputs": [FEATURES],
        "outputs": [SCORE],
        "golden_inputs": {"features": features},
        "golden_outputs": {"score": expected_score(features)},
        "card": "# A linear model\n",
        "golden_atol": 1e-3,
    }
    return seal(path, **(arguments | changes))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Return a sealed linear model."""
    return sealed(tmp_path / "bundle")


@pytest.fixture
def model(bundle: Bundle) -> Model:
    """Return the loaded linear model."""
    return load_model(bundle.path)


def sealed_inside(*, shared: bool) -> tuple[TensorSpec, TensorSpec]:
    """Return the specs of a model with two inputs, whose batches agree or not."""
    second = "batch" if shared else "other"
    return (
        TensorSpec(name="a", dtype="float32", shape=("batch", 2)),
        TensorSpec(name="b", dtype="uint8", shape=(second, 2), high=9.0),
    )


class NeverRuns:
    """A session that must not be reached."""

    def run(self, *_: object) -> list[NDArray[Any]]:
        """Fail the test."""
        pytest.fail("a bad input reached the session")


def guarded(model: Model) -> Model:
    """Return the model with a session that fails the test when it is run."""
    model._session = NeverRuns()
    return model


def test_a_model_answers_from_folder_zip_and_store(bundle: Bundle, tmp_path: Path) -> None:
    """All ways lead to the same bytes, and the reference says which way it was."""
    zipped = pack(bundle, tmp_path / "linear.qtn")
    version = Store().publish(bundle, alias="prod")
    features = golden_features()
    for source, reference in (
        (bundle.path, str(bundle.path)),
        (str(bundle.path), str(bundle.path)),
        (zipped, str(zipped)),
        (str(zipped), str(zipped)),
        ("tests/linear", version.reference),
        ("tests/linear:1", version.reference),
        ("tests/linear@prod", version.reference),
    ):
        model = load_model(source)
        assert model.reference == reference
        assert (model.digest, model.backend) == (bundle.digest, "onnxruntime")
        np.testing.assert_allclose(model.predict(features)["score"], expected_score(features), rtol=1e-5)


def test_a_given_store_is_used(bundle: Bundle, tmp_path: Path) -> None:
    """The configured store is only the default."""
    store = Store(str(tmp_path / "elsewhere"))
    store.publish(bundle)
    assert load_model("tests/linear", store=store).reference == "tests/linear:1"
    with pytest.raises(StoreError, match="no model tests/linear"):
        load_model("tests/linear")


def test_a_relative_folder_is_a_bundle_and_not_a_reference(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--bundle runs/bundle` opens what is there."""
    monkeypatch.chdir(bundle.path.parent)
    assert load_model("bundle").reference == "bundle"
    assert load_model("./bundle").digest == bundle.digest


@pytest.mark.parametrize("missing", ["./nowhere", "nowhere.qtn", "~/no-such-bundle-folder"])
def test_a_text_that_looks_like_a_path_is_never_looked_up_in_the_store(missing: str) -> None:
    """The message is about the file that is missing."""
    with pytest.raises(BundleError, match=re.escape(missing.removeprefix("./").removeprefix("~/"))):
        load_model(missing)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    features=hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.just(3)), elements=st.floats(-100, 0.0, width=32))
)
def test_any_valid_batch_gets_its_answer(model: Model, features: NDArray[np.float32]) -> None:
    """Every batch size and every value inside the range is answered as NumPy does."""
    before = features.copy()
    np.testing.assert_allclose(model.predict(features)["score"], expected_score(features), atol=1e-3)
    np.testing.assert_array_equal(features, before)


def test_layout_does_not_matter(model: Model) -> None:
    """Strided, Fortran-ordered and read-only arrays give the same answer; bounds are inside the range."""
    features = golden_features()
    read_only = features.copy()
    read_only.flags.writeable = False
    wide = np.repeat(features, 2, axis=1)[:, ::2]
    for variant in (np.asfortranarray(features), wide, read_only, {"features": features}):
        np.testing.assert_allclose(model.predict(variant)["score"], expected_score(features), rtol=1e-5)


def test_threads_may_share_a_model(model: Model) -> None:
    """A dashboard's sessions ask at the same time."""
    batches = [np.full((n, 3), -n, dtype=np.float32) for n in range(1, 40)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(model.predict, batches))
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_allclose(answer["score"], expected_score(batch), rtol=1e-5)


def test_an_unknown_output_name_is_answered_with_the_known_one(model: Model) -> None:
    """A typo in the caller's code is named."""
    with pytest.raises(KeyError, match="no output 'scor'; did you mean 'score'"):
        model.predict(golden_features())["scor"]


def bad(index: tuple[int, int], value: float) -> NDArray[np.float32]:
    """Return valid features with one value replaced."""
    features = golden_features()
    features[index] = value
    return features


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1.0, 2.0, 3.0]], "expected a NumPy array or a mapping of arrays by input name, got list; use np.asarray"),
        (None, "expected a NumPy array or a mapping of arrays by input name, got NoneType"),
        ({}, "input features is missing; the model takes features"),
        ({"feature": golden_features()}, "the model has no input 'feature'; did you mean 'features'?"),
        ({"features": golden_features(), 3: 1}, "the model has no input 3; known: features"),
        ({"features": [[1.0, 2.0, 3.0]]}, "features must be a NumPy array, got list; use np.asarray"),
        (golden_features().astype(np.float64), "must be float32, got float64; convert it with .astype('float32')"),
        (golden_features().astype(">f4"), "features must be float32, got >f4; convert it with .astype('float32')"),
        (golden_features().astype(object), "features must be float32, got object"),
        (np.ma.masked_less(golden_features(), -50), "features is a masked array, whose hidden values would be used"),
        (golden_features()[0], "must have shape (batch, 3), got (3,); add the batch dimension with x[None]"),
        (golden_features()[None], "features must have shape (batch, 3), got (1, 5, 3)"),
        (golden_features()[:, :2], "features must have shape (batch, 3), got (5, 2)"),
        (golden_features()[:0], "features is empty, got shape (0, 3); pass at least one row"),
        (np.array(1, dtype=np.float32), "features must have shape (batch, 3), got ()"),
        (bad((2, 0), np.nan), "features must be finite: column amount of row 2 is nan; drop or fill such rows"),
        (bad((4, 2), np.inf), "features must be finite: column age of row 4 is inf"),
        (bad((4, 2), -np.inf), "features must be finite: column age of row 4 is -inf"),
        (bad((3, 1), -101), "features must not be below -100 EUR: column hour of row 3 is -101.0"),
        (bad((0, 2), 0.2), "features must not be above 0.1 EUR: column age of row 0 is 0.2"),
    ],
)
def test_each_bad_input_is_named(model: Model, x: Any, message: str) -> None:
    """The message says what was expected, what came and where."""
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        guarded(model).predict(x)


DTYPES = ["float16", "float64", "int8", "uint8", "int32", "int64", "bool", "complex64", ">f4", "U4", "datetime64[s]"]


def bad_values() -> st.SearchStrategy[float]:
    """Draw a float32 that the range or finiteness check must catch."""
    above = st.floats(0.125, width=32, allow_infinity=False)
    below = st.floats(max_value=-101, width=32, allow_infinity=False)
    return st.sampled_from([np.nan, np.inf, -np.inf]) | above | below


@st.composite
def bad_inputs(draw: st.DrawFn) -> Any:
    """Draw a valid batch and break it in one way."""
    valid = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(-100, 0, width=32))
    features = draw(valid)
    place = (draw(st.integers(0, len(features) - 1)), draw(st.integers(0, 2)))
    spoilt = features.copy()
    spoilt[place] = draw(bad_values())
    named = {draw(st.text().filter(lambda name: name != "features")): features}
    shapes = [features[:, :2], np.hstack([features, features]), features[0], features[None], features[..., None]]
    empty = [features[:0], features[:, :0], features[:0, :0]]
    containers = [features.tolist(), features.sum(), None, "features", 1.0, (features,), {"features": None}, named]
    of_type = np.zeros(features.shape, dtype=draw(st.sampled_from(DTYPES)))
    broken = st.sampled_from([[spoilt], [of_type], shapes, empty, containers])
    return draw(broken.flatmap(st.sampled_from))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(x=bad_inputs())
def test_no_bad_input_reaches_the_session(model: Model, x: Any) -> None:
    """Whatever is wrong, the answer is InvalidInputError, before the model is asked."""
    with pytest.raises(InvalidInputError, match=r"."):
        guarded(model).predict(x)


def test_two_inputs_need_both_names_and_one_batch(tmp_path: Path) -> None:
    """A dynamic dimension of the same name has one size; integers have a range, too."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT), helper.make_node("Add", ["a", "c"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("b", TensorProto.UINT8, ["batch", 2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
    )
    onnx = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    a, b = np.ones((3, 2), dtype=np.float32), np.full((3, 2), 4, dtype=np.uint8)
    bundle = sealed(
        tmp_path / "two",
        onnx=onnx,
        inputs=sealed_inside(shared=True),
        outputs=[TensorSpec(name="y", dtype="float32", shape=("batch", 2))],
        golden_inputs={"a": a, "b": b},
        golden_outputs={"y": a + b},
    )
    model = load_model(bundle.path)
    np.testing.assert_array_equal(model.predict({"a": a, "b": b})["y"], a + b)
    guarded(model)
    for x, message in (
        (a, "the model takes a, b; pass a mapping with all, got one array"),
        ({"a": a}, "input b is missing; the model takes a, b"),
        ({"a": a, "b": b[:2]}, "b has batch 2, but a has 3; both must have the same"),
        ({"a": a, "b": b + np.uint8(6)}, "b must not be above 9: row 0, index [0], is 10"),
    ):
        with pytest.raises(InvalidInputError, match=re.escape(message)):
            model.predict(x)


def test_a_bundle_that_gives_other_numbers_here_does_not_load(tmp_path: Path) -> None:
    """The golden outputs decide, with the tolerance that was sealed."""
    wrong = expected_score(golden_features())
    wrong[3] += 0.5
    bundle = sealed(tmp_path / "wrong", golden_outputs={"score": wrong})
    with pytest.raises(BundleError, match=r"score differs by 0\.5 at row 3, at most 0\.001 is allowed"):
        load_model(bundle.path)
    tolerant = sealed(tmp_path / "tolerant", golden_outputs={"score": wrong}, golden_atol=0.6)
    assert load_model(tolerant.path)


def test_a_graph_that_is_not_what_the_manifest_says_does_not_load(tmp_path: Path) -> None:
    """Names and types of the graph are compared before it runs."""
    spec = TensorSpec(name="points", dtype="float32", shape=("batch",))
    named = sealed(tmp_path / "a", outputs=[spec], golden_outputs={"points": expected_score(golden_features())})
    with pytest.raises(BundleError, match=r"graph of .* has outputs .*score.*, its manifest says .*points"):
        load_model(named.path)
    typed = SCORE.model_copy(update={"dtype": "float64"})
    double = sealed(
        tmp_path / "b", outputs=[typed], golden_outputs={"score": expected_score(golden_features()).astype(np.float64)}
    )
    with pytest.raises(BundleError, match=r"its manifest says .*tensor\(double\)"):
        load_model(double.path)


def test_a_graph_of_another_shape_does_not_load(tmp_path: Path) -> None:
    """A graph whose output loses its rows contradicts the golden shape."""
    nodes = [helper.make_node("MatMul", ["features", "weights"], ["score"])]
    bundle = sealed(tmp_path / "shape", onnx=onnx_bytes(nodes))
    with pytest.raises(BundleError, match=r"shape \(5, 1\), expected \(5,\)|cannot load the graph"):
        load_model(bundle.path)


def test_a_graph_that_onnx_runtime_cannot_load_is_a_bundle_error(tmp_path: Path) -> None:
    """An operator that does not exist is the bundle's fault, said in one line."""
    nodes = [helper.make_node("NoSuchOperator", ["features"], ["score"])]
    bundle = sealed(tmp_path / "operator", onnx=onnx_bytes(nodes))
    with pytest.raises(BundleError, match=r"ONNX Runtime cannot load the graph of .*NoSuchOperator"):
        load_model(bundle.path)


def test_a_graph_that_fails_on_its_golden_inputs_is_a_bundle_error(tmp_path: Path) -> None:
    """A graph that loads and cannot run is found at load, not at night."""
    nodes = [helper.make_node("Reshape", ["features", "axis"], ["score"])]
    bundle = sealed(tmp_path / "run", onnx=onnx_bytes(nodes))
    with pytest.raises(BundleError, match="cannot run its golden inputs here"):
        load_model(bundle.path)


def test_an_answer_that_is_no_number_is_refused(tmp_path: Path) -> None:
    """NaN compares false with every threshold: it would be a silent "no alert"."""
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], ["line"]),
        helper.make_node("Log", ["line"], ["score"]),
    ]
    features = np.array([[0.0, -1.0, 0.0]], dtype=np.float32)
    bundle = sealed(
        tmp_path / "log",
        onnx=onnx_bytes(nodes),
        golden_inputs={"features": features},
        golden_outputs={"score": np.zeros(1, dtype=np.float32)},
    )
    model = load_model(bundle.path)
    with pytest.raises(InvalidOutputError, match="gives no number for score: row 1 is nan"):
        model.predict(np.array([[0, -1, 0], [0, 0, -1], [0, -1, 0]], dtype=np.float32))


def test_a_changed_file_is_refused(bundle: Bundle) -> None:
    """Loading goes through the seal."""
    path = bundle.path / "model.onnx"
    path.write_bytes(path.read_bytes().replace(b"score", b"Score"))
    with pytest.raises(BundleError, match=r"model\.onnx in .* is not the file that was sealed"):
        load_model(bundle.path)


def test_wrong_options_are_refused(bundle: Bundle) -> None:
    """A typo in the backend is the user's, a thread count of zero the caller's."""
    with pytest.raises(UsageError, match="unknown backend 'onnx-runtime'; did you mean 'onnxruntime'"):
        load_model(bundle.path, backend="onnx-runtime")
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        load_model(bundle.path, threads=0)


def test_a_session_has_as_many_threads_as_the_container_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads beyond the cgroup's quota are throttled and slow each other down."""
    monkeypatch.setattr(hardware, "cpu_limit", lambda: 3)
    assert open_session(onnx_bytes(linear())).get_session_options().intra_op_num_threads == 3
    assert open_session(onnx_bytes(linear()), threads=1).get_session_options().intra_op_num_threads == 1


PROBE = """
import json, sys
import numpy as np
from quatrain.core import inference
answer = inference.load_model(sys.argv[1]).predict(np.zeros((1, 3), dtype=np.float32))
print(json.dumps({"score": answer["score"].tolist(), "modules": sorted(sys.modules)}))
"""


@pytest.mark.parametrize("source", ["path", "store"])
def test_predicting_imports_neither_torch_nor_training_packages(bundle: Bundle, source: str) -> None:
    """A batch job starts in a fraction of a second because these stay out."""
    Store().publish(bundle)
    name = str(bundle.path) if source == "path" else "tests/linear"
    done = subprocess.run([sys.executable, "-c", PROBE, name], capture_output=True, text=True, check=True)
    answer: Mapping[str, Any] = json.loads(done.stdout)
    assert answer["score"] == [0.0]
    assert done.stderr == ""
    heavy = {"torch", "onnx", "sqlalchemy", "pandas", "lightgbm", "sklearn", "pyarrow", "streamlit", "fsspec"}
    assert heavy & set(answer["modules"]) == set()
