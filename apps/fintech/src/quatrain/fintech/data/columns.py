"""The transaction schema, and how a foreign file's columns map to it (`columns.toml`)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pyarrow as pa
from pydantic import Field, ValidationError, field_validator, model_validator

from quatrain.core.config import Config
from quatrain.core.errors import UsageError, did_you_mean

# The canonical columns; extra numeric columns come after them as float64.
TYPES: Mapping[str, pa.DataType] = {
    "transaction_id": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "customer_id": pa.string(),
    "terminal_id": pa.string(),
    "device_id": pa.string(),
    "merchant_id": pa.string(),
    "amount": pa.float64(),
    # Null: nobody said whether this row is fraud.
    "is_fraud": pa.bool_(),
    # When the label of a fraud became known; null where there is none.
    "labelled_at": pa.timestamp("us", tz="UTC"),
}
REQUIRED = ("timestamp", "amount")
LABEL = "is_fraud"
LABELLED_AT = "labelled_at"
# What says what became of a transaction: read for training and measuring, never for scoring.
OUTCOME = (LABEL, LABELLED_AT)
# Whose transaction it is, and where and with what it was made.
ENTITIES = ("customer_id", "terminal_id", "device_id", "merchant_id")


class TimestampFormat(Config):
    """How a timestamp column is read when it holds numbers or has no zone."""

    # Of numeric timestamps, counted from `origin`.
    unit: Literal["s", "ms", "us", "ns"] | None = None
    origin: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    # A strptime pattern for texts that are not ISO 8601, such as "%d/%m/%Y %H:%M:%S".
    format: str | None = None
    # The zone of texts and datetimes that name none.
    zone: str = "UTC"

    @field_validator("zone")
    @classmethod
    def _is_known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, OSError, ValueError) as error:
            raise ValueError("must be an IANA time zone such as Europe/Paris") from error
        return zone

    @field_validator("origin")
    @classmethod
    def _in_utc(cls, origin: datetime) -> datetime:
        return origin.replace(tzinfo=UTC) if origin.tzinfo is None else origin.astimezone(UTC)


class ExtraColumns(Config):
    """Numeric columns beyond the schema that the model may use, and columns to leave out."""

    numeric: tuple[str, ...] | Literal["all"] = ()
    ignore: tuple[str, ...] = ()


class LabelFormat(Config):
    """What a row without a label is: a bad one, or history that is neither learned from nor measured on."""

    missing: Literal["bad", "unknown"] = "bad"


class PanColumns(Config):
    """Columns that hold card numbers: read as keyed tokens, or not at all."""

    columns: tuple[str, ...] = ()
    # The key whose tokens a model learned from; under another key its cards have no history.
    key_id: str | None = None


class PaymentFormat(Config):
    """What payment messages are read as; their columns have the canonical names."""

    # Transactions in another one are bad rows; None takes each file's first.
    currency: str | None = Field(default=None, pattern="^[A-Z]{3}$")


class CsvFormat(Config):
    """The dialect of CSV files; a UTF-8 or UTF-16 byte order mark is recognised without it."""

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."

    @field_validator("encoding")
    @classmethod
    def _is_known_encoding(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except LookupError as error:
            raise ValueError("must be an encoding that Python knows, such as latin-1") from error
        return encoding


class ColumnMap(Config):
    """Which of a file's columns is which; the default is a file with the canonical names."""

    columns: dict[str, str] = Field(default_factory=dict)
    timestamp: TimestampFormat = TimestampFormat()
    label: LabelFormat = LabelFormat()
    pan: PanColumns = PanColumns()
    extra: ExtraColumns = ExtraColumns()
    csv: CsvFormat = CsvFormat()
    iso20022: PaymentFormat = PaymentFormat()

    @model_validator(mode="after")
    def _is_consistent(self) -> ColumnMap:
        for canonical in self.columns:
            if canonical not in TYPES:
                raise ValueError(f"[columns] has no canonical column {canonical!r}{did_you_mean(canonical, TYPES)}")
        extra = self.extra.numeric if self.extra.numeric != "all" else ()
        reserved = sorted(set(extra) & set(TYPES))
        if reserved:
            raise ValueError(f"[extra] numeric may not name {', '.join(reserved)}: the schema has such a column")
        named = [*self.columns.values(), *extra, *self.extra.ignore]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"each column of the file may be named once, but {', '.join(twice)} is named twice")
        ids = {self.source(name) for name in ("transaction_id", *ENTITIES)}
        other = {*extra, *(self.source(name) for name in TYPES)} - ids
        wrong = sorted(other & set(self.pan.columns))
        if wrong:
            raise ValueError(f"[pan] columns become tokens, which only an id can be, and {', '.join(wrong)} is none")
        return self

    def source(self, canonical: str) -> str:
        """Return the file's name of a canonical column."""
        return self.columns.get(canonical, canonical)


def parse_columns(document: Mapping[str, Any], *, where: str) -> ColumnMap:
    """Return the mapping that a table holds; `where` names its source in errors."""
    try:
        return ColumnMap.model_validate(document)
    except ValidationError as error:
        lines = [_explain(list(detail["loc"]), detail["type"], detail["msg"]) for detail in error.errors()]
        raise UsageError(f"{where}: " + "; ".join(lines)) from error


def read_columns(path: Path) -> ColumnMap:
    """Return the mapping of a columns.toml file; raises UsageError that names the wrong key."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the column mapping {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    return parse_columns(document, where=str(path))


def _explain(location: list[int | str], kind: str, message: str) -> str:
    key = ".".join(str(part) for part in location)
    if kind != "extra_forbidden":
        text = message.removeprefix("Value error, ")
        return f"{key}: {text}" if key else text
    model: type[Config] = ColumnMap
    for part in location[:-1]:
        annotation = model.model_fields[str(part)].annotation
        model = annotation if isinstance(annotation, type) and issubclass(annotation, Config) else model
    return f"unknown key {key}{did_you_mean(str(location[-1]), model.model_fields)}"
