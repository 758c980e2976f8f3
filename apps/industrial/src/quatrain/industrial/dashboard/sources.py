"""What the pages read: the model in production, the verdicts of this machine, the maps that were kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from quatrain.core.bundle.open import Bundle
from quatrain.core.config import settings
from quatrain.core.store import Store, Version
from quatrain.industrial.score.run import MAPS, VERDICTS
from quatrain.industrial.train.config import MODEL_NAME


def production_version() -> Version | None:
    """Return the version that prod means, or None."""
    store = Store()
    if MODEL_NAME not in store.names() or "prod" not in store.aliases(MODEL_NAME):
        return None
    return store.find(f"{MODEL_NAME}@prod")


def sealed_model(version: Version) -> Bundle:
    """Return the verified bundle of a version."""
    return Store().open(version.reference)


def verdicts() -> pd.DataFrame:
    """Return every verdict on this machine, those most unlike good parts first; no rows where nothing was scored."""
    table = _read(VERDICTS)
    if table is None:
        return pd.DataFrame(columns=["file", "folder", "score", "verdict"])
    return table.to_pandas().sort_values("score", ascending=False, ignore_index=True)


def map_of(file: str) -> NDArray[np.float32] | None:
    """Return the kept map of a part, or None for one that passed."""
    table = _read(MAPS)
    rows = [] if table is None else [row for row in table.to_pylist() if row["file"] == file]
    if not rows:
        return None
    return np.asarray(rows[-1]["values"], dtype=np.float32).reshape(rows[-1]["rows"], rows[-1]["columns"])


def _folder() -> Path:
    return settings().home / "scored" / "industrial"


def _read(output: str) -> pa.Table | None:
    files = sorted((_folder() / output).glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]) if files else None
