"""Decisions one transaction at a time, the same ones that batch scoring takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from quatrain.core.errors import UserError
from quatrain.core.inference import Model, load_model
from quatrain.fintech import journal
from quatrain.fintech.data.arrays import from_numpy, to_numpy
from quatrain.fintech.data.columns import LABEL, LABELLED_AT
from quatrain.fintech.data.kernels import mask, pc
from quatrain.fintech.features.online import OnlineFeatures
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.features.transaction import Transaction, transactions
from quatrain.fintech.reasons import explain
from quatrain.fintech.score.policy import PROBABILITY, SCORE, Floats32, Policy
from quatrain.fintech.score.scorer import label_delay_us


class StateError(UserError):
    """A saved state that does not belong to the model."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a model says of one transaction, and what follows from it."""

    transaction_id: str
    score: float
    # The calibrated chance of fraud; of a model that gives none, the score.
    probability: float
    # Around the probability; None for a model that gives none.
    interval: tuple[float, float] | None
    is_alert: bool
    # Of an alert, the strongest first.
    reasons: tuple[str, ...]
    # Features, model and reasons, in seconds.
    latency_s: float


class Decider:
    """A model with its sealed decision and its memory of past transactions; one thread at a time.

    Batch scoring and this give a transaction the same float32 numbers, hence the same decision:
    the features are equal bit for bit, the graph and the threshold are the same.
    """

    def __init__(
        self,
        model: Model | str | Path,
        *,
        features: OnlineFeatures | None = None,
        lateness_us: int = DAY_US,
        has_reasons: bool = True,
    ) -> None:
        """Take a loaded model, or load one; its memory is `features`, else what the model's journal holds.

        Raises StateError for features of other inputs than the model's.
        """
        # One thread: a row is too little to share.
        self.model = model if isinstance(model, Model) else load_model(model, threads=1)
        self._names = self.model.manifest.inputs[0].columns
        self._policy = Policy.of(self.model.manifest)
        self._reference = self.model.manifest.decision["reference"]
        self._has_reasons = has_reasons
        delay_us = label_delay_us(self.model)
        if features is None:
            self.features = OnlineFeatures(self._names, delay_us, lateness_us=lateness_us)
        else:
            self.features = features
        if (self.features.names, self.features.label_delay_us) != (tuple(self._names), delay_us):
            raise StateError(
                f"the saved state is of other inputs than those of {self.model.reference}; "
                "start without it, and give the model its history again with `remember`"
            )
        past = journal.load_for(self.model.digest) if features is None else None
        if past is not None:
            self.remember(past)

    @classmethod
    def restored(cls, model: Model | str | Path, path: Path, *, has_reasons: bool = True) -> Decider:
        """Return a decider that goes on where `save` was called; raises StateError for a file of another model."""
        return cls(model, features=OnlineFeatures.from_bytes(path.read_bytes()), has_reasons=has_reasons)

    def decide(self, transaction: Transaction) -> Decision:
        """Return the decision on a transaction, and remember it.

        Raises BadDataError for one that is too late for exact features, has no finite amount, or
        lacks an extra column that the model reads; such a one is not remembered.
        """
        began = time.perf_counter()
        x = self.features.observe(transaction)[None]  # (1, F)
        measures = self._policy.measures(self.model.predict(x).outputs)
        is_alert = bool(self._policy.is_alert(measures)[0])
        score = float(measures[SCORE][0])
        interval = (float(measures["low"][0]), float(measures["high"][0])) if "low" in measures else None
        return Decision(
            transaction_id=transaction.transaction_id,
            score=score,
            probability=float(measures[PROBABILITY][0]) if PROBABILITY in measures else score,
            interval=interval,
            is_alert=is_alert,
            reasons=self._reasons(x) if is_alert and self._has_reasons else (),
            latency_s=time.perf_counter() - began,
        )

    def remember(self, past: pa.Table) -> None:
        """Take in past transactions, canonical columns in the order of time, with the labels they have."""
        is_fraud = mask(past[LABEL].combine_chunks()) if LABEL in past.column_names else np.zeros(len(past), dtype=bool)
        at_us = to_numpy(past["timestamp"].cast(pa.int64()))
        known_us = at_us + self.features.label_delay_us
        if LABELLED_AT in past.column_names:
            given = past[LABELLED_AT].cast(pa.int64()).combine_chunks()
            known_us = to_numpy(pc.coalesce(given, from_numpy(known_us)))
        for transaction, was_fraud, known in zip(transactions(past), is_fraud.tolist(), known_us.tolist(), strict=True):
            self.features.remember(transaction)
            if was_fraud:
                self.features.learn(transaction, known)

    def learn(self, transaction: Transaction, known_us: int) -> None:
        """Take in that a transaction became known as fraud at this time, in microseconds since 1970."""
        self.features.learn(transaction, known_us)

    def save(self, path: Path) -> None:
        """Write the state, for the owner only, whole or not at all."""
        state = self.features.to_bytes()
        with journal.replacing(path) as part:
            part.write_bytes(state)

    def _reasons(self, x: Floats32) -> tuple[str, ...]:
        return explain(self._score, x, names=self._names, reference=self._reference)[0]

    def _score(self, x: Floats32) -> Floats32:
        return self._policy.measures(self.model.predict(x).outputs)[SCORE]
