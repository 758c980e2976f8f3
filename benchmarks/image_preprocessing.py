"""What resize and normalisation cost inside the graph, beside Pillow with NumPy and beside the backbones they feed.

Images of random smooth colours, uint8 (1, side, side, 3), to 224 pixels; CPU time of one thread, medians
of interleaved rounds. Reading a file is measured beside Pillow's own decoding.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from io import BytesIO

import _report
import numpy as np
import torch
from PIL import Image

from quatrain.core.export import torch_model
from quatrain.core.images import read_image
from quatrain.core.inference import Session, open_session
from quatrain.core.vision.backbone import Backbone
from quatrain.core.vision.backbones import load_backbone
from quatrain.core.vision.preprocess import LITE, Preprocess

SIZE = 224
SIDES = (256, 512, 1024)
BACKBONES = ("efficientnet_lite0", "resnet18")
# The graph's resize may take this many times what Pillow with NumPy takes, and differ by this many levels.
MOST_RATIO, MOST_LEVELS = 1.5, 1.0
# Share of EfficientNet-Lite0's time, in float, that preprocessing of a 512-pixel image may take.
MOST_SHARE = 0.5


def main() -> None:
    """Measure, print, and exit as the claims say."""
    options = _report.parser(__doc__).parse_args()
    rounds = 5 if options.quick else 25
    preprocess = preprocessing()
    images = {side: smooth(side) for side in SIDES}
    runs: dict[str, Callable[[], object]] = {}
    for side, image in images.items():
        runs[f"graph {side}"] = lambda image=image: preprocess(image[None])
        runs[f"pillow {side}"] = lambda image=image: by_pillow(image)
        for kind, options_of in (("PNG", {}), ("JPEG", {"quality": 90})):
            content = encoded(image, kind, **options_of)
            runs[f"read {kind} {side}"] = lambda content=content: read_image(content)
            runs[f"bare {kind} {side}"] = lambda content=content: np.asarray(Image.open(BytesIO(content)))
    normalised = preprocess(images[256][None])
    for name in BACKBONES:
        session = embedding(load_backbone(name, pretrained=False))
        runs[name] = lambda session=session: session.run(None, {"images": normalised})
    times = interleaved(runs, rounds)
    print(table(times))
    worst = max(
        float(np.abs(preprocess(image[None]) - by_pillow(image)).max()) * LITE.std[0] for image in images.values()
    )
    ratio = max(times[f"graph {side}"] / times[f"pillow {side}"] for side in SIDES)
    share = times["graph 512"] / times["efficientnet_lite0"]
    if options.quick:
        _report.finish(skipped=f"--quick takes {rounds} rounds, too few for a ratio")
    _report.finish(
        [
            _report.claim("largest difference from Pillow in levels", round(worst, 3), MOST_LEVELS, at_least=False),
            _report.claim("graph / Pillow with NumPy, worst size", ratio, MOST_RATIO, at_least=False),
            _report.claim("512 px: preprocessing / EfficientNet-Lite0", share, MOST_SHARE, at_least=False),
        ]
    )


def preprocessing() -> Callable[[np.ndarray], np.ndarray]:
    """Return the graph of resize and normalisation, images of any size."""
    graph = torch_model(
        Preprocess((SIZE, SIZE), LITE),
        {"pixels": torch.zeros(2, 300, 280, 3, dtype=torch.uint8)},
        output_names=["images"],
        dynamic={"pixels": {1: "height", 2: "width"}},
    )
    session = open_session(graph, threads=1)
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def by_pillow(image: np.ndarray) -> np.ndarray:
    """Return the same by Pillow's resize and NumPy, float32 (1, 3, 224, 224)."""
    small = np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    planes = small.astype(np.float32).transpose(2, 0, 1)[None]
    return np.ascontiguousarray((planes - np.float32(LITE.mean[0])) / np.float32(LITE.std[0]))


def embedding(backbone: Backbone) -> Session:
    """Return a session of the backbone on normalised images."""
    graph = torch_model(backbone, {"images": torch.zeros(2, 3, SIZE, SIZE)}, output_names=["embedding"])
    return open_session(graph, threads=1)


def smooth(side: int) -> np.ndarray:
    """Return smooth random colours with some noise, as a photograph has them."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)).resize((side, side))
    return np.uint8(np.clip(np.asarray(coarse) + rng.normal(0, 4, (side, side, 3)), 0, 255))


def encoded(image: np.ndarray, kind: str, **options: int) -> bytes:
    """Return the bytes of an image file."""
    stream = BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def interleaved(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median CPU milliseconds of each run, all in turns."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            taken[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def table(times: dict[str, float]) -> str:
    """Return milliseconds by size."""
    rows = [f"{'side':>6}{'graph':>9}{'Pillow':>9}{'PNG':>9}{'bare':>9}{'JPEG':>9}{'bare':>9}"]
    names = ("graph", "pillow", "read PNG", "bare PNG", "read JPEG", "bare JPEG")
    rows += [f"{side:>6}" + "".join(f"{times[f'{name} {side}']:>9.2f}" for name in names) for side in SIDES]
    rows += [f"{name} at {SIZE} pixels, float: {times[name]:.2f}" for name in BACKBONES]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
