"""XML files as SUMO reads and writes them, one element at a time."""

from __future__ import annotations

import gzip
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

Element = ET.Element
MarkupError = ET.ParseError


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacked where its name ends in .gz."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        yield cast("IO[bytes]", file)


def elements(path: Path) -> Iterator[tuple[int, Element]]:
    """Yield each finished element with its depth, 1 for the root's children.

    Raises MarkupError where the text is not XML, OSError where it cannot be read.
    """
    depth = 0
    with opened(path) as file:
        # Python's own expat (2.4.1 or later) stops entities that grow without bound, and never follows one outside.
        for event, element in ET.iterparse(file, events=("start", "end")):  # noqa: S314
            depth += 1 if event == "start" else -1
            if event == "end":
                yield depth, element
