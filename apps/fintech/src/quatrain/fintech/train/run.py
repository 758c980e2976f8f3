"""From labelled transactions to a sealed, published model: `quatrain fintech train`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import UsageError
from quatrain.core.resources import ResourceMonitor
from quatrain.core.tracking import Run, start_run
from quatrain.fintech.data.named import TASK
from quatrain.fintech.evaluate.leaks import Leak
from quatrain.fintech.evaluate.protocol import Protocol, Row
from quatrain.fintech.models.baselines import BASELINES
from quatrain.fintech.models.recipe import choose
from quatrain.fintech.models.recipe_settings import RecipeSettings
from quatrain.fintech.train.champion import Champion, make_champion
from quatrain.fintech.train.config import TrainConfig
from quatrain.fintech.train.material import Material, prepare
from quatrain.fintech.train.report import REPORT, importance_of_things, write_report
from quatrain.fintech.train.sealing import NAME, decide, keep_history, publish, seal_champion

if TYPE_CHECKING:
    from quatrain.core.bundle.open import Bundle
    from quatrain.core.store import Version

_LOG = logging.getLogger(__name__)
# Rounds and epochs share no axis.
_BY_ROUNDS = "valid_ap"
_PANELS = dict.fromkeys(("mlp", "tabm", "transformer"), "valid_ap_by_epoch")


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A sealed model, its table and where it went."""

    bundle: Bundle
    version: Version | None
    rows: tuple[Row, ...]
    run_id: str
    leaks: tuple[Leak, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what `train --json` prints."""
        return {
            "app": "fintech",
            "task": TASK,
            "bundle": str(self.bundle.path),
            "digest": self.bundle.digest,
            "version": self.version.reference if self.version else None,
            "run": self.run_id,
            "leaks": [leak.to_dict() for leak in self.leaks],
            "rows": [row.to_dict() for row in self.rows],
        }


def train(config: TrainConfig) -> TrainResult:
    """Return the champion, sealed, and published unless `config.out` says where to put it.

    Everything is chosen on rows before the test, with the labels known by then; the test rows are
    scored once, after every choice is made, by the exported graph. Raises UsageError at once when
    `config.out` exists.
    """
    if config.out is not None and config.out.exists():
        raise UsageError(f"{config.out} exists already; give --out a new folder, or leave it out to publish the model")
    started = start_run(app="fintech", command="train", config=config.model_dump(mode="json"))
    with started as run, ResourceMonitor() as monitor:
        material = prepare(config)
        recipe = choose(
            material.folds,
            _settings(config, material, run),
            seed=config.seed,
            names=material.names,
            on_look=lambda part, step, ap: run.log(step=step, **{f"{_PANELS.get(part, _BY_ROUNDS)}/{part}": ap}),
        )
        champion = make_champion(config, material, recipe)
        test = champion.predict(material.x[material.rows(material.split.test)])
        rows = _rows(config, material, champion, test)
        bundle = _seal(config, material, champion, rows=rows, run=run)
        _report(config, material, champion, test, rows=rows, run=run, bundle=bundle)
        keep_history(bundle, material)
        # Last, so that whoever sees the version finds its report and its history whole.
        version = None if config.out else publish(bundle, promote=config.promote)
        run.finish(metrics={**rows[0].metrics, **monitor.usage.metrics()}, bundle=bundle.digest)
        return TrainResult(bundle=bundle, version=version, rows=tuple(rows), run_id=run.id, leaks=material.leaks)


def _settings(config: TrainConfig, material: Material, run: Run) -> RecipeSettings:
    """Return what the recipe is chosen from; what was searched lies beside the run's history."""
    if not config.search:
        return config.recipe
    from quatrain.core import search
    from quatrain.fintech.train.searched import searched

    found, report = searched(config, material)
    search.save(report, run.folder)
    return found


def _rows(
    config: TrainConfig, material: Material, champion: Champion, test: Mapping[str, NDArray[np.float32]]
) -> list[Row]:
    protocol = Protocol(
        alert_budget=config.alert_budget,
        cards_per_day=config.cards_per_day,
        n_resamples=config.n_resamples,
        seed=config.seed,
    )
    tested = material.rows(material.split.test)
    threshold = champion.threshold.threshold
    scored = material.scored(
        tested,
        test["score"].astype(np.float64),
        probability=test["probability"].astype(np.float64),
        threshold=threshold,
    )
    valid = material.scored(material.rows(material.split.valid), champion.valid_score)
    x, y = material.known
    baselines = ((name, fit_and_score(x, y, material.x[tested])) for name, fit_and_score in BASELINES.items())
    return [
        protocol.measure(NAME, "test", scored),
        *(protocol.measure(name, "test", material.scored(tested, score)) for name, score in baselines),
        protocol.measure(NAME, "valid", valid),
    ]


def _seal(config: TrainConfig, material: Material, champion: Champion, *, rows: list[Row], run: Run) -> Bundle:
    return seal_champion(
        config.out or run.folder / "bundle",
        champion=champion,
        material=material,
        rows=rows,
        decision=decide(config, material, champion),
        training={"recipe": champion.recipe.summary(), "seed": config.seed, "run": run.id},
    )


def _report(
    config: TrainConfig,
    material: Material,
    champion: Champion,
    test: Mapping[str, NDArray[np.float32]],
    *,
    rows: list[Row],
    run: Run,
    bundle: Bundle,
) -> None:
    valid = material.rows(material.split.valid)
    importance = importance_of_things(
        lambda x: champion.predict(x)["score"].astype(np.float64),
        material.x[valid],
        material.labelled.label[valid],
        names=material.names,
        seed=config.seed,
    )
    tested = material.rows(material.split.test)
    write_report(
        run.folder / REPORT,
        rows=rows,
        label=material.labelled.label[tested],
        outputs=test,
        importance=importance,
        champion=NAME,
        digest=bundle.digest,
        data=bundle.manifest.data,
        alert_budget=config.alert_budget,
        threshold=champion.threshold.threshold,
        alert_rate=vars(champion.threshold),
        recipe=champion.recipe.summary(),
        leaks=[leak.to_dict() for leak in material.leaks],
    )
