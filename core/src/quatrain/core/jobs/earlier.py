"""What the units before one published, so that a unit may build on it and come out the same when made again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from quatrain.core.jobs.identity import Job
from quatrain.core.jobs.ledger import Ledger, UnitRecord
from quatrain.core.jobs.sink import Published


class Settled(NamedTuple):
    """A unit that is done or refused, as the ledger keeps it."""

    id: int
    key: str
    input_digest: str
    outputs: list[dict[str, Any]]


class Earlier:
    """The settled units of a job in the order in which they were settled, read from the ledger when first asked for.

    A unit that is done again, because its results are gone, sees what lay before it the first
    time: files that came in the meantime would change its bytes.
    """

    def __init__(self, ledger: Ledger, job: Job) -> None:
        self._ledger = ledger
        self._job = job
        self._units: list[Settled] = []
        # From when on the units are read; None before the first question, the least time for all of them.
        self._since: datetime | None = None
        # By output: of each content what its newest result published, in the order of those results.
        self._newest: dict[str, dict[str, Published | None]] = {}

    def outputs(self, output: str, *, key: str, since: datetime | None = None) -> tuple[Published, ...]:
        """Return the files of one output that units before `key` published, oldest first; some may be gone since.

        Of content that was processed again, with a newer model or config, only the newest result
        counts. Units recorded before `since` may be left out.
        """
        self._read(since or _ALWAYS)
        first = self._ledger.first_settled(self._job, key)
        if first is None:
            newest = self._newest.setdefault(output, {}) or _fold(self._newest[output], self._units, output)
        else:
            newest = _fold({}, (unit for unit in self._units if unit.id < first), output)
        return tuple(published for published in newest.values() if published is not None)

    def add(self, unit: UnitRecord, *, id: int) -> None:  # noqa: A002 - the ledger's name
        """Take in a unit that was recorded just now."""
        if self._since is None or unit.key is None or unit.status not in {"done", "refused"}:
            return
        settled = Settled(id, unit.key, str(unit.input_digest), unit.outputs)
        self._units.append(settled)
        for output, newest in self._newest.items():
            _fold(newest, [settled], output)

    def _read(self, since: datetime) -> None:
        if self._since is None or since < self._since:
            self._since = since
            self._units = [Settled(*row) for row in self._ledger.settled_units(self._job, since=since)]
            self._newest.clear()


# Before any ledger.
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


def _fold(newest: dict[str, Published | None], units: Iterable[Settled], output: str) -> dict[str, Published | None]:
    for unit in units:
        # Taken out first, so that the order is that of the newest result.
        newest.pop(unit.input_digest, None)
        found = (file for file in unit.outputs if file["output"] == output)
        newest[unit.input_digest] = next(map(Published.from_json, found), None)
    return newest
