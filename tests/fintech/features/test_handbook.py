"""The standard features are those of the fraud-detection handbook."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import STANDARD
from quatrain.fintech.simulation.handbook import SimulatorConfig, simulate
from quatrain.fintech.simulation.handbook import to_table as simulated_table


def test_the_standard_features_are_the_handbooks() -> None:
    """Against pandas' rolling windows as the handbook computes them (chapter 3.4), on a simulated world."""
    config = SimulatorConfig(customers=60, terminals=80, days=70, radius=20.0, compromised_terminals=1)
    table = simulated_table(simulate(config, seed=1), metadata={})
    frame = _by_pandas(table)
    names = [name for name in STANDARD if name != "amount"]
    found = build(table, names)
    for place, name in enumerate(names):
        np.testing.assert_allclose(found[:, place], frame[name], rtol=1e-6, atol=1e-9, err_msg=name)
    assert (found.max(axis=0) > 0).all()


def _by_pandas(table: pa.Table) -> pd.DataFrame:
    frame = table.to_pandas()
    frame["timestamp"] = frame["timestamp"].dt.tz_localize(None)
    frame["is_weekend"] = frame["timestamp"].dt.day_of_week >= 5
    frame["is_night"] = frame["timestamp"].dt.hour < 6
    for _, rows in frame.groupby("customer_id"):
        amount = rows.set_index("timestamp")["amount"]
        for days in (1, 7, 30):
            rolling = amount.rolling(f"{days}D")
            frame.loc[rows.index, f"customer_count_{days}d"] = rolling.count().to_numpy()
            frame.loc[rows.index, f"customer_mean_{days}d"] = rolling.mean().to_numpy()
    for _, rows in frame.groupby("terminal_id"):
        fraud = rows.set_index("timestamp")["is_fraud"].astype(float)
        recent = fraud.rolling("7D")
        for days in (1, 7, 30):
            longer = fraud.rolling(f"{days + 7}D")
            n_matured = (longer.count() - recent.count()).to_numpy()
            n_frauds = (longer.sum() - recent.sum()).round().to_numpy()
            frame.loc[rows.index, f"terminal_matured_{days}d"] = n_matured
            risk = np.divide(n_frauds, n_matured, out=np.zeros(len(rows)), where=n_matured > 0)
            frame.loc[rows.index, f"terminal_risk_{days}d"] = risk
    return frame
