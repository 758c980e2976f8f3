"""A million random and adversarial wishes through the shield, read by a checker that shares no code with it.

Generated networks (with and without crossings), and RESCO's where --nets names them, at the city's
own intergreens and at 3 s. Every second each signal gets a wish: random, restless (another one each
second), stubborn (one for ever) or spiteful (away from the stage that just turned green).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import _report
import numpy as np

from quatrain.smart_city.data.network import read_network
from quatrain.smart_city.networks.config import NetworkConfig
from quatrain.smart_city.networks.generate import cached_scenario
from quatrain.smart_city.signals.checker import Checker
from quatrain.smart_city.signals.model import SignalModel, signal_models
from quatrain.smart_city.signals.shield import Shield

N_DECISIONS, N_QUICK = 1_000_000, 100_000
Wish = Callable[[Shield, int, np.random.Generator], int]


def wishes() -> dict[str, Wish]:
    """Return the ways of asking, by name."""
    return {
        "random": lambda shield, _, rng: int(rng.integers(len(shield.model.stages))),
        "restless": lambda shield, second, _: second % len(shield.model.stages),
        "stubborn": lambda shield, second, _: (second // 5000) % len(shield.model.stages),
        "spiteful": lambda shield, _, rng: (shield.target + 1 + int(rng.integers(2))) % len(shield.model.stages),
    }


def signals(nets: Path | None) -> dict[str, SignalModel]:
    """Return the signals to ask, under a name each."""
    kinds = [("crossing", True), ("arterial", False), ("irregular", False), ("grid", True)]
    paths = [
        cached_scenario(NetworkConfig(kind=kind, columns=3, rows=2, has_crossings=crossings)).with_name("city.net.xml")
        for kind, crossings in kinds
    ]
    paths += sorted(nets.rglob("RESCO/*/*.net.xml")) if nets else []
    found = {}
    for path in paths:
        for intergreen in ("incumbent", 3.0):
            models = signal_models(read_network(path), intergreen=intergreen)
            found |= {f"{path.parent.name}/{tls}/{intergreen}": model for tls, model in models.items()}
    return found


def play(model: SignalModel, wish: Wish, n: int, seed: int) -> Checker:
    """Return the checker after `n` seconds of wishes."""
    rng = np.random.default_rng(seed)
    shield, checker = Shield(model, stage=0, now=0.0), Checker(model)
    for second in range(n):
        checker.read(float(second), shield.step(float(second), wish(shield, second, rng)))
    checker.close(float(n))
    return checker


def main() -> None:
    """Ask, read, and count."""
    arguments = _report.parser(__doc__)
    arguments.add_argument("--nets", type=Path, help="Folder of the unpacked sumo-rl wheel.")
    given = arguments.parse_args()
    found = signals(given.nets)
    total = N_QUICK if given.quick else N_DECISIONS
    each = -(-total // (len(found) * len(wishes())))
    broken: Counter[str] = Counter()
    n_read, rows, started = 0, [], time.process_time()
    for name, wish in wishes().items():
        before = n_read, sum(broken.values())
        for number, model in enumerate(found.values()):
            checker = play(model, wish, each, number)
            n_read += checker.n_states
            broken.update(violation.kind for violation in checker.violations)
        rows.append((name, len(found), n_read - before[0], sum(broken.values()) - before[1]))
    _report.table(("wishes", "signals", "decisions", "limits broken"), rows)
    print(f"{(time.process_time() - started) / n_read * 1e6:.1f} microseconds of CPU per decision, checker included\n")
    _report.finish(
        [
            _report.claim("decisions read", n_read, total, at_least=True),
            _report.claim("limits broken", sum(broken.values()), 0, at_least=False),
        ]
    )


if __name__ == "__main__":
    main()
