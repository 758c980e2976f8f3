"""What the fraud pages read, cached by what it is: files by size and time, models by digest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from quatrain.core.config import settings
from quatrain.core.store import Store, Version
from quatrain.fintech import cases

if TYPE_CHECKING:
    import pandas as pd

    from quatrain.core.bundle.open import Bundle
    from quatrain.core.jobs.history import JobRun
    from quatrain.fintech.dashboard.alert_table import AlertFile
    from quatrain.fintech.dashboard.report import Report

MODEL = "fintech/fraud"
JOB = "fintech.score"
# Runs of any job among which the last scoring run is looked for.
_LOOKED_AT = 500
_DIGEST = re.compile(r"\b[0-9a-f]{12,64}\b")


@dataclass(frozen=True, kw_only=True)
class SealedModel:
    """A verified version of the fraud model."""

    version: Version
    bundle: Bundle

    @property
    def decision(self) -> Mapping[str, Any]:
        """Threshold, alert budget and reference values, as they were sealed."""
        return self.bundle.manifest.decision


def current_alerts() -> pd.DataFrame:
    """Return every alert with its status; the frame may be changed."""
    from quatrain.core.jobs.history import unit_outputs
    from quatrain.fintech.dashboard import alert_table

    files = alert_table.describe_files(unit_outputs(name=JOB, output="alerts"))
    url = settings().ledger_url
    return alert_table.add_status(_alerts(files), _cases(url, cases.revision(url)))


def current_cases() -> dict[cases.CaseKey, cases.Case]:
    """Return every case that somebody has worked on."""
    url = settings().ledger_url
    return _cases(url, cases.revision(url))


def scored_rows() -> int:
    """Return how many transactions have a score, those of the alerts among them."""
    from quatrain.core.jobs.history import unit_outputs
    from quatrain.fintech.dashboard import alert_table

    return _scored_rows(alert_table.describe_files(unit_outputs(name=JOB, output="scores")))


def last_batch() -> JobRun | None:
    """Return the newest scoring run, None before the first."""
    from quatrain.core.jobs.history import list_job_runs

    return next((run for run in list_job_runs(limit=_LOOKED_AT) if run.name == JOB), None)


def versions() -> list[Version]:
    """Return the published versions of the fraud model, newest first; none is no error."""
    store = Store()
    return store.versions(MODEL)[::-1] if MODEL in store.names() else []


def production_version() -> Version | None:
    """Return the version behind @prod, else the newest one, else None."""
    found = versions()
    number = Store().aliases(MODEL).get("prod") if found else None
    return next((version for version in found if version.number == number), found[0] if found else None)


def is_in_use(version: Version) -> bool:
    """Return whether prod means this version; before the first promotion it means none."""
    return Store().aliases(MODEL).get("prod") == version.number


def sealed_model(version: Version) -> SealedModel:
    """Return the verified bundle of a version."""
    return _sealed_model(settings().store_url, version)


def model_of(alert_model: str) -> SealedModel | None:
    """Return the model that made an alert, found by the digest in its name; None when it is gone."""
    match = _DIGEST.search(alert_model)
    found = [version for version in versions() if match and version.digest.startswith(match[0])]
    return sealed_model(found[0]) if found else None


def report_of(model: SealedModel) -> Report | None:
    """Return what the training run left about the model, None when it is not on this machine."""
    from quatrain.fintech.dashboard.report import report_path

    path = report_path(str(model.bundle.manifest.training.get("run", "none")))
    return _report(path, path.stat().st_mtime_ns, model.bundle.digest) if path.is_file() else None


@st.cache_resource(max_entries=8, show_spinner=False)
def _report(path: Path, mtime_ns: int, digest: str) -> Report | None:  # noqa: ARG001 - the time keys the cache
    from quatrain.fintech.dashboard.report import read_report

    return read_report(path, digest=digest)


@st.cache_resource(max_entries=4, show_spinner=False)
def _alerts(files: tuple[AlertFile, ...]) -> pd.DataFrame:
    from quatrain.fintech.dashboard import alert_table

    return alert_table.read_alerts(files)


@st.cache_resource(max_entries=4, show_spinner=False)
def _scored_rows(files: tuple[AlertFile, ...]) -> int:
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(file.path).num_rows for file in files)


@st.cache_resource(max_entries=4, show_spinner=False)
def _cases(url: str, revision: int) -> dict[cases.CaseKey, cases.Case]:  # noqa: ARG001 - the revision keys the cache
    return cases.cases(url)


@st.cache_resource(max_entries=8, show_spinner=False)
def _sealed_model(url: str, version: Version) -> SealedModel:
    return SealedModel(version=version, bundle=Store(url).open(version.reference))
