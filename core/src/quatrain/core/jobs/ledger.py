"""The ledger of runs and units: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from quatrain.core import processes
from quatrain.core.errors import UsageError, UserError, require
from quatrain.core.jobs.identity import Job, Snapshot, Stamp, is_lasting, plain
from quatrain.core.jobs.lock import locked
from quatrain.core.jobs.tables import RUNS, SCHEMA, SOURCES, UNITS, create_tables

# How long a statement waits for another process's, in seconds.
_PATIENCE_S = 30
# What is said of a run whose process is gone.
DIED = "its process ended without finishing the run: killed, or the machine went down"


class LedgerError(UserError):
    """The ledger cannot be reached, read or written."""


@dataclass(frozen=True, kw_only=True)
class UnitRecord:
    """What became of one file."""

    path: str
    status: str
    key: str | None = None
    input_digest: str | None = None
    reason: str | None = None
    duplicate_of: str | None = None
    rows: int = 0
    bad_rows: int = 0
    seconds: float = 0.0
    # Each {"output", "path", "size", "sha256"}.
    outputs: list[dict[str, Any]] = field(default_factory=list)


class Ledger:
    """One connection to the ledger; every method is one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def lock(self, job: Job) -> None:
        """Keep other hosts from running the job, until the connection ends; raises LockedError.

        The lock lives on the connection that writes the ledger: a run that lost it cannot
        record anything either. SQLite needs none, its file and the lock file share a host.
        """
        if self._connection.dialect.name != "postgresql":
            return
        number = sa.literal(int.from_bytes(bytes.fromhex(job.scope)[:8], signed=True), sa.BigInteger)
        with self._connection.begin():
            if not self._connection.scalar(sa.select(sa.func.pg_try_advisory_lock(number))):
                raise locked(job)

    def begin_run(self, job: Job, *, run_id: str, config: Mapping[str, Any]) -> int:
        """Record that a run started; return how many earlier ones had died without a word."""
        dead = sa.update(RUNS).where(RUNS.c.scope == job.scope, RUNS.c.status == "running")
        values = {"name": plain(job.name), "app": job.app, "out": str(job.out), "scope": job.scope}
        digests = {"model_digest": job.model_digest, "config_digest": job.config_digest}
        process = {"host": socket.gethostname(), "pid": os.getpid(), "pid_created": processes.started()}
        counters = {"units": {}, "rows": 0, "bad_rows": 0, "seconds": 0.0}
        started = {"id": run_id, "started": now(), "status": "running", "config": dict(config)}
        with self._connection.begin():
            n_dead = self._connection.execute(dead.values(status="failed", ended=now(), error=DIED)).rowcount
            self._connection.execute(sa.insert(RUNS), {**values, **digests, **process, **counters, **started})
        return n_dead

    def end_run(
        self, run_id: str, *, status: str, exit_code: int, error: str | None, totals: Mapping[str, Any]
    ) -> None:
        """Record how a run ended."""
        reason = None if error is None else plain(error)
        values = {"status": status, "exit_code": exit_code, "error": reason, "ended": now(), **totals}
        with self._connection.begin():
            self._connection.execute(sa.update(RUNS).where(RUNS.c.id == run_id).values(**values))

    def record(self, job: Job, unit: UnitRecord, *, run_id: str, totals: Mapping[str, Any]) -> int:
        """Append what became of a file, and the run's totals with it; return the record's id."""
        values = {**vars(unit), "run_id": run_id, "scope": job.scope, "recorded": now()}
        values["reason"] = None if unit.reason is None else plain(unit.reason)
        with self._connection.begin():
            added = self._connection.execute(sa.insert(UNITS).values(values))
            self._connection.execute(sa.update(RUNS).where(RUNS.c.id == run_id).values(**totals))
        (id_,) = added.inserted_primary_key or (0,)
        return int(id_)

    def settled(self, job: Job, key: str) -> sa.RowMapping | None:
        """Return the row of a unit that is done or refused, None for one to take up."""
        mine = sa.select(UNITS).where(UNITS.c.scope == job.scope, UNITS.c.key == key, UNITS.c.status != "duplicate")
        row = self._one(mine.order_by(UNITS.c.id.desc()).limit(1))
        return None if row is None or row["status"] == "failed" else row

    def settled_units(self, job: Job, *, since: datetime) -> list[tuple[int, str, str, list[dict[str, Any]]]]:
        """Return id, key, input_digest and outputs of the units done or refused, recorded since then, in that order."""
        # Decoded here: as a JSON column a hundred thousand of them take twice as long.
        columns = (UNITS.c.id, UNITS.c.key, UNITS.c.input_digest, sa.cast(UNITS.c.outputs, sa.Text))
        mine = sa.select(*columns).where(*_settled(job), UNITS.c.recorded >= _as_text(since))
        with self._connection.begin():
            rows = self._connection.execute(mine.order_by(UNITS.c.id)).all()
        return [(id_, key, digest, json.loads(outputs)) for id_, key, digest, outputs in rows]

    def first_settled(self, job: Job, key: str) -> int | None:
        """Return the id of the first record of a unit as done or refused, None where there is none."""
        row = self._one(sa.select(sa.func.min(UNITS.c.id).label("id")).where(*_settled(job), UNITS.c.key == key))
        return None if row is None else row["id"]

    def has_duplicate(self, job: Job, *, key: str, path: str, of: str) -> bool:
        """Whether it is recorded already that `path` holds what `of` held."""
        mine = sa.select(UNITS.c.id).where(UNITS.c.scope == job.scope, UNITS.c.key == key)
        same = mine.where(UNITS.c.status == "duplicate", UNITS.c.path == path, UNITS.c.duplicate_of == of)
        return self._one(same.limit(1)) is not None

    def known_digest(self, job: Job, path: str, stamp: Stamp) -> str | None:
        """Return the digest of an unchanged file without reading it, None when it must be read."""
        row = self._one(sa.select(SOURCES).where(SOURCES.c.id == _source_id(job, path)))
        if row is None or not is_lasting(ctime_ns=row["ctime_ns"], taken_ns=row["taken_ns"]):
            return None
        return str(row["digest"]) if all(row[name] == value for name, value in _columns(stamp).items()) else None

    def remember(self, job: Job, snapshots: Mapping[str, Snapshot]) -> None:
        """Keep what paths held, for `known_digest`."""
        rows = [
            {"id": _source_id(job, path), "digest": shot.digest, "taken_ns": shot.taken_ns, **_columns(shot.stamp)}
            for path, shot in snapshots.items()
            if shot.is_lasting
        ]
        if not rows:
            return
        with self._connection.begin():
            stale = sa.delete(SOURCES).where(SOURCES.c.id == sa.bindparam("stale_id"))
            self._connection.execute(stale, [{"stale_id": row["id"]} for row in rows])
            self._connection.execute(sa.insert(SOURCES), rows)

    def select(self, query: sa.Select[Any]) -> list[sa.RowMapping]:
        """Return the rows of a query."""
        with self._connection.begin():
            return list(self._connection.execute(query).mappings())

    def _one(self, query: sa.Select[Any]) -> sa.RowMapping | None:
        return next(iter(self.select(query)), None)


@contextmanager
def open_ledger(url: str) -> Iterator[Ledger]:
    """Give the ledger, created if it is not there; database errors inside become LedgerError."""
    with connect(url, tables=SCHEMA) as link:
        yield Ledger(link)


@contextmanager
def connect(url: str, *, tables: sa.MetaData) -> Iterator[sa.Connection]:
    """Give a connection to the ledger's database, in which `tables` are there.

    For an app that keeps more than runs and units. Database errors inside become LedgerError.
    """
    location = _parse(url)
    if location.database and location.get_backend_name() == "sqlite":
        try:
            Path(location.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"cannot create the folder of the ledger {location.database}: {error.strerror}"
            raise LedgerError(message) from error
    engine = sa.create_engine(location, poolclass=NullPool, connect_args=_arguments(location))
    with _connected(location, engine) as link:
        create_tables(link, tables)
        yield link


@contextmanager
def read_ledger(url: str) -> Iterator[Ledger | None]:
    """Give the ledger for reading, or None where no job has run yet; nothing is created or written.

    Except that a transaction which a killed run left open in SQLite is taken back.
    """
    location = _parse(url)
    if location.get_backend_name() != "sqlite":
        engine = sa.create_engine(location, poolclass=NullPool, connect_args=_arguments(location))
    elif location.database and Path(location.database).exists():
        engine = sa.create_engine("sqlite://", poolclass=NullPool, creator=lambda: _open_for_reading(location))
    else:
        yield None
        return
    with _connected(location, engine) as link:
        has_tables = sa.inspect(link).has_table(UNITS.name)
        link.rollback()
        yield Ledger(link) if has_tables else None


def now() -> str:
    """Return the time as the ledger keeps it: ISO 8601, UTC, sortable as text."""
    return _as_text(datetime.now(UTC))


def _as_text(time: datetime) -> str:
    return time.isoformat(timespec="microseconds")


def _settled(job: Job) -> tuple[sa.ColumnElement[bool], ...]:
    return (UNITS.c.scope == job.scope, UNITS.c.status.in_(["done", "refused"]))


def _parse(url: str) -> sa.URL:
    try:
        location = sa.make_url(url)
    except ArgumentError as error:
        message = (
            f"the ledger must be a URL such as sqlite:////var/lib/quatrain/ledger.db or postgresql://…, got {url!r}"
        )
        raise UsageError(message) from error
    if location.drivername in {"postgres", "postgresql"}:
        location = location.set(drivername="postgresql+psycopg")
    if location.get_backend_name() not in {"sqlite", "postgresql"}:
        raise UsageError(f"the ledger is kept in sqlite or postgresql, got {location.drivername}")
    if location.drivername == "postgresql+psycopg":
        require("psycopg", package="quatrain-core[postgres]")
    return location


def _arguments(location: sa.URL) -> dict[str, Any]:
    return {"timeout": _PATIENCE_S} if location.get_backend_name() == "sqlite" else {"connect_timeout": _PATIENCE_S}


def _open_for_reading(location: sa.URL) -> sqlite3.Connection:
    connection = _open_existing(location, mode="ro")
    try:
        connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorname != "SQLITE_READONLY_ROLLBACK":
            raise
        # A run was killed inside a transaction; SQLite must take it back before anybody can read.
        with closing(_open_existing(location, mode="rw")) as mender:
            mender.execute("SELECT 1 FROM sqlite_master")
        return _open_existing(location, mode="ro")
    return connection


def _open_existing(location: sa.URL, *, mode: str) -> sqlite3.Connection:
    file = quote(str(Path(location.database or "").absolute()))
    return sqlite3.connect(f"file:{file}?mode={mode}", uri=True, timeout=_PATIENCE_S)


@contextmanager
def _connected(location: sa.URL, engine: sa.Engine) -> Iterator[sa.Connection]:
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        where = location.render_as_string(hide_password=True)
        message = f"the ledger {where} failed: {plain(str(cause)).strip()}; check that it is reachable and writable"
        raise LedgerError(message) from error
    finally:
        engine.dispose()


def _source_id(job: Job, path: str) -> str:
    return hashlib.sha256(f"{job.scope}\0{path}".encode()).hexdigest()


def _columns(stamp: Stamp) -> dict[str, int | str]:
    # Inode and device numbers may exceed a signed 64-bit column.
    numbers: dict[str, int | str] = {"size": stamp.size, "mtime_ns": stamp.mtime_ns, "ctime_ns": stamp.ctime_ns}
    return numbers | {"inode": str(stamp.inode), "device": str(stamp.device)}
