"""`quatrain benchmark`: figures that add up, refusals by name, and a choice that serves afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from quatrain.core.backends.protocol import BackendError
from quatrain.core.benchmarking.measure import Work, case_of, roof, timed
from quatrain.core.benchmarking.probes import Peaks, peaks
from quatrain.core.benchmarking.run import benchmark, save
from quatrain.core.bundle.open import Bundle
from quatrain.core.cli.main import app
from quatrain.core.inference import load_model

PEAKS = Peaks(flops=1e9, bandwidth=1e8)


def test_a_roof_is_the_lower_of_both_limits() -> None:
    """They meet at ten operations per byte here."""
    assert [roof(intensity, PEAKS) for intensity in (1, 10, 100)] == [1e8, 1e9, 1e9]


def test_a_cases_figures_follow_from_its_calls() -> None:
    """A hundred calls of 1 ms and one of 11: closed forms of every figure."""
    taken = np.array([1e-3] * 100 + [11e-3])
    case = case_of("openvino", 8, taken, 2e-3, peak_bytes=7, work=Work(operations=4e5, n_bytes=1e5), peaks=PEAKS)
    assert (case.p50_ms, case.p95_ms, case.calls, case.peak_memory_bytes) == (1.0, 1.0, 101, 7)
    assert case.rows_per_second == pytest.approx(8 * 101 / 0.111)
    assert case.cpu_seconds_per_1000_rows == pytest.approx(0.25)
    assert case.flops == pytest.approx(4e8)
    assert (case.share_of_peak, case.share_of_roof, case.intensity) == pytest.approx((0.4, 1.0, 4.0))


def test_a_model_without_products_has_no_share_of_them() -> None:
    """As trees have none."""
    case = case_of("onnxruntime", 1, np.ones(5), 1.0, peak_bytes=0, work=Work(operations=0, n_bytes=1), peaks=PEAKS)
    assert (case.flops, case.share_of_peak, case.share_of_roof, case.intensity) == (None, None, None, None)


def test_calls_are_warmed_up_and_counted() -> None:
    """At least five are timed, however short the time."""
    calls: list[int] = []
    taken, _ = timed(lambda: calls.append(1), seconds=0.0)
    assert (len(taken), len(calls)) == (5, 8)


def test_the_probes_measure_something() -> None:
    """A product and a copy take time, and more threads are no error."""
    found = peaks(threads=2, rounds=1, side=64, n_bytes=1 << 16)
    assert 1e6 < found.flops < 1e15
    assert 1e6 < found.bandwidth < 1e13


def test_a_benchmark_names_what_it_refuses_and_serves_what_it_chose(
    seal_doubling: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files hold all of it; "auto" then takes the choice without measuring again."""
    from quatrain.core.benchmarking import run

    bundle = seal_doubling()
    real = run.opener_of

    def opener_of(name: str) -> object:
        if name == "torch":
            raise BackendError("torch is not for today")
        return real(name)

    monkeypatch.setattr(run, "opener_of", opener_of)
    monkeypatch.setattr("quatrain.core.backends.autotune.opener_of", opener_of)
    monkeypatch.setattr(run, "peaks", lambda **_: PEAKS)
    found = benchmark(bundle, reference="x", backends=["onnxruntime", "torch"], batches=[1, 8], threads=1, seconds=0.0)
    assert [(case.backend, case.batch) for case in found.cases] == [("onnxruntime", 1), ("onnxruntime", 8)]
    assert found.refused == {"torch": "torch is not for today"}
    assert found.auto == dict.fromkeys((1, 8, 64, 256), "onnxruntime")
    document, picture = save(found, tmp_path / "out")
    assert json.loads(document.read_text(encoding="utf-8"))["digest"] == bundle.digest
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert load_model(bundle.path, threads=1).backend == "onnxruntime"


def test_the_command_prints_one_object(seal_doubling: Callable[..., Bundle], tmp_path: Path) -> None:
    """And nothing else, as --json promises."""
    arguments = ["benchmark", str(seal_doubling().path), "--backend", "onnxruntime", "--batch", "1", "--threads", "1"]
    result = CliRunner().invoke(app, [*arguments, "--seconds", "0.01", "--out", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["cases"][0]["backend"] == "onnxruntime"
    assert set(document["auto"]) == {"1", "8", "64", "256"}
    assert [Path(file).is_file() for file in document["files"]] == [True, True]


def test_the_command_shows_a_table(seal_doubling: Callable[..., Bundle], tmp_path: Path) -> None:
    """With the machine's peak above and the choice below."""
    arguments = ["benchmark", str(seal_doubling().path), "--backend", "onnxruntime", "--batch", "8", "--threads", "1"]
    result = CliRunner().invoke(app, [*arguments, "--seconds", "0.01", "--out", str(tmp_path / "out"), "-q"])
    assert result.exit_code == 0, result.output
    assert "GFLOP/s in float32" in result.stdout
    assert "auto: onnxruntime for 1, onnxruntime for 8" in result.stdout


def test_an_unknown_backend_is_a_usage_error(seal_doubling: Callable[..., Bundle]) -> None:
    """With the name that was meant."""
    result = CliRunner().invoke(app, ["benchmark", str(seal_doubling().path), "--backend", "openvin"])
    assert "did you mean 'openvino'" in str(result.exception)
