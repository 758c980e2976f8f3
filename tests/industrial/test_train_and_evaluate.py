"""From good parts to a sealed inspector, and what it is worth on parts it has not seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from quatrain.core.errors import BadDataError, UsageError
from quatrain.core.images import read_image
from quatrain.core.inference import load_model
from quatrain.industrial.decision import Rule
from quatrain.industrial.evaluate.run import EvaluateConfig, evaluate
from quatrain.industrial.score.inspect import Inspector, enlarged
from quatrain.industrial.train.config import TrainConfig
from quatrain.industrial.train.run import TrainResult, train


def test_drawn_defects_are_told_from_good_boards(trained: TrainResult, parts: Path) -> None:
    """Images and pixels are ranked well, and every measure of the contract is there with its interval."""
    document = evaluate(EvaluateConfig(data=str(parts), bundle=str(trained.bundle.path), n_resamples=50))
    row = document["rows"][0]
    assert row["n"] == 12 + 18
    assert row["metrics"]["image_auroc"] > 0.8
    assert row["metrics"]["pixel_auroc"] > 0.9
    assert 0.5 < row["metrics"]["aupro_30"] <= 1
    assert {"overkill", "escape", "review_good", "image_auroc"} <= set(row["intervals"])
    assert len(document["rows"]) == 1 + 6
    assert document["refused"] == []


def test_the_bundle_answers_a_batch_as_it_answers_one(trained: TrainResult, parts: Path) -> None:
    """Scores and verdicts are the same in batches of 1, 2 and 8, for images of the model's size or another."""
    model = load_model(str(trained.bundle.path))
    inspector = Inspector(model)
    images = [read_image(path) for path in sorted((parts / "test").rglob("*.png"))[:8]]
    alone = np.array([inspector.inspect(image).score for image in images])
    for size in (2, 8):
        batched = np.concatenate(
            [model.predict(np.stack(images[i : i + size]))["score"] for i in range(0, len(images), size)]
        )
        assert np.abs(batched - alone).max() < 1e-4
        assert inspector.rule.verdicts(batched) == inspector.rule.verdicts(alone)
    twice = Image.fromarray(images[0]).resize((150, 150), Image.Resampling.BICUBIC)
    assert inspector.inspect(np.asarray(twice)).map.shape == inspector.inspect(images[0]).map.shape


def test_the_map_points_at_the_defect(trained: TrainResult, parts: Path) -> None:
    """The peak of a missing component's map lies on or beside it."""
    inspector = Inspector(load_model(str(trained.bundle.path)))
    path = parts / "test/missing/000.png"
    found = inspector.inspect(read_image(path))
    mask = read_image(parts / "ground_truth/missing/000_mask.png") > 0
    rows, columns = np.nonzero(mask)
    row, column = found.peak()
    assert rows.min() - 12 <= row <= rows.max() + 12
    assert columns.min() - 12 <= column <= columns.max() + 12
    assert enlarged(found.map, (96, 96)).shape == (96, 96)


def test_the_sealed_rule_is_what_training_told(trained: TrainResult) -> None:
    """24 parts keep 10 %: the rule is conformal, and the manifest carries it with the scores behind it."""
    manifest = trained.bundle.manifest
    assert Rule.of(manifest) == trained.rule
    assert trained.rule.fail_above is not None
    scores = manifest.decision["good_scores"]
    # ceil(25 * 0.9) = 23: the second largest of 24.
    assert trained.rule.fail_above == pytest.approx(scores[22], abs=1e-5)
    assert manifest.decision["is_synthetic"] is True
    assert "SYNTHETIC" in trained.bundle.card
    names = [trial["scorers"] for trial in trained.to_dict()["choice"]["trials"]]
    assert len(names) == 5 + 3


@pytest.mark.parametrize("n", [4, 8])
def test_few_parts_give_a_review_band_and_no_false_promise(
    n: int, parts: Path, tmp_path: Path, quatrain_home: Path
) -> None:
    """Nothing fails, what is unlike the parts is looked at, and the text says how many parts are needed."""
    folder = tmp_path / "few"
    folder.mkdir()
    for path in sorted((parts / "train/good").iterdir())[:n]:
        shutil.copyfile(path, folder / path.name)
    result = train(
        TrainConfig(data=str(folder), out=tmp_path / "bundle", side_px=64, n_pasted=8, scorer="block_gaussian")
    )
    assert result.rule.fail_above is None
    assert f"{n} good parts cannot promise 2.0% overkill: at least 49" in result.rule.promise.text()
    inspector = Inspector(load_model(str(result.bundle.path)))
    kinds = [inspector.inspect(read_image(path)).verdict for path in sorted((parts / "test/missing").iterdir())]
    assert set(kinds) == {"review"}
    assert quatrain_home.exists()


def test_a_defective_part_among_the_good_is_named(parts: Path, tmp_path: Path) -> None:
    """It is told by name, and left out of the model on request."""
    folder = tmp_path / "mixed"
    shutil.copytree(parts / "train/good", folder)
    shutil.copyfile(parts / "test/missing/001.png", folder / "bad.png")
    config = TrainConfig(data=str(folder), out=tmp_path / "a", side_px=64, n_pasted=8, scorer="block_gaussian")
    told = train(config)
    names = [suspect["file"] for suspect in told.suspects]
    assert names[0] == "bad.png"
    assert len(names) <= 2
    assert told.row["n"] == 25
    cleaned = train(config.model_copy(update={"out": tmp_path / "b", "suspects": "leave-out"}))
    assert cleaned.row["n"] == 25 - len(names)
    assert json.loads((tmp_path / "b/manifest.json").read_text())["decision"]["suspects"][0]["file"] == "bad.png"


def test_a_taken_folder_or_a_missing_part_ends_before_any_work(parts: Path, tmp_path: Path) -> None:
    """The error says what was expected and what came."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        train(TrainConfig(data=str(parts), out=tmp_path / "taken"))
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((parts / "train/good").iterdir())[:3]:
        shutil.copyfile(path, few / path.name)
    with pytest.raises(BadDataError, match="holds 3 good parts to train on, at least 4 needed"):
        train(TrainConfig(data=str(few), out=tmp_path / "b"))


def test_deep_images_are_scored_as_deep_ones(tmp_path: Path) -> None:
    """12 bits in 16 are scaled by what the camera can give, and an 8-bit image is refused."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "deep"
    folder.mkdir()
    for number in range(5):
        pixels = (rng.normal(2000, 300, (64, 80))).clip(0, 4000).astype(np.uint16)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    result = train(TrainConfig(data=str(folder), out=tmp_path / "b", side_px=64, n_pasted=8, scorer="texture_gaussian"))
    spec = result.bundle.manifest.inputs[0]
    assert (spec.dtype, spec.high, spec.shape[3]) == ("uint16", 4095, 1)
    inspector = Inspector(load_model(str(result.bundle.path)))
    assert np.isfinite(inspector.inspect(read_image(folder / "0.png")).score)
    with pytest.raises(BadDataError, match="has 8 bits, the model was trained on uint16"):
        inspector.inspect(np.zeros((64, 80), dtype=np.uint8))


def test_training_twice_seals_the_same_graph(parts: Path, tmp_path: Path) -> None:
    """The seed decides everything."""
    torch.manual_seed(5)
    config = TrainConfig(data=str(parts), side_px=64, n_pasted=8, scorer="nearest_good")
    graphs = [train(config.model_copy(update={"out": tmp_path / name})).bundle.onnx for name in "ab"]
    assert graphs[0] == graphs[1]
