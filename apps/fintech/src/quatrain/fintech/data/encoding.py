"""A text file in any encoding as a stream of UTF-8 bytes, whatever it holds."""

from __future__ import annotations

import codecs
import io
from pathlib import Path

_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class Utf8Stream(io.RawIOBase):
    """The file's text as valid UTF-8; bytes that are no character come out as U+FFFD.

    A byte order mark wins over the encoding that was asked for.
    """

    def __init__(self, path: Path, *, encoding: str) -> None:
        self._file = path.open("rb", buffering=0)
        head = self._file.read(2)
        self._file.seek(0)
        wanted = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        decoder = codecs.getincrementaldecoder(_BYTE_ORDER_MARKS.get(head, wanted))
        self._decoder = decoder(errors="replace")
        self._waiting = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, none at the end of the file."""
        is_whole = size < 0
        parts = [self._waiting]
        n_waiting = len(self._waiting)
        while is_whole or n_waiting < size:
            raw = self._file.read(io.DEFAULT_BUFFER_SIZE if is_whole else size) or b""
            part = self._decoder.decode(raw, final=not raw).encode()
            parts.append(part)
            n_waiting += len(part)
            if not raw:
                break
        ready = b"".join(parts)
        end = len(ready) if is_whole else size
        self._waiting = ready[end:]
        return ready[:end]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
