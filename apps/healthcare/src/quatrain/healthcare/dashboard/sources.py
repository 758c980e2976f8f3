"""What the medical pages read, cached by what it is: files by size and time, models by digest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from quatrain.core.config import settings
from quatrain.core.store import Store, Version
from quatrain.healthcare.decision import Decision
from quatrain.healthcare.models.outputs import LOGITS

if TYPE_CHECKING:
    import pandas as pd

    from quatrain.core.bundle.open import Bundle
    from quatrain.core.inference import Model
    from quatrain.core.jobs.history import JobRun

JOB = "healthcare.score"
_PREFIX = "healthcare/"
# Runs of any job among which the last scoring run is looked for.
_LOOKED_AT = 500


def findings() -> pd.DataFrame:
    """Return every scored picture, the most urgent first, those to look at first before them."""
    from quatrain.core.jobs.history import unit_outputs

    files = tuple(
        (path, path.stat().st_mtime_ns) for path in unit_outputs(name=JOB, output="findings") if path.is_file()
    )
    return _findings(files)


def last_batch() -> JobRun | None:
    """Return the newest scoring run, None before the first."""
    from quatrain.core.jobs.history import list_job_runs

    return next((run for run in list_job_runs(limit=_LOOKED_AT) if run.name == JOB), None)


def versions() -> list[Version]:
    """Return the version of every medical model that prod means, else its newest one."""
    store = Store()
    found = []
    for name in store.names():
        if name.startswith(_PREFIX) and (all_of := store.versions(name)):
            number = store.aliases(name).get("prod")
            found.append(next((version for version in all_of if version.number == number), all_of[-1]))
    return found


def bundle_of(version: Version) -> Bundle:
    """Return the verified bundle of a version."""
    return _bundle(settings().store_url, version)


def model_of(name: str) -> tuple[Model, Decision] | None:
    """Return the model that made a finding, found by the digest in its name; None when it is not in the store."""
    digest = name.rpartition(" ")[2]
    store = Store()
    for known in store.names():
        for version in store.versions(known) if known.startswith(_PREFIX) else ():
            if digest and version.digest.startswith(digest):
                return _model(settings().store_url, version.reference)
    return None


def preview_of(row: Any) -> np.ndarray:
    """Return a finding's picture, uint8 (s, s)."""
    side = int(row["preview_side"])
    return np.frombuffer(row["preview"], dtype=np.uint8).reshape(side, side)


@st.cache_data(max_entries=64, show_spinner=False)
def saliency_of(model_name: str, digest: str, _pixels: np.ndarray, output: int) -> np.ndarray | None:  # noqa: ARG001 - the digest keys the cache
    """Return where the model looked in a picture, on a scale of 0 to 1; None when the model is not here."""
    from quatrain.healthcare.evaluate.answers import pixels_for
    from quatrain.healthcare.explain import occlusion

    found = model_of(model_name)
    if found is None:
        return None
    model, _ = found
    name = model.manifest.inputs[0].name
    fitted = pixels_for(model, _pixels[None])[0]
    lost = occlusion(lambda images: model.predict({name: np.ascontiguousarray(images)})[LOGITS], fitted, output=output)
    positive = np.clip(lost, 0, None)
    return np.asarray(positive / positive.max() if positive.max() > 0 else positive)


@st.cache_data(max_entries=4, show_spinner=False)
def _findings(files: tuple[tuple[Path, int], ...]) -> pd.DataFrame:
    import pandas as pd
    import pyarrow.parquet as pq

    frames = [pq.read_table(path).to_pandas() for path, _ in files]
    if not frames:
        return pd.DataFrame(columns=["file", "urgency", "answer", "faults", "model", "is_synthetic"])
    frame = pd.concat(frames, ignore_index=True)
    frame["is_faulty"] = frame["faults"] != ""
    return frame.sort_values(["is_faulty", "urgency"], ascending=False, kind="stable").reset_index(drop=True)


@st.cache_resource(max_entries=8, show_spinner=False)
def _bundle(url: str, version: Version) -> Bundle:
    return Store(url).open(version.reference)


@st.cache_resource(max_entries=4, show_spinner=False)
def _model(url: str, reference: str) -> tuple[Model, Decision]:
    from quatrain.core.inference import load_model

    model = load_model(reference, store=Store(url))
    return model, Decision.from_json(model.manifest.decision)
