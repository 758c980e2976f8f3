"""The tables of the ledger, in types that SQLite and PostgreSQL share."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

# What the job engine keeps; an app keeps its own tables beside these.
SCHEMA = sa.MetaData()
_DIGEST = sa.String(64)
_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")

RUNS = sa.Table(
    "job_run",
    SCHEMA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("scope", _DIGEST, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("app", sa.Text, nullable=False),
    sa.Column("out", sa.Text, nullable=False),
    sa.Column("model_digest", sa.Text, nullable=False),
    sa.Column("config_digest", sa.Text, nullable=False),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", _NUMBER, nullable=False),
    # Unix time; a process id is used again, with another start.
    sa.Column("pid_created", sa.Float, nullable=False),
    sa.Column("started", sa.String(32), nullable=False),
    sa.Column("ended", sa.String(32)),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("exit_code", sa.Integer),
    sa.Column("units", sa.JSON, nullable=False),
    sa.Column("rows", _NUMBER, nullable=False),
    sa.Column("bad_rows", _NUMBER, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("error", sa.Text),
)
# Appended to, never changed: the newest row of a key is what holds.
UNITS = sa.Table(
    "job_unit",
    SCHEMA,
    sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
    sa.Column("run_id", sa.String(64), nullable=False),
    sa.Column("scope", _DIGEST, nullable=False),
    # Absent when the file could not be read.
    sa.Column("key", _DIGEST),
    sa.Column("input_digest", _DIGEST),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("duplicate_of", sa.Text),
    sa.Column("rows", _NUMBER, nullable=False),
    sa.Column("bad_rows", _NUMBER, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("outputs", sa.JSON, nullable=False),
    sa.Column("recorded", sa.String(32), nullable=False),
)
# What each path held when it was last read, so that an unchanged file is not read again.
SOURCES = sa.Table(
    "job_source",
    SCHEMA,
    # sha256 of scope and path: PostgreSQL indexes no text of more than 2700 bytes.
    sa.Column("id", _DIGEST, primary_key=True),
    sa.Column("digest", _DIGEST, nullable=False),
    sa.Column("size", _NUMBER, nullable=False),
    sa.Column("mtime_ns", _NUMBER, nullable=False),
    sa.Column("ctime_ns", _NUMBER, nullable=False),
    sa.Column("inode", sa.String(24), nullable=False),
    sa.Column("device", sa.String(24), nullable=False),
    sa.Column("taken_ns", _NUMBER, nullable=False),
)
sa.Index("job_run_scope", RUNS.c.scope, RUNS.c.status)
sa.Index("job_unit_key", UNITS.c.scope, UNITS.c.key)
sa.Index("job_unit_run", UNITS.c.run_id)
# The advisory lock that lets one process at a time create the tables; any constant does.
_CREATION_LOCK = 0x717561747261696E


def create_tables(connection: sa.Connection, schema: sa.MetaData) -> None:
    """Create what is missing, also when several processes start on an empty database at once."""
    with connection.begin():
        if connection.dialect.name == "postgresql":
            # There IF NOT EXISTS alone lets two creators collide.
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.literal(_CREATION_LOCK, sa.BigInteger))))
        for table in schema.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in sorted(table.indexes, key=lambda one: str(one.name)):
                connection.execute(CreateIndex(index, if_not_exists=True))
