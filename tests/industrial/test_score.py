"""A folder from cron: every image once, bad ones beside good ones, a row that can be traced."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from quatrain.core.bundle.open import open_bundle
from quatrain.core.config import settings
from quatrain.core.errors import ExitCode
from quatrain.core.store import Store
from quatrain.industrial.dashboard.overlay import contour, overlay
from quatrain.industrial.dashboard.status import status
from quatrain.industrial.dashboard.tuner import curve, tuning
from quatrain.industrial.evaluate.kept import Evaluated, keep
from quatrain.industrial.score.run import ScoreConfig, score
from quatrain.industrial.train.run import TrainResult

TIMEOUT_S = 60


def fill(folder: Path, parts: Path) -> None:
    """Copy two good boards and one without a component, and put everything beside them that may go wrong."""
    folder.mkdir()
    for number in (0, 1):
        shutil.copyfile(parts / f"test/good/{number:03d}.png", folder / f"good-{number}.png")
    shutil.copyfile(parts / "test/missing/000.png", folder / "missing.png")
    whole = (folder / "good-0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[:3000])
    (folder / "text.jpg").write_text("not an image")
    Image.new("RGB", (96, 96)).save(folder / "black.png")
    Image.new("CMYK", (96, 96)).save(folder / "cmyk.jpg")
    Image.fromarray(np.full((96, 96), 7, dtype=np.uint16)).save(folder / "deep.png")
    frames = [Image.new("L", (96, 96), level) for level in (0, 90)]
    frames[0].save(folder / "animated.webp", save_all=True, append_images=frames[1:])
    Image.new("1", (30_000, 30_000)).save(folder / "huge.png")
    Image.fromarray(np.asarray(Image.open(folder / "good-0.png"))[:12]).save(folder / "strip.png")


def rows_of(out: Path) -> dict[str, dict[str, object]]:
    """Return the verdict rows by file."""
    tables = [pq.read_table(path) for path in sorted((out / "verdicts").glob("*.parquet"))]
    return {row["file"]: row for table in tables for row in table.to_pylist()}


def test_bad_images_are_quarantined_and_the_rest_is_scored(trained: TrainResult, parts: Path, tmp_path: Path) -> None:
    """Each refusal says why; a verdict row names the image's and the model's digests and the thresholds."""
    incoming, out = tmp_path / "incoming", tmp_path / "out"
    fill(incoming, parts)
    config = ScoreConfig(inputs=(incoming,), bundle=str(trained.bundle.path), out=out, max_bad_ratio=1)
    report = score(config)
    assert (report.exit_code, report.units["done"]) == (0, 3)
    found = rows_of(out)
    assert set(found) == {"good-0.png", "good-1.png", "missing.png"}
    row = found["missing.png"]
    assert row["sha256"] == hashlib.sha256((incoming / "missing.png").read_bytes()).hexdigest()
    assert row["model_sha256"] == trained.bundle.digest
    assert row["fail_above"] == trained.rule.fail_above
    assert row["verdict"] in {"fail", "review"}
    reasons = {}
    for path in sorted((out / "quarantine").glob("*.jsonl")):
        line = json.loads(path.read_text().splitlines()[-1])
        reasons[line["file"]] = line["reason"]
    told = {
        "cut.png": "damaged, cut off",
        "text.jpg": "is no image",
        "black.png": "shows nothing",
        "cmyk.jpg": "is in CMYK",
        "deep.png": "has 16 bits",
        "animated.webp": "holds 2 frames",
        "huge.png": "30000 x 30000 pixels",
        "strip.png": "its proportions 8.00 are far from",
    }
    assert set(reasons) == set(told)
    for name, words in told.items():
        assert words in reasons[name], name
    again = score(config)
    assert again.units["new"] == 0
    assert (
        score(config.model_copy(update={"out": tmp_path / "b", "max_bad_ratio": 0.05})).exit_code == ExitCode.BAD_DATA
    )


def parts_page() -> None:
    """Draw the inspected parts."""
    from quatrain.industrial.dashboard.views.parts import parts

    parts()


def threshold_page() -> None:
    """Draw the threshold."""
    from quatrain.industrial.dashboard.views.threshold import threshold

    threshold()


def open_page(draw: Callable[[], None]) -> AppTest:
    """Return a page after its first run."""
    return AppTest.from_function(draw, default_timeout=TIMEOUT_S).run()


def text_of(app: AppTest) -> str:
    """Return everything that the page wrote."""
    written = [*app.get("html"), *app.markdown, *app.code, *app.info, *app.caption]
    return "\n".join(str(getattr(part, "value", None) or getattr(part.proto, "body", "")) for part in written)


def test_pages_say_what_to_do_before_there_is_anything() -> None:
    """The exact next command, on both pages and on the card."""
    assert "quatrain industrial score --data images" in text_of(open_page(parts_page))
    assert "quatrain industrial train --data parts/good" in text_of(open_page(threshold_page))
    assert status().command == "quatrain industrial train --data parts/good"


@pytest.fixture
def in_use(trained: TrainResult, parts: Path, quatrain_home: Path) -> TrainResult:
    """Publish the inspector in this test's home and inspect three boards with it."""
    assert settings().home == quatrain_home
    Store().publish(open_bundle(trained.bundle.path), alias="prod")
    folder = quatrain_home / "images"
    folder.mkdir()
    for name in ("good/000", "missing/000", "missing/001"):
        shutil.copyfile(parts / f"test/{name}.png", folder / f"{name.replace('/', '-')}.png")
    assert score(ScoreConfig(inputs=(folder,))).exit_code == 0
    return trained


def test_the_gallery_shows_verdicts_and_the_worst_part_first(in_use: TrainResult) -> None:
    """Two boards lack a component; the page counts them and opens on the one most unlike good boards."""
    app = open_page(parts_page)
    assert not app.exception
    assert app.selectbox(key="part").value.startswith("missing-")
    page = text_of(app)
    assert in_use.bundle.digest[:12] in page
    assert "SYNTHETIC" in page
    app.multiselect(key="verdicts").set_value(["pass"]).run()
    assert not app.exception
    assert status().facts[0].value == "3"


def test_moving_the_threshold_changes_overkill_and_escapes(in_use: TrainResult) -> None:
    """The numbers on the page are those of the scores, before and after the slider moves."""
    digest = in_use.bundle.digest
    keep(Evaluated(data="boards", kinds=("good", "crack", "pit"), scores=(0.0, 1.0, 50.0)), digest=digest)
    good = in_use.bundle.manifest.decision["good_scores"]
    app = open_page(threshold_page)
    assert not app.exception
    sealed = in_use.rule.fail_above
    assert sealed is not None
    above = sum(value > sealed for value in good)
    assert f"{above} of {len(good)}" in text_of(app)
    assert "1 of 2: 50.0%" in text_of(app)
    app.slider(key="threshold").set_value(app.slider(key="threshold").min).run()
    lowest = app.slider(key="threshold").value
    assert f"{sum(value > lowest for value in good)} of {len(good)}" in text_of(app)
    assert "0 of 2: 0.0%" in text_of(app)


def test_the_tuner_counts_what_lies_on_either_side() -> None:
    """A good part above the threshold is overkill, a bad one at it or below escapes."""
    evaluated = Evaluated(data="x", kinds=("good", "pit", "pit", "crack"), scores=(1.0, 2.0, 5.0, 9.0))
    found = tuning(2.0, good=[0.0, 1.0, 2.0, 3.0], evaluated=evaluated)
    assert found.overkill.text() == "1 of 4: 25.0% [0.6%, 80.6%]"
    assert found.escape is not None
    assert (found.escape.n_hits, found.escape.n) == (1, 3)
    assert tuning(2.0, good=[0.0], evaluated=None).escape is None
    shares = curve([0.0, 1.0], evaluated)
    assert shares[shares["measure"] == "overkill"]["share"].is_monotonic_decreasing
    assert shares[shares["measure"] == "escape"]["share"].is_monotonic_increasing


def test_the_overlay_outlines_what_is_above_the_threshold() -> None:
    """The line is the region's edge; without opacity and outline the image is as it was."""
    region = np.zeros((8, 8), dtype=bool)
    region[2:6, 2:6] = True
    assert contour(region).sum() == 12
    image = np.full((8, 8), 90, dtype=np.uint8)
    found = np.zeros((8, 8), dtype=np.float32)
    found[2:6, 2:6] = 3
    plain = overlay(image, found, threshold=1, opacity=0, has_contour=False)
    assert (plain == 90).all()
    painted = overlay(image, found, threshold=1, opacity=0.5)
    assert (painted[2, 2] == (0, 229, 255)).all()
    assert (painted[4, 4] != 90).any()
