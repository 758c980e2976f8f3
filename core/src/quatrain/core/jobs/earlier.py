"""What the units before one published, so that a unit may build on it and come out the same when made again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from quatrain.core.jobs.identity import Job
from quatrain.core.jobs.ledger import Ledger, UnitRecord
from quatrain.core.jobs.sink import Published

Outputs = list[dict[str, Any]]


class _Settled(NamedTuple):
    key: str
    input_digest: str
    outputs: Outputs


class Earlier:
    """The settled units of a job in the order in which they were settled, read from the ledger when first asked for.

    A unit that is done again, because its results are gone, sees what lay before it the first
    time: files that came in the meantime would change its bytes.
    """

    def __init__(self, ledger: Ledger, job: Job) -> None:
        self._ledger = ledger
        self._job = job
        self._units: list[_Settled] | None = None
        self._keys: set[str] = set()
        # Of each content the newest result, in the order of those results.
        self._newest: dict[str, Outputs] = {}

    def outputs(self, output: str, *, key: str) -> tuple[Published, ...]:
        """Return the files of one output that units before `key` published, oldest first; some may be gone since.

        Of content that was processed again, with a newer model or config, only the newest result counts.
        """
        units = self._read()
        newest = self._newest
        if key in self._keys:
            place = next(place for place, unit in enumerate(units) if unit.key == key)
            newest = _newest(units[:place])
        files = (file for outputs in newest.values() for file in outputs if file["output"] == output)
        return tuple(Published.from_json(file) for file in files)

    def add(self, unit: UnitRecord) -> None:
        """Take in a unit that was recorded just now."""
        if self._units is not None and unit.key is not None and unit.status in {"done", "refused"}:
            self._append(_Settled(unit.key, str(unit.input_digest), unit.outputs))

    def _read(self) -> list[_Settled]:
        if self._units is None:
            self._units = []
            for row in self._ledger.settled_units(self._job):
                self._append(_Settled(row["key"], row["input_digest"], row["outputs"]))
        return self._units

    def _append(self, unit: _Settled) -> None:
        if self._units is not None:
            self._units.append(unit)
        self._keys.add(unit.key)
        _supersede(self._newest, unit)


def _newest(units: Iterable[_Settled]) -> dict[str, Outputs]:
    found: dict[str, Outputs] = {}
    for unit in units:
        _supersede(found, unit)
    return found


def _supersede(newest: dict[str, Outputs], unit: _Settled) -> None:
    # Taken out first, so that the order is that of the newest result.
    newest.pop(unit.input_digest, None)
    newest[unit.input_digest] = unit.outputs
