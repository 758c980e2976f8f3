"""Sets whose defects are rectangles: DeepPCB's pairs, NEU-DET and others as VOC or YOLO exports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from quatrain.core.errors import BadDataError
from quatrain.core.images import image_files, read_image
from quatrain.industrial.data.samples import GOOD, Box, Sample, Split

# Tang et al., "Online PCB Defect Detector On A New PCB Defect Dataset" (2019): types 1 to 6.
_PCB_KINDS = ("open", "short", "mousebite", "spur", "copper", "pin-hole")
_TEST, _TEMPLATE = "_test.jpg", "_temp.jpg"
_FOLDERS: dict[str, Split] = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
_OBJECT = re.compile(r"<object>(.*?)</object>", re.DOTALL)
_LINE = re.compile(r"[\s,]+")


def is_deep_pcb(root: Path) -> bool:
    """Return whether images and their templates lie as in DeepPCB's PCBData."""
    return next(root.glob(f"**/*{_TEMPLATE}"), None) is not None


def read_deep_pcb(root: Path) -> list[Sample]:
    """Return the tested images with their templates and boxes, and each template as a good part.

    The authors' trainval.txt says which are to train on; without it all are for testing.
    """
    trained = _names_in(root / "trainval.txt")
    samples = []
    for path in sorted(root.glob(f"**/*{_TEST}")):
        stem = path.name.removesuffix(_TEST)
        template = path.with_name(f"{stem}{_TEMPLATE}")
        if not template.is_file():
            raise BadDataError(f"{path} has no template {template.name} beside it; copy the set again")
        split: Split = "train" if stem in trained else "test"
        boxes = tuple(_pcb_boxes(path.parents[1] / f"{path.parent.name}_not" / f"{stem}.txt"))
        kind = boxes[0].kind if boxes else GOOD
        samples.append(Sample(path=path, split=split, kind=kind, boxes=boxes, template=template))
        samples.append(Sample(path=template, split=split, kind=GOOD, template=template))
    return samples


def is_voc(root: Path) -> bool:
    """Return whether annotations of VOC lie here or below."""
    return next(root.glob("**/*.xml"), None) is not None


def read_voc(root: Path) -> list[Sample]:
    """Return the images that an annotation of the same name describes, and those without one as good."""
    notes = {path.stem: path for path in sorted(root.glob("**/*.xml"))}
    samples = []
    for image in image_files(root):
        boxes = tuple(_voc_boxes(notes[image.stem])) if image.stem in notes else ()
        samples.append(
            Sample(path=image, split=_split_of(root, image), kind=boxes[0].kind if boxes else GOOD, boxes=boxes)
        )
    return samples


def is_yolo(root: Path) -> bool:
    """Return whether there are folders images and labels as YOLO's exporters write them."""
    return any(path.is_dir() for path in root.glob("**/labels")) and any(
        path.is_dir() for path in root.glob("**/images")
    )


def read_yolo(root: Path) -> list[Sample]:
    """Return the images with the boxes that labels/<stem>.txt gives in shares of the image's size."""
    kinds = _yolo_kinds(root)
    samples = []
    for image in image_files(root):
        folders = list(image.relative_to(root).parts[:-1])
        if "images" not in folders:
            continue
        folders[folders.index("images")] = "labels"
        note = root.joinpath(*folders) / f"{image.stem}.txt"
        boxes = tuple(_yolo_boxes(note, image, kinds)) if note.is_file() else ()
        samples.append(
            Sample(path=image, split=_split_of(root, image), kind=boxes[0].kind if boxes else GOOD, boxes=boxes)
        )
    return samples


def _pcb_boxes(path: Path) -> Iterator[Box]:
    if not path.is_file():
        raise BadDataError(f"{path} is missing; it lists the defects of an image")
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        numbers = _integers(_LINE.split(line.strip()), path, n=5)
        if not 1 <= numbers[4] <= len(_PCB_KINDS):
            raise BadDataError(f"{path} names a defect of type {numbers[4]}, expected 1 to {len(_PCB_KINDS)}")
        x0, y0, x1, y1, kind = numbers
        yield Box(kind=_PCB_KINDS[kind - 1], x0=x0, y0=y0, x1=x1, y1=y1)


def _names_in(path: Path) -> frozenset[str]:
    """Return the stems that a list of DeepPCB names: lines of "folder/stem.jpg folder_not/stem.txt"."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return frozenset(Path(line.split()[0]).stem for line in lines if line.strip())


def _voc_boxes(path: Path) -> Iterator[Box]:
    """Yield the objects of an annotation; its few plain tags are matched, so that no entity is ever expanded."""
    for body in _OBJECT.findall(path.read_text(encoding="utf-8", errors="replace")):
        kind = _tag(body, "name", path)
        corners = _integers([_tag(body, tag, path) for tag in ("xmin", "ymin", "xmax", "ymax")], path, n=4)
        # VOC counts pixels from 1, both ends included.
        yield Box(kind=kind, x0=corners[0] - 1, y0=corners[1] - 1, x1=corners[2], y1=corners[3])


def _tag(body: str, name: str, path: Path) -> str:
    match = re.search(rf"<{name}>\s*([^<]*?)\s*</{name}>", body)
    if match is None:
        raise BadDataError(f"{path} has an object without <{name}>; export it again as Pascal VOC")
    return match.group(1)


def _yolo_kinds(root: Path) -> list[str]:
    listed = root / "classes.txt"
    if listed.is_file():
        return [line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    described = root / "data.yaml"
    text = described.read_text(encoding="utf-8") if described.is_file() else ""
    inline = re.search(r"^names:\s*\[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    if inline:
        return [name.strip().strip("'\"") for name in inline.group(1).split(",")]
    block = re.search(r"^names:\s*\n((?:\s+.*\n?)+)", text, re.MULTILINE)
    lines = block.group(1).splitlines() if block else []
    return [re.sub(r"^\s*(?:-|\d+:)\s*", "", line).strip().strip("'\"") for line in lines if line.strip()]


def _yolo_boxes(note: Path, image: Path, kinds: list[str]) -> Iterator[Box]:
    lines = [line.split() for line in note.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        return
    height, width = read_image(image, background=0).shape[:2]
    for words in lines:
        try:
            number, (cx, cy, w, h) = int(words[0]), (float(word) for word in words[1:5])
        except ValueError as error:
            raise BadDataError(f"{note} must hold lines of a class and four shares, got {' '.join(words)!r}") from error
        kind = kinds[number] if 0 <= number < len(kinds) else f"class {number}"
        x0, x1 = (round((cx + side * w / 2) * width) for side in (-1, 1))
        y0, y1 = (round((cy + side * h / 2) * height) for side in (-1, 1))
        yield Box(kind=kind, x0=x0, y0=y0, x1=x1, y1=y1)


def _split_of(root: Path, path: Path) -> Split:
    parts = [part.lower() for part in path.relative_to(root).parts[:-1]]
    return next((_FOLDERS[part] for part in parts if part in _FOLDERS), "test")


def _integers(words: list[str], path: Path, *, n: int) -> list[int]:
    try:
        numbers = [round(float(word)) for word in words]
    except ValueError as error:
        raise BadDataError(f"{path} must hold numbers, got {' '.join(words)!r}") from error
    if len(numbers) != n:
        raise BadDataError(f"{path} must hold {n} numbers for each defect, got {' '.join(words)!r}")
    return numbers
