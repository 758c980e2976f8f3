"""Every layout of the field is read as the same list of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quatrain.core.errors import BadDataError, UsageError
from quatrain.industrial.data.layouts import read_folder
from quatrain.industrial.data.samples import Box, Sample, mask_of, select


def draw(path: Path, *, size: tuple[int, int] = (12, 8), box: tuple[int, int, int, int] | None = None) -> Path:
    """Write a small image, with a white rectangle where `box` is (x0, y0, x1, y1)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size[::-1], dtype=np.uint8)
    if box:
        pixels[box[1] : box[3], box[0] : box[2]] = 255
    Image.fromarray(pixels).save(path)
    return path


def told(samples: tuple[Sample, ...], root: Path) -> set[tuple[str, str, str | None, int]]:
    """Return (file, split, kind, number of masks) of each sample."""
    return {(s.path.relative_to(root).as_posix(), s.split, s.kind, len(s.masks)) for s in samples}


def test_mvtec_ad_joins_images_to_masks(tmp_path: Path) -> None:
    """A mask is that of the image's stem; good parts in the test have none and are labelled all the same."""
    draw(tmp_path / "train/good/000.png")
    draw(tmp_path / "test/good/000.png")
    draw(tmp_path / "test/crack/000.png")
    draw(tmp_path / "ground_truth/crack/000_mask.png", box=(2, 1, 5, 3))
    folder = read_folder(tmp_path)
    assert folder.layout == "MVTec AD"
    assert told(folder.samples, tmp_path) == {
        ("train/good/000.png", "train", "good", 0),
        ("test/good/000.png", "test", "good", 0),
        ("test/crack/000.png", "test", "crack", 1),
    }
    crack = select(folder.samples, is_defective=True)[0]
    assert mask_of(crack, (8, 12)).sum() == 3 * 2
    assert all(sample.has_mask for sample in folder.samples)


def test_loco_joins_several_masks_of_one_image(tmp_path: Path) -> None:
    """The union of a folder of masks is the image's mask, and validation/good stays apart."""
    draw(tmp_path / "train/good/000.png")
    draw(tmp_path / "validation/good/000.png")
    draw(tmp_path / "test/logical_anomalies/007.png")
    draw(tmp_path / "ground_truth/logical_anomalies/007/000.png", box=(0, 0, 2, 1))
    draw(tmp_path / "ground_truth/logical_anomalies/007/001.png", box=(4, 4, 6, 6))
    folder = read_folder(tmp_path)
    assert {sample.split for sample in folder.samples} == {"train", "valid", "test"}
    assert mask_of(select(folder.samples, is_defective=True)[0], (8, 12)).sum() == 2 + 4


def test_mvtec_ad_2_reads_the_public_test_only(tmp_path: Path) -> None:
    """Images of the private tests have no labels, so they are not samples."""
    draw(tmp_path / "train/good/000.png")
    draw(tmp_path / "validation/good/000.png")
    draw(tmp_path / "test_public/bad/000.png")
    draw(tmp_path / "test_public/ground_truth/bad/000_mask.png", box=(0, 0, 1, 1))
    draw(tmp_path / "test_private/000.png")
    folder = read_folder(tmp_path)
    assert folder.layout == "MVTec AD 2"
    assert ("test_public/bad/000.png", "test", "bad", 1) in told(folder.samples, tmp_path)
    assert len(folder.samples) == 3


def test_visa_takes_the_authors_split_and_kinds(tmp_path: Path) -> None:
    """The table of splits lies beside the categories; class numbers in a mask mark a defect like white does."""
    root = tmp_path / "candle"
    for number in (0, 1):
        draw(root / f"Data/Images/Normal/{number}.JPG")
    draw(root / "Data/Images/Anomaly/000.JPG")
    mask = draw(root / "Data/Masks/Anomaly/000.png")
    numbered = np.zeros((8, 12), dtype=np.uint8)
    numbered[0, :4] = 3
    Image.fromarray(numbered).save(mask)
    (root / "image_anno.csv").write_text(
        "image,label,mask\ncandle/Data/Images/Normal/0.JPG,normal,\n"
        "candle/Data/Images/Anomaly/000.JPG,melded wax,candle/Data/Masks/Anomaly/000.png\n"
    )
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv/1cls.csv").write_text(
        "object,split,label,image,mask\ncandle,train,normal,candle/Data/Images/Normal/0.JPG,\n"
        "candle,test,normal,candle/Data/Images/Normal/1.JPG,\n"
    )
    folder = read_folder(root)
    assert told(folder.samples, root) == {
        ("Data/Images/Normal/0.JPG", "train", "good", 0),
        ("Data/Images/Normal/1.JPG", "test", "good", 0),
        ("Data/Images/Anomaly/000.JPG", "test", "melded wax", 1),
    }
    assert mask_of(select(folder.samples, is_defective=True)[0], (8, 12)).sum() == 4


def test_kolektor_reads_black_masks_as_good(tmp_path: Path) -> None:
    """The first set has no split: defects are for testing, good parts are shared out."""
    for part in range(4):
        draw(tmp_path / f"kos01/Part{part}.jpg")
        draw(tmp_path / f"kos01/Part{part}_label.bmp", box=(0, 0, 3, 3) if part == 2 else None)
    folder = read_folder(tmp_path)
    assert folder.layout == "KolektorSDD"
    kinds = {sample.path.stem: sample.kind for sample in folder.samples}
    assert kinds == {"Part0": "good", "Part1": "good", "Part2": "defect", "Part3": "good"}
    assert len(select(folder.samples, split="train")) == 2
    assert not select(folder.samples, split="train", is_defective=True)


def test_deep_pcb_joins_pairs_and_boxes(tmp_path: Path) -> None:
    """A tested image has its template and the boxes of its list, type 3 being a mouse bite."""
    group = tmp_path / "group00041"
    draw(group / "00041/00041000_test.jpg")
    draw(group / "00041/00041000_temp.jpg")
    note = group / "00041_not/00041000.txt"
    note.parent.mkdir()
    note.write_text("1 2 5 6 3\n")
    (tmp_path / "trainval.txt").write_text("group00041/00041/00041000.jpg group00041/00041_not/00041000.txt\n")
    folder = read_folder(tmp_path)
    tested = select(folder.samples, is_defective=True)[0]
    assert folder.layout == "DeepPCB"
    assert tested.boxes == (Box(kind="mousebite", x0=1, y0=2, x1=5, y1=6),)
    assert tested.template == group / "00041/00041000_temp.jpg"
    assert tested.split == "train"


def test_voc_counts_pixels_from_one(tmp_path: Path) -> None:
    """NEU-DET's <xmin>1</xmin> is the first column, and <xmax> is inside the box."""
    draw(tmp_path / "IMAGES/crazing_1.jpg")
    draw(tmp_path / "IMAGES/plain.jpg")
    note = tmp_path / "ANNOTATIONS/crazing_1.xml"
    note.parent.mkdir()
    note.write_text(
        "<annotation><object><name>crazing</name><bndbox><xmin>1</xmin><ymin>2</ymin>"
        "<xmax>4</xmax><ymax>8</ymax></bndbox></object></annotation>"
    )
    folder = read_folder(tmp_path)
    assert folder.layout == "VOC"
    assert select(folder.samples, is_defective=True)[0].boxes == (Box(kind="crazing", x0=0, y0=1, x1=4, y1=8),)
    assert len(select(folder.samples, is_defective=False)) == 1


def test_yolo_scales_boxes_by_the_image(tmp_path: Path) -> None:
    """Centre and size come in shares of width and height."""
    draw(tmp_path / "train/images/a.png")
    draw(tmp_path / "valid/images/b.png")
    (tmp_path / "train/labels").mkdir()
    (tmp_path / "train/labels/a.txt").write_text("1 0.5 0.5 0.5 0.25\n")
    (tmp_path / "data.yaml").write_text("names: [dent, rust]\n")
    folder = read_folder(tmp_path)
    assert folder.layout == "YOLO"
    assert select(folder.samples, is_defective=True)[0].boxes == (Box(kind="rust", x0=3, y0=3, x1=9, y1=5),)
    assert {sample.path.stem: sample.split for sample in folder.samples} == {"a": "train", "b": "valid"}


def test_good_and_bad_folders_are_known_by_their_names(tmp_path: Path) -> None:
    """Folders below a bad one name its kinds; a third of the good parts is held back by the seed."""
    for number in range(10):
        draw(tmp_path / f"OK/{number}.png")
    draw(tmp_path / "NG/scratch/0.png")
    draw(tmp_path / "NG/1.png")
    folder = read_folder(tmp_path, seed=3)
    assert {sample.kind for sample in folder.samples} == {"good", "scratch", "ng"}
    assert len(select(folder.samples, split="train")) == 7
    assert len(select(folder.samples, split="test", is_defective=False)) == 3
    assert folder.samples == read_folder(tmp_path, seed=3).samples


def test_images_alone_are_good_parts_to_train_on(tmp_path: Path) -> None:
    """A folder that nobody sorted has no test."""
    for number in range(3):
        draw(tmp_path / f"{number}.png")
    folder = read_folder(tmp_path)
    assert folder.layout == "good alone"
    assert folder.describe()["train_good"] == 3
    assert folder.describe()["test_good"] == 0


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    """Marking the wrong pixels would falsify every measure."""
    sample = Sample(path=draw(tmp_path / "a.png"), split="test", kind="pit", masks=(draw(tmp_path / "m.png"),))
    with pytest.raises(BadDataError, match=r"m.png has 8 x 12 pixels, expected the 9 x 12 of a.png"):
        mask_of(sample, (9, 12))


def test_a_folder_without_images_says_what_was_expected(tmp_path: Path) -> None:
    """And so does a path that is no folder."""
    with pytest.raises(BadDataError, match="has no layout known here; expected train/good"):
        read_folder(tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        read_folder(tmp_path / "nowhere")
