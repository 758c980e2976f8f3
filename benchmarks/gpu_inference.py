"""Four networks on a GPU in bfloat16: eager AMP, torch.compile, AOTInductor and CUDA graphs, from uint8 in host memory.

Without a CUDA device it says so and exits 0; the tests run the same functions on the CPU.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _report import Claim, claim, finish, parser, table
from torch import nn

from quatrain.core.backends.pinned import Uploads, answers, half, replayed
from quatrain.core.networks import FTTransformer
from quatrain.core.vision.backbones import load_backbone
from quatrain.core.vision.network import ImageClassifier

OVER_EAGER, IMAGES_PER_SECOND = 1.6, 25_000
SIDE, N_CLASSES, N_COLUMNS = 224, 1000, 32
WAYS = ("eager", "compile", "aoti", "graph")

Call = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Found:
    """One network and way: rows per second on the device, and from host memory to host memory."""

    network: str
    way: str
    rows_per_second: float
    end_to_end: float
    recompiled: int


class SmallViT(nn.Module):
    """ViT-S/16 (Dosovitskiy et al., 2021; Touvron et al., "DeiT", 2021): 12 blocks of width 384, 6 heads."""

    def __init__(self, *, size: int = SIDE, width: int = 384, n_blocks: int = 12, n_heads: int = 6) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, stride=16)
        self.places = nn.Parameter(torch.zeros(1, (size // 16) ** 2, width))
        layer = nn.TransformerEncoderLayer(
            width, n_heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, n_blocks, enable_nested_tensor=False)
        self.head = nn.Linear(width, N_CLASSES)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits of uint8 images (B, H, W, 3); normalisation is done where the pixels are."""
        images = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1  # (B, 3, H, W)
        tokens = self.patches(images).flatten(2).transpose(1, 2)  # (B, patches, width)
        return self.head(self.blocks(tokens + self.places).mean(1))


def networks() -> dict[str, tuple[nn.Module, np.ndarray]]:
    """Return each network with a batch of what it takes from host memory."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1, SIDE, SIDE, 3)).astype(np.uint8)
    columns = rng.normal(size=(1, N_COLUMNS)).astype(np.float32)
    found: dict[str, tuple[nn.Module, np.ndarray]] = {}
    for name in ("resnet50", "efficientnet_lite0"):
        backbone = load_backbone(name, pretrained=False)
        preprocess = backbone.preprocess((SIDE, SIDE))
        found[name] = (ImageClassifier(preprocess, backbone, n_classes=N_CLASSES, link="softmax"), pixels)
    return found | {
        "vit_small": (SmallViT(), pixels),
        "fraud transformer": (FTTransformer(n_columns=N_COLUMNS), columns),
    }


def ways(module: nn.Module, example: torch.Tensor, folder: Path, wanted: tuple[str, ...] = WAYS) -> dict[str, Call]:
    """Return the network as each way runs it, on the example's device and for its shape."""
    device = example.device
    module = module.eval().to(device).to(memory_format=torch.channels_last)

    def eager(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), half(device):
            return module(x)

    calls: dict[str, Call] = {"eager": eager}
    if "compile" in wanted:
        compiled = torch.compile(module, mode="max-autotune", dynamic=False)
        calls["compile"] = lambda x: _without_gradient(compiled, x, device)
    if "aoti" in wanted:
        calls["aoti"] = ahead(module, example, folder)
    if "graph" in wanted:
        calls["graph"] = replayed(eager, example)
    return calls


def ahead(module: nn.Module, example: torch.Tensor, folder: Path) -> Call:
    """Return the network compiled ahead of time, autocast traced in."""
    with torch.no_grad(), half(example.device):
        program = torch.export.export(module, (example,))
        path = torch._inductor.aoti_compile_and_package(program, package_path=str(folder / "model.pt2"))
    return torch._inductor.aoti_load_package(path)


def measured(
    network: str, calls: dict[str, Call], batch: np.ndarray, device: torch.device, *, rounds: int
) -> list[Found]:
    """Return the rates of each way, the ways taking turns."""
    example = torch.from_numpy(batch).to(device)
    for call in calls.values():
        for _ in range(3):
            call(example)
    before = recompilations()
    on_device: dict[str, list[float]] = {way: [] for way in calls}
    end_to_end: dict[str, list[float]] = {way: [] for way in calls}
    uploads = Uploads(batch.shape, example.dtype, device)
    for _ in range(rounds):
        for way, call in calls.items():
            on_device[way].append(len(batch) / seconds(lambda call=call: call(example), device))
            start = time.perf_counter()
            n_rows = sum(len(answer) for answer in answers(_same(batch, 20), call, uploads))
            end_to_end[way].append(n_rows / (time.perf_counter() - start))
    return [
        Found(
            network,
            way,
            statistics.median(on_device[way]),
            statistics.median(end_to_end[way]),
            recompilations() - before,
        )
        for way in calls
    ]


def seconds(call: Callable[[], object], device: torch.device, *, calls: int = 20) -> float:
    """Return the seconds of one call, the device's queue waited for at both ends."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    _wait(device)
    return (time.perf_counter() - start) / calls


def recompilations() -> int:
    """Return how many graphs dynamo has compiled in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def claims(found: list[Found]) -> list[Claim]:
    """Return the promises beside what was measured."""
    result = []
    for network in dict.fromkeys(each.network for each in found):
        own = {each.way: each for each in found if each.network == network}
        best = max(each.rows_per_second for each in own.values())
        result.append(
            claim(f"{network}: best way / eager AMP", best / own["eager"].rows_per_second, OVER_EAGER, at_least=True)
        )
    resnet = max(each.end_to_end for each in found if each.network == "resnet50")
    result.append(claim("resnet50: images per second, end to end", resnet, IMAGES_PER_SECOND, at_least=True))
    result.append(claim("compiled anew after warm-up", sum(each.recompiled for each in found), 0, at_least=False))
    return result


def main() -> None:
    """Measure on the first GPU, or say that there is none."""
    arguments = parser(__doc__)
    arguments.add_argument("--batch", type=int, default=256)
    options = arguments.parse_args()
    if not torch.cuda.is_available():
        finish(skipped="no CUDA device")
    device = torch.device("cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    found: list[Found] = []
    for name, (module, row) in networks().items():
        batch = np.repeat(row, options.batch, axis=0)
        with tempfile.TemporaryDirectory() as folder:
            calls = ways(module, torch.from_numpy(batch).to(device), Path(folder), WAYS[::3] if options.quick else WAYS)
            found += measured(name, calls, batch, device, rounds=3 if options.quick else 9)
        torch._dynamo.reset()
        torch.cuda.empty_cache()
    table(
        ("network", "way", "rows/s on the GPU", "rows/s end to end", "recompiled"),
        [tuple(vars(f).values()) for f in found],
    )
    finish(claims(found))


def _without_gradient(module: Call, x: torch.Tensor, device: torch.device) -> torch.Tensor:
    with torch.no_grad(), half(device):
        return module(x)


def _same(batch: np.ndarray, n: int) -> Iterator[np.ndarray]:
    return (batch for _ in range(n))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
