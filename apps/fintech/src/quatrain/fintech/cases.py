"""An analyst's verdicts on alerts, kept as events that are only ever added.

A case is one transaction of one input file. Its status follows from its events: a verdict
holds until the next one, and an undo takes the last one back. Two analysts cannot decide on
the same state: an event states how many events its author had seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, cast

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError

from quatrain.core.config import settings
from quatrain.core.errors import UserError
from quatrain.core.jobs.ledger import connect

Verdict = Literal["fraud", "dismissed"]
Action = Literal["fraud", "dismissed", "undo"]
Status = Literal["open", "fraud", "dismissed"]
# Longer notes belong into the case system of the bank.
MAX_NOTE_LENGTH = 2000


class ConflictError(UserError):
    """Somebody else decided on the case in the meantime."""


class CaseKey(NamedTuple):
    """What makes a case: ids are only unique within the file they came in."""

    source_file: str
    transaction_id: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing an analyst did with a case."""

    action: Action
    at: datetime
    analyst: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Where a case stands; `events` are oldest first."""

    status: Status = "open"
    events: tuple[Event, ...] = ()

    @property
    def decided(self) -> Event | None:
        """The verdict that holds, or None while the case is open."""
        return _standing(self.events)


# The state of a case that nobody has touched.
OPEN = Case()

_metadata = MetaData()
_events = Table(
    "fintech_case_events",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("source_file", String(1024), nullable=False),
    Column("transaction_id", String(256), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("action", String(16), nullable=False),
    Column("note", Text, nullable=False, default=""),
    Column("analyst", String(256), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("source_file", "transaction_id", "sequence"),
)
# So that SQLite itself refuses to change an event.
_TRIGGERS = tuple(
    f"CREATE TRIGGER IF NOT EXISTS fintech_case_events_no_{verb.lower()} BEFORE {verb} ON fintech_case_events "
    "BEGIN SELECT RAISE(ABORT, 'case events are only added'); END"
    for verb in ("UPDATE", "DELETE")
)


def record(
    key: CaseKey, action: Action, *, seen: int, analyst: str, note: str = "", ledger_url: str | None = None
) -> Event:
    """Add one event to a case whose first `seen` events its author knows, and return it.

    Raises ConflictError when the case has more events than that, and UserError for an undo
    where no verdict holds or a note that is too long.
    """
    if len(note) > MAX_NOTE_LENGTH:
        raise UserError(f"a note may have {MAX_NOTE_LENGTH:,} characters, got {len(note):,}; shorten it")
    new = Event(action=action, at=datetime.now(UTC), analyst=analyst, note=note.strip())
    with _ledger(ledger_url) as connection:
        case = _case(_read(connection.execute(_query(key)).all()).get(key, ()))
        if len(case.events) != seen:
            raise _conflict(case)
        if action == "undo" and case.decided is None:
            raise UserError("there is no verdict to take back: the alert is open")
        row = {**key._asdict(), **vars(new), "sequence": seen + 1}
        try:
            connection.execute(insert(_events), row)
        except IntegrityError as error:
            raise ConflictError("somebody else decided on this alert just now; look at it again") from error
    return new


def cases(ledger_url: str | None = None) -> dict[CaseKey, Case]:
    """Return every case that has an event."""
    with _ledger(ledger_url) as connection:
        rows = connection.execute(_query()).all()
    return {key: _case(events) for key, events in _read(rows).items()}


def revision(ledger_url: str | None = None) -> int:
    """Return a number that grows with every event, to key caches by."""
    with _ledger(ledger_url) as connection:
        return int(connection.execute(select(func.coalesce(func.max(_events.c.id), 0))).scalar_one())


def _query(key: CaseKey | None = None) -> Select[Any]:
    query = select(_events).order_by(_events.c.id)
    if key is None:
        return query
    return query.where(_events.c.source_file == key.source_file, _events.c.transaction_id == key.transaction_id)


def _read(rows: Iterable[Row[Any]]) -> dict[CaseKey, tuple[Event, ...]]:
    found: dict[CaseKey, tuple[Event, ...]] = {}
    for row in rows:
        # SQLite keeps no zone; what was written is UTC.
        at = row.at.replace(tzinfo=UTC) if row.at.tzinfo is None else row.at.astimezone(UTC)
        event_ = Event(action=row.action, at=at, analyst=row.analyst, note=row.note)
        key = CaseKey(row.source_file, row.transaction_id)
        found[key] = (*found.get(key, ()), event_)
    return found


def _case(events: tuple[Event, ...]) -> Case:
    standing = _standing(events)
    return Case(status="open" if standing is None else cast("Verdict", standing.action), events=events)


def _standing(events: Iterable[Event]) -> Event | None:
    verdicts: list[Event] = []
    for one in events:
        if one.action != "undo":
            verdicts.append(one)
        elif verdicts:
            verdicts.pop()
    return verdicts[-1] if verdicts else None


def _conflict(case: Case) -> ConflictError:
    if not case.events:
        return ConflictError("this alert has changed since you opened it; look at it again")
    last = case.events[-1]
    done = {"fraud": "confirmed it as fraud", "dismissed": "dismissed it", "undo": "reopened it"}[last.action]
    return ConflictError(f"{last.analyst} {done} at {last.at:%H:%M} UTC, after you opened it; look at it again")


@contextmanager
def _ledger(url: str | None) -> Iterator[Connection]:
    """Give one transaction on the ledger, whose table of verdicts is there."""
    with connect(url or settings().ledger_url, tables=_metadata) as connection, connection.begin():
        if connection.dialect.name == "sqlite":
            for trigger in _TRIGGERS:
                connection.execute(text(trigger))
        yield connection
