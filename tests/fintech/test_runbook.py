"""The runbook's shell blocks run as written, in order, in an empty folder, and do what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

RUNBOOK = Path(__file__).resolve().parents[2] / "docs" / "runbooks" / "batch-scoring.md"


def lines(folder: Path, pattern: str) -> list[str]:
    """Return the reasons in the only quarantine file of an input."""
    (path,) = (folder / "quarantine").glob(pattern)
    return [json.loads(line)["reason"] for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_the_runbook_does_as_it_says(tmp_path: Path) -> None:
    """Exit codes where it promises some, tokens for card numbers, the same bytes for what is done again."""
    script = "\n".join(re.findall(r"```bash\n(.*?)```", RUNBOOK.read_text(encoding="utf-8"), re.DOTALL))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUATRAIN_")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"exit code (\d+)", done.stdout) == ["65", "1"]
    # The model was trained here, so each run has its journal at least.
    assert "features start cold" not in done.stderr
    assert set(lines(tmp_path / "scored", "day-90-*.jsonl")) == {"negative"}
    assert lines(tmp_path / "payments-scored", "credit-*.jsonl") == ["not in EUR"]
    first, again = (sorted((tmp_path / out / "scores").glob("day-88-*.parquet")) for out in ("scored", "replayed"))
    assert [each.read_bytes() for each in first] == [each.read_bytes() for each in again]
    (seen,) = (tmp_path / "cards-scored" / "history").iterdir()
    cards = [str(card) for card in pq.read_table(seen)["customer_id"].to_pylist()]
    assert all(card.startswith("tok_") for card in cards)
    assert cards[0] == cards[2] != cards[1]
