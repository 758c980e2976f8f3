"""Compressing a sealed network: what comes out decides alike, and a refusal leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from tests.fintech.compress.conftest import Sealed

from quatrain.core.bundle.open import open_bundle
from quatrain.core.config import settings
from quatrain.core.errors import LockedError, UsageError
from quatrain.core.inference import load_model
from quatrain.core.store import Store
from quatrain.core.tracking import list_runs
from quatrain.fintech import journal
from quatrain.fintech.compress.run import CompressResult, compress
from quatrain.fintech.evaluate.config import EvaluateConfig
from quatrain.fintech.evaluate.run import evaluate
from quatrain.fintech.models import baselines
from quatrain.fintech.score.run import ScoreConfig, score

COMMAND = Path(sys.executable).with_name("quatrain")


@pytest.fixture(scope="module")
def made(perceptron: Sealed, tmp_path_factory: pytest.TempPathFactory) -> CompressResult:
    """Return the perceptron in int8."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUATRAIN_CORE__HOME", str(perceptron.home))
        return compress(perceptron.config(tmp_path_factory.mktemp("made") / "out"))


def test_it_computes_in_integers_and_says_where_it_comes_from(made: CompressResult, perceptron: Sealed) -> None:
    """The parent's digest, decision and data are sealed; the card has the table of what was measured."""
    assert made.bundle is not None
    manifest, parent = made.bundle.manifest, perceptron.bundle.manifest
    assert manifest.parent == perceptron.bundle.digest
    assert (manifest.name, manifest.decision, manifest.data) == (parent.name, parent.decision, parent.data)
    [step] = made.report.steps
    assert step.measured is not None
    assert step.measured.integer_share == 1
    assert "## Compression" in made.bundle.card
    assert "int8 MatMul+Gemm" in made.bundle.card


def test_its_scores_and_alerts_are_those_of_the_network(made: CompressResult, perceptron: Sealed) -> None:
    """On the golden rows within int8's grain; the count of alerts that changed is that of two loaded models."""
    assert made.bundle is not None
    golden, expected = perceptron.bundle.golden()
    actual = load_model(made.bundle.path).predict(golden["features"])["score"]
    assert np.abs(actual - expected["score"]).max() < 0.05
    assert made.alerts is not None
    assert made.alerts.before - made.alerts.gone == made.alerts.after - made.alerts.new
    assert made.alerts.before > 0


def test_score_and_evaluate_take_it(
    made: CompressResult, perceptron: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like any other model: the file is scored, alerts have reasons, and its AP is the report's."""
    assert made.bundle is not None
    assert made.report.steps[0].measured is not None
    monkeypatch.setenv("QUATRAIN_CORE__HOME", str(perceptron.home))
    report = score(ScoreConfig(inputs=(perceptron.data,), bundle=str(made.bundle.path), out=tmp_path / "scored"))
    assert (report.status, report.bad_rows) == ("done", 0)
    alerts = pq.read_table(next(path for path in report.outputs if "alerts" in str(path)))
    assert any(alerts["reason_1"].to_pylist())
    monkeypatch.setattr(baselines, "BASELINES", {})
    config = EvaluateConfig(data=str(perceptron.data), bundle=str(made.bundle.path), n_resamples=10)
    document = evaluate(config)
    assert document["rows"][0]["metrics"]["ap"] == pytest.approx(made.report.steps[0].measured.metric_after, abs=1e-6)


def test_it_looks_back_on_what_its_parent_was_trained_on(
    made: CompressResult, perceptron: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first scoring by the new model knows each card as the old one did."""
    assert made.bundle is not None
    monkeypatch.setenv("QUATRAIN_CORE__HOME", str(perceptron.home))
    held, known = journal.load_for(made.bundle.digest), journal.load_for(perceptron.bundle.digest)
    assert held is not None
    assert held.equals(known)


def test_a_finished_compression_is_not_done_again(made: CompressResult, perceptron: Sealed) -> None:
    """The same request finds the same bundle; another one in the folder is made anew, of steps that lie there."""
    assert made.bundle is not None
    again = compress(perceptron.config(made.folder))
    assert again.bundle is not None
    assert again.bundle.digest == made.bundle.digest
    other = compress(perceptron.config(made.folder, metric_drop=0.2))
    assert other.bundle is not None
    assert other.bundle.onnx == made.bundle.onnx
    assert [step.was_kept for step in other.report.steps] == [True]


def test_without_a_folder_it_is_published_under_its_name(perceptron: Sealed) -> None:
    """A new version of the same model; prod means it only because it meant none."""
    parent = Store().publish(perceptron.bundle, alias="prod")
    result = compress(perceptron.config(bundle=parent.reference))
    assert result.version is not None
    assert result.version.reference == "fintech/fraud:2"
    assert Store().aliases("fintech/fraud") == {"prod": 1}
    assert result.folder.is_relative_to(settings().home)
    [run] = list_runs()
    assert (run.command, run.status, run.bundle) == ("compress", "done", result.version.digest)


def test_a_plan_that_gains_too_little_is_refused(perceptron: Sealed, tmp_path: Path) -> None:
    """Exit 1 with the table on stdout, the reason in it, and no bundle."""
    out = tmp_path / "out"
    arguments = ["--bundle", str(perceptron.bundle.path), "--data", str(perceptron.data), "--out", str(out)]
    arguments += ["--plan", "int8:minmax", "--min-speedup", "1000", "--set", "n_resamples=10", "-q"]
    done = subprocess.run(
        [str(COMMAND), "fintech", "compress", *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "1000x is asked" in done.stdout
    assert "as trained" in done.stdout
    assert not (out / "bundle").exists()
    document = compress(perceptron.config(out, min_speedup=1000.0)).to_dict()
    assert (document["bundle"], document["version"], document["alerts"]) == (None, None, None)
    assert "no step was accepted" in document["refusal"]


def test_another_models_bundle_is_not_replaced(perceptron: Sealed, made: CompressResult, tmp_path: Path) -> None:
    """A folder that holds what was made of something else is a slip of the pen."""
    assert made.bundle is not None
    twice = perceptron.config(made.folder, bundle=str(made.bundle.path))
    with pytest.raises(UsageError, match=r"was not made from fintech/fraud .* give --out a new folder"):
        compress(twice)
    again = compress(perceptron.config(tmp_path / "twice", bundle=str(made.bundle.path)))
    assert again.bundle is None
    assert "quantised already" in again.report.table()


def test_one_run_works_in_a_folder_at_a_time(perceptron: Sealed, tmp_path: Path) -> None:
    """The second is told to come later: exit 75."""
    with FileLock(tmp_path / ".lock"), pytest.raises(LockedError, match="another run compresses into"):
        compress(perceptron.config(tmp_path))


def test_a_killed_run_goes_on_where_it_was(perceptron: Sealed, tmp_path: Path) -> None:
    """Killed with a step finished and nothing sealed; the next run takes the step as it lies there."""
    out = tmp_path / "out"
    config = perceptron.config(out).model_dump_json()
    worker = (
        "import os, signal, sys\n"
        "from quatrain.core.compression import plan\n"
        "from quatrain.fintech.compress.config import CompressConfig\n"
        "from quatrain.fintech.compress.run import compress\n"
        "plan.seal = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "compress(CompressConfig.model_validate_json(sys.argv[1]))\n"
    )
    killed = subprocess.run([sys.executable, "-c", worker, config], check=False, capture_output=True, env=os.environ)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (out / "bundle").exists()
    result = compress(perceptron.config(out))
    assert [step.was_kept for step in result.report.steps] == [True]
    assert result.bundle is not None
    assert open_bundle(out / "bundle").digest == result.bundle.digest


def test_the_table_ends_with_where_the_result_is(made: CompressResult) -> None:
    """A person sees the alerts that changed and the path; a published one by its name."""
    assert made.bundle is not None
    told = made.told()
    assert f"alerts on {made.n_held_back:,} held-back rows" in told
    assert told.endswith(f"sealed {made.bundle.path} (digest {made.bundle.digest[:12]})\n")
    assert "sealed" not in replace(made, bundle=None, alerts=None).told()
