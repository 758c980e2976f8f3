"""Images per CPU-second from a PNG file's bytes to a finding, beside the same steps in plain torch in the same run.

Ours: the file read with its refusals, cut and reduced, checked for how it lies and what it is, answered by the sealed
graph in ONNX Runtime, with its set of answers. Plain: Pillow, torch's antialiased resize, the torch module, a sigmoid.
One thread each. What the network says does not matter here: it is trained for one epoch on phantoms.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _report import claim, finish, parser, table
from PIL import Image
from torch.nn import functional

from quatrain.core.images import read_image
from quatrain.core.inference import load_model
from quatrain.healthcare.checks import Checks
from quatrain.healthcare.decision import Decision
from quatrain.healthcare.features import fit_square
from quatrain.healthcare.models.network import Ensemble, SmallResNet
from quatrain.healthcare.models.outputs import INPUT, PROBABILITY
from quatrain.healthcare.models.settings import ModelSettings
from quatrain.healthcare.simulation.phantom import draw_phantoms, write_chest_phantoms
from quatrain.healthcare.train.config import TrainConfig
from quatrain.healthcare.train.run import train

_SIDE, _FILE_SIDE, _BATCH = 48, 512, 32


def main() -> None:
    """Train a model for its shape, and time both ways on the same bytes."""
    given = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["QUATRAIN_CORE__HOME"] = name
        path, settings = _trained(Path(name))
        model = load_model(path, threads=1)
        checks = Checks.from_json(model.manifest.decision["checks"])
        decision = Decision.from_json(model.manifest.decision)
        members = [
            SmallResNet(side=_SIDE, n_channels=1, n_outputs=1, settings=settings) for _ in range(settings.members)
        ]
        module = Ensemble(members).eval()
        files = _files(_BATCH if given.quick else 4 * _BATCH)

        def ours() -> None:
            for start in range(0, len(files), _BATCH):
                pixels = np.stack([fit_square(read_image(each), _SIDE) for each in files[start : start + _BATCH]])
                checks.faults(pixels)
                decision.sets(model.predict({INPUT: pixels})[PROBABILITY])

        def plain() -> None:
            with torch.no_grad():
                for start in range(0, len(files), _BATCH):
                    arrays = [np.array(Image.open(io.BytesIO(each))) for each in files[start : start + _BATCH]]
                    wide = torch.from_numpy(np.stack(arrays))[:, None].float()
                    small = functional.interpolate(wide, size=(_SIDE, _SIDE), mode="bilinear", antialias=True)
                    torch.sigmoid(module(small[:, 0])[0])

        torch.set_num_threads(1)
        seconds = {
            name: _cpu_seconds(way, 2 if given.quick else 4) for name, way in (("ours", ours), ("plain torch", plain))
        }
    rates = {name: len(files) / value for name, value in seconds.items()}
    table(("way", "images per CPU-second"), list(rates.items()))
    finish([claim("throughput over plain torch", rates["ours"] / rates["plain torch"], 1.0, at_least=True)])


def _trained(home: Path) -> tuple[Path, ModelSettings]:
    usual = ModelSettings()
    settings = usual.model_copy(update={"fit": usual.fit.model_copy(update={"epochs": 1})})
    write_chest_phantoms(home / "p.npz", seed=0, n_train=128, n_val=64, n_test=8, side=_SIDE)
    train(TrainConfig(data=str(home / "p.npz"), out=home / "bundle", model=settings, n_resamples=10, n_views=0))
    return home / "bundle", settings


def _files(n: int) -> list[bytes]:
    found = []
    for image in draw_phantoms(n, side=_FILE_SIDE, seed=1).images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, format="png")
        found.append(stream.getvalue())
    return found


def _cpu_seconds(way: Callable[[], None], repeats: int) -> float:
    """Return the CPU time of the quickest of several turns, after one that warms up."""
    way()
    found = []
    for _ in range(repeats):
        began = time.process_time()
        way()
        found.append(time.process_time() - began)
    return min(found)


if __name__ == "__main__":
    main()
