"""Images and table rows through `Model.stream`: memory that stays flat, at the rate of computing alone.

Images come one by one as bytes that a decoder unpacks; table rows come in blocks, as a reader of
columns gives them. In turns with the stream, the same items go through a bare loop that decodes
and predicts in whole batches. Rates are per CPU second, so that other processes do not count.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _report import Claim, claim, finish, parser, table
from inference_backends import SIDE, Subject, cnn, perceptron

from quatrain.core.inference import Model, load_model

N_IMAGES, N_ROWS = 100_000, 5_000_000
QUICK_IMAGES, QUICK_ROWS = 2_000, 400_000
IMAGE_BATCH, ROWS_PER_BLOCK = 64, 4096
SHARE_OF_RATE = 0.9
# MiB that the process may grow after the first tenth of the stream: a leak of one image in ten would show.
MOST_GROWTH_MIB = 32
# Parts in which stream and loop take turns.
N_TURNS = 10


@dataclass(frozen=True)
class Found:
    """One kind of stream: rates per CPU second and per second on the wall, and memory in MiB."""

    name: str
    n: int
    stream_rate: float
    loop_rate: float
    share: float
    wall_share: float
    peak_mib: float
    growth_mib: float


def main() -> None:
    """Stream both kinds, print, and exit as the claims say."""
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, help=f"Default: {N_IMAGES}, with --quick {QUICK_IMAGES}.")
    arguments.add_argument("--rows", type=int, help=f"Default: {N_ROWS}, with --quick {QUICK_ROWS}.")
    options = arguments.parse_args()
    n_images = options.images or (QUICK_IMAGES if options.quick else N_IMAGES)
    n_rows = options.rows or (QUICK_ROWS if options.quick else N_ROWS)
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"QUATRAIN_CORE__HOME": home, "QUATRAIN_CORE__CACHE": f"{home}/cache"}
        found = [images(cnn(Path(home) / "cnn"), n_images), rows(perceptron(Path(home) / "mlp"), n_rows)]
    header = ("stream", "items", "rows per CPU s", "loop", "share", "share on the wall", "peak MiB", "growth MiB")
    table(header, [tuple(vars(each).values()) for each in found])
    finish([each for one in found for each in claims(one)])


def claims(found: Found) -> list[Claim]:
    """Return the promises of one stream."""
    return [
        claim(f"{found.name}: rate / that of a loop", found.share, SHARE_OF_RATE, at_least=True),
        claim(f"{found.name}: growth in MiB", found.growth_mib, MOST_GROWTH_MIB, at_least=False),
    ]


def images(subject: Subject, n: int) -> Found:
    """Return what images one by one, decoded, came to."""
    model = load_model(subject.bundle.path, threads=1)
    encoded = [image.tobytes() for image in subject.rows(256)]

    def decode(content: bytes) -> np.ndarray:
        return np.frombuffer(content, np.uint8).reshape(SIDE, SIDE)

    def loop(items: Iterator[bytes]) -> None:
        while several := list(itertools.islice(items, IMAGE_BATCH)):
            model.predict(np.stack([decode(each) for each in several]))

    def stream(items: Iterator[bytes]) -> Iterator[int]:
        return (1 for _ in model.stream(items, decode=decode, batch_size=IMAGE_BATCH))

    return turns("images", itertools.cycle(encoded), n, 1, stream, loop)


def rows(subject: Subject, n: int) -> Found:
    """Return what blocks of table rows came to."""
    model: Model = load_model(subject.bundle.path, threads=1)
    blocks = [subject.rows(ROWS_PER_BLOCK) for _ in range(8)]

    def loop(items: Iterator[np.ndarray]) -> None:
        for block in items:
            for start in range(0, len(block), 256):
                model.predict(block[start : start + 256])

    def stream(items: Iterator[np.ndarray]) -> Iterator[int]:
        return (ROWS_PER_BLOCK for _ in model.stream(items, batch_size=256, ahead=4))

    return turns("table rows", itertools.cycle(blocks), n, ROWS_PER_BLOCK, stream, loop)


def turns(  # noqa: PLR0917 - the stream's five facts and its name
    name: str,
    items: Iterator[Any],
    n: int,
    rows_per_item: int,
    stream: Callable[[Iterator[Any]], Iterator[int]],
    loop: Callable[[Iterator[Any]], None],
) -> Found:
    """Return both rates, stream and loop taking turns over equal parts, and the stream's memory."""
    n_items = max(1, n // rows_per_item // N_TURNS)
    process = psutil.Process()
    stream_s: list[tuple[float, float]] = []
    loop_s: list[tuple[float, float]] = []
    memory: list[int] = []
    for turn in range(-1, N_TURNS):
        start = _now()
        for place, _ in enumerate(stream(itertools.islice(items, n_items))):
            if place % 256 == 0:
                memory.append(process.memory_info().rss)
        taken = _since(start)
        start = _now()
        # A tenth as much is enough for a rate.
        loop(itertools.islice(items, max(1, n_items // 10)))
        if turn >= 0:
            stream_s.append((taken[0] / n_items, taken[1] / n_items))
            loop_s.append(tuple(each / max(1, n_items // 10) for each in _since(start)))
    cpu = [b[0] / a[0] for a, b in zip(stream_s, loop_s, strict=True)]
    wall = [b[1] / a[1] for a, b in zip(stream_s, loop_s, strict=True)]
    settled = memory[: max(1, len(memory) // 10)]
    return Found(
        name,
        n_items * rows_per_item * N_TURNS,
        rows_per_item / statistics.median(s[0] for s in stream_s),
        rows_per_item / statistics.median(s[0] for s in loop_s),
        statistics.median(cpu),
        statistics.median(wall),
        max(memory) / 2**20,
        (max(memory) - max(settled)) / 2**20,
    )


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _since(start: tuple[float, float]) -> tuple[float, float]:
    now = _now()
    return now[0] - start[0], now[1] - start[1]


if __name__ == "__main__":
    main()
