"""Feeding a GPU, on the CPU: the same functions, the same numbers, and buffers that do not mix their batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from quatrain.core.backends.pinned import Uploads, answers, replayed

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]),
]


def batches(sizes: list[int]) -> list[NDArray[np.uint8]]:
    """Return batches whose every value says which row it is."""
    starts = np.cumsum([0, *sizes])
    return [np.arange(a, a + n, dtype=np.uint8)[:, None].repeat(3, 1) for a, n in zip(starts, sizes, strict=False)]


def double(x: torch.Tensor) -> torch.Tensor:
    """Return twice the input in float32."""
    return 2 * x.float()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sizes", [[], [4], [4, 4, 4, 4, 4], [4, 1, 3], [2]])
def test_answers_come_in_order_and_only_for_the_rows_that_were_given(device: str, sizes: list[int]) -> None:
    """Short batches are filled up on their way and cut on their way back."""
    given = batches(sizes)
    uploads = Uploads((4, 3), torch.uint8, torch.device(device))
    example = torch.zeros(4, 3, dtype=torch.uint8, device=device)
    found = list(answers(given, replayed(double, example), uploads))
    assert [answer.tolist() for answer in found] == [(2.0 * batch).tolist() for batch in given]


def test_the_next_batch_is_on_its_way_before_the_one_before_is_asked_for() -> None:
    """That is what the second buffer is for; a third batch would overwrite the first."""
    read: list[int] = []

    def source() -> Iterator[NDArray[Any]]:
        for place, batch in enumerate(batches([4] * 5)):
            read.append(place)
            yield batch

    uploads = Uploads((4, 3), torch.uint8, torch.device("cpu")).of(source())
    first, _ = next(uploads)
    assert read == [0, 1]
    assert first[0, 0] == 0
    second, _ = next(uploads)
    assert read == [0, 1, 2]
    assert second[0, 0] == 4


def test_a_batch_that_is_too_long_is_refused() -> None:
    """Rows must not be lost silently."""
    uploads = Uploads((4, 3), torch.uint8, torch.device("cpu"))
    with pytest.raises(ValueError, match="expected at most 4 rows, got 5"):
        list(uploads.of(batches([5])))


def test_the_gpu_benchmarks_functions_run_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ways give eager's numbers, and each has its rates; what compiles is left to a machine with a GPU."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    import gpu_inference

    torch.manual_seed(0)
    module, batch = torch.nn.Linear(3, 2), np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    example = torch.from_numpy(batch)
    calls = gpu_inference.ways(module, example, tmp_path, ("eager", "graph"))
    assert sorted(calls) == ["eager", "graph"]
    torch.testing.assert_close(calls["graph"](example), calls["eager"](example))
    found = gpu_inference.measured("resnet50", calls, batch, torch.device("cpu"), rounds=1)
    assert [(each.way, each.recompiled) for each in found] == [("eager", 0), ("graph", 0)]
    assert all(each.rows_per_second > 0 and each.end_to_end > 0 for each in found)
    assert [claim.name for claim in gpu_inference.claims(found)] == [
        "resnet50: best way / eager AMP",
        "resnet50: images per second, end to end",
        "compiled anew after warm-up",
    ]
