"""A night's folder: each picture once, bad ones with the reason in quarantine, nobody's name anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.healthcare.conftest import Trained, blobs
from tests.healthcare.test_dicom import made

from quatrain.core.inference import load_model
from quatrain.healthcare.decision import Decision
from quatrain.healthcare.explain import occlusion, points_at
from quatrain.healthcare.score.run import ScoreConfig, score
from quatrain.healthcare.score.scorer import LOOK_FIRST, answer_of


def night(folder: Path) -> Path:
    """Write good and bad files."""
    folder.mkdir()
    images, _ = blobs(4, seed=5)
    for number, image in enumerate(images):
        Image.fromarray(image).resize((60, 60)).save(folder / f"{number}.png")
    Image.fromarray(255 - images[0]).save(folder / "negative.png")
    made(folder / "named.dcm", np.kron(images[1], np.ones((4, 4))) * 16, WindowCenter=2048, WindowWidth=4096)
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:300])
    (folder / "text.dcm").write_text("no image")
    (folder / "empty.jpg").write_bytes(b"")
    return folder


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    """Return every finding by file."""
    rows = [row for path in sorted((out / "findings").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return {row["file"]: row for row in rows}


def test_a_night_is_scored_once(trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Good files have findings, the negative is to be looked at first, bad ones a reason; a rerun does nothing."""
    config = ScoreConfig(
        inputs=(night(tmp_path / "in"),), bundle=str(trained.bundle), out=tmp_path / "out", max_bad_ratio=0.5
    )
    report = score(config)
    assert report.exit_code == 0, report.error
    assert (report.units["done"], report.units["refused"]) == (6, 3)
    rows = rows_of(tmp_path / "out")
    assert set(rows) == {"0.png", "1.png", "2.png", "3.png", "negative.png", "named.dcm"}
    assert rows["negative.png"]["answer"] == LOOK_FIRST
    assert "negative" in rows["negative.png"]["faults"]
    assert rows["named.dcm"]["source"] == "dicom"
    assert rows["named.dcm"]["probability:1"] == pytest.approx(rows["1.png"]["probability:1"], abs=0.2)
    assert {row["note"] for row in rows.values()} == {"Not for diagnosis"}
    reasons = [
        json.loads(line)["reason"]
        for path in (tmp_path / "out" / "quarantine").iterdir()
        for line in path.read_text().splitlines()
    ]
    assert sorted(word in " ".join(reasons) for word in ("is empty", "no DICOM file", "damaged")) == [True] * 3
    again = score(config)
    assert (again.units["new"], again.exit_code) == (0, 0)
    everything = capfd.readouterr().out + capfd.readouterr().err + " ".join(map(str, rows.values())) + " ".join(reasons)
    assert "Secret" not in everything
    assert "4711" not in everything


def test_too_much_bad_data_ends_with_65(trained: Trained, tmp_path: Path) -> None:
    """Cron sees it in the exit code."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.png").write_bytes(b"no image")
    assert (
        score(ScoreConfig(inputs=(tmp_path / "in",), bundle=str(trained.bundle), out=tmp_path / "out")).exit_code == 65
    )


def test_a_set_of_none_or_several_is_no_answer() -> None:
    """Of findings each may be there, not there, or undecided."""
    floors = ((0.2, 0.6),)
    decision = Decision(
        kind="binary",
        classes=("normal", "ill"),
        threshold=0.5,
        level=0.9,
        floors=floors,
        distance_limit=9,
        false_alarms=0.01,
    )
    probability = np.array([[0.1], [0.7], [0.95]])
    assert [answer_of(decision, sets)[0] for sets in decision.sets(probability)] == ["normal", "no answer", "ill"]
    assert answer_of(decision, decision.sets(probability)[1])[1] == "normal or ill"


def test_occlusion_points_at_the_spot_and_a_random_model_does_not(trained: Trained) -> None:
    """The pointing game on spots whose place is known: near always, and for a network of noise near chance."""
    images, labels = blobs(120, seed=11)
    clean, _ = blobs(120, seed=11)
    model = load_model(trained.bundle)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(images[0].size, 1))
    hits: dict[str, list[bool]] = {"trained": [], "noise": []}
    for image, place in zip(images[labels == 1][:25], spots(11, 120)[labels == 1][:25], strict=True):
        y, x = np.mgrid[:20, :20] / 20
        mask = np.hypot(x - place[0], y - place[1]) < 0.2
        hits["trained"].append(points_at(occlusion(lambda batch: model.predict(batch)["logits"], image), mask))
        random = occlusion(lambda batch: batch.reshape(len(batch), -1).astype(float) @ noise, image)
        hits["noise"].append(points_at(random, mask))
    assert np.array_equal(images, clean)
    assert np.mean(hits["trained"]) >= 0.8
    assert np.mean(hits["noise"]) <= 0.4


def spots(seed: int, n: int) -> np.ndarray:
    """Return where `blobs` put its spots, (n, 2): the same draws from the same seed."""
    rng = np.random.default_rng(seed)
    rng.integers(0, 2, n)
    return rng.uniform(0.25, 0.75, (2, n, 1, 1))[:, :, 0, 0].T


def test_what_scores_at_night_imports_nothing_that_trains() -> None:
    """Scoring, data and features start without torch, scikit-learn, pandas or streamlit."""
    modules = ("score.run", "data.named", "features", "dicom", "checks", "decision", "explain", "cli")
    lines = [f"import quatrain.healthcare.{name}" for name in modules]
    heavy = ("torch", "sklearn", "pandas", "matplotlib", "streamlit", "scipy")
    code = "; ".join([*lines, "import sys", f"print([name for name in {heavy} if name in sys.modules])"])
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
