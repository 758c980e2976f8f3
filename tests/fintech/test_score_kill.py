"""`kill -9` of the real command at random moments leaves nothing that a rerun does not put right."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.fintech.conftest import Trained, write_world

N_KILLS = 20
N_FILES = 8
COMMAND = Path(sys.executable).with_name("quatrain")


def start(trained: Trained, place: Path, incoming: Path) -> subprocess.Popen[bytes]:
    """Start the command with a home and an out folder of its own."""
    arguments = ["fintech", "score", "--data", str(incoming), "--bundle", str(trained.bundle), "--quiet"]
    arguments += ["--max-bad-ratio", "0.5", "--out", str(place / "out")]
    environment = os.environ | {"QUATRAIN_CORE__HOME": str(place / "home")}
    return subprocess.Popen(
        [str(COMMAND), *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def results(place: Path) -> dict[str, bytes]:
    """Return every published file by its name."""
    files = (place / "out").rglob("[!.]*")  # the lock is nobody's result
    return {str(path.relative_to(place)): path.read_bytes() for path in files if path.is_file()}


@pytest.mark.slow
def test_killed_runs_end_in_the_bytes_of_an_undisturbed_one(trained: Trained, tmp_path: Path) -> None:
    """Twenty kills, each at a random moment of a run; the next run goes on; the end is always the same."""
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    world = pq.read_table(write_world(tmp_path / "world.parquet", seed=5, days=8)).drop_columns(["is_fraud"])
    for number in range(N_FILES):
        part = world.slice(number * 500, 500)
        pq.write_table(part, incoming / f"{number}.parquet")
    (incoming / "bad.csv").write_text("timestamp,amount\n2026-01-01,1\n2026-01-01,-1\n")
    began = time.monotonic()
    assert start(trained, tmp_path / "whole", incoming).wait() == 0
    seconds = time.monotonic() - began
    expected = results(tmp_path / "whole")
    assert len(expected) == 2 * (N_FILES + 1) + 1

    rng, n_killed, place = random.Random(0), 0, tmp_path / "round-0"  # noqa: S311 - moments, not secrets
    while n_killed < N_KILLS:
        process = start(trained, place, incoming)
        try:
            # Early moments hit the start-up, late ones the last commits.
            assert process.wait(timeout=rng.uniform(0.3, 1.05) * seconds) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            n_killed += 1
        else:
            assert results(place) == expected
            place = tmp_path / f"round-{n_killed}"
    assert start(trained, place, incoming).wait() == 0
    assert results(place) == expected
