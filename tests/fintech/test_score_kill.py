"""`kill -9` of the real command at random moments leaves nothing that a rerun does not put right.

The model looks back on the files before each file, so a rerun must find the past that the killed
run had, and no more.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.fintech.score_models import make_world, seal_model

N_KILLS = 20
N_FILES = 8
COMMAND = Path(sys.executable).with_name("quatrain")


def start(bundle: Path, place: Path, incoming: Path) -> subprocess.Popen[bytes]:
    """Start the command with a home and an out folder of its own."""
    arguments = ["fintech", "score", "--data", str(incoming / "new"), "--bundle", str(bundle), "--quiet"]
    arguments += ["--history", str(incoming / "past.parquet"), "--labels", str(incoming / "labels.csv")]
    arguments += ["--max-bad-ratio", "0.5", "--out", str(place / "out")]
    # Two deaths in a row on one file would put it last, and the files after it would not know it: another past.
    for note in (place / "out").glob(".quatrain-*.current"):
        note.unlink()
    environment = os.environ | {"QUATRAIN_CORE__HOME": str(place / "home")}
    return subprocess.Popen(
        [str(COMMAND), *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def results(place: Path) -> dict[str, bytes]:
    """Return every published file by its name."""
    files = (place / "out").glob("[!.]*/*")  # neither the lock nor what only saves time is a result
    return {str(path.relative_to(place)): path.read_bytes() for path in files if path.is_file()}


@pytest.mark.slow
def test_killed_runs_end_in_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    """Twenty kills, each at a random moment of a run; the next run goes on; the end is always the same."""
    bundle = seal_model(tmp_path / "bundle", threshold=0.9).path
    incoming = tmp_path / "incoming"
    (incoming / "new").mkdir(parents=True)
    world = make_world(6000, days=60, has_labels=True)
    pq.write_table(world.slice(0, 2000), incoming / "past.parquet")
    for number in range(N_FILES):
        part = world.slice(2000 + number * 500, 500).drop_columns(["is_fraud"])
        pq.write_table(part, incoming / "new" / f"{number}.parquet")
    (incoming / "new" / "bad.csv").write_text("timestamp,amount\n2026-01-01,1\n2026-01-01,-1\n")
    frauds = world["transaction_id"].to_pylist()[2000:5000:9]
    lines = [f"{id_},1,2026-02-10T00:00:00Z\n" for id_ in frauds]
    (incoming / "labels.csv").write_text("transaction_id,is_fraud,labelled_at\n" + "".join(lines))
    began = time.monotonic()
    assert start(bundle, tmp_path / "whole", incoming).wait() == 0
    seconds = time.monotonic() - began
    expected = results(tmp_path / "whole")
    # Scores, alerts and history of each file, why one was refused, the past and the labels.
    assert len(expected) == 3 * N_FILES + 3

    rng, n_killed, place = random.Random(0), 0, tmp_path / "round-0"  # noqa: S311 - moments, not secrets
    while n_killed < N_KILLS:
        process = start(bundle, place, incoming)
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
    assert start(bundle, place, incoming).wait() == 0
    assert results(place) == expected
