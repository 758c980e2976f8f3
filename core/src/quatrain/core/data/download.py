"""One file over https: resumed where it was cut, never larger than promised, never from a lesser address."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from pydantic import ValidationError

from quatrain.core.config import Config
from quatrain.core.data.progress import bytes_bar
from quatrain.core.errors import BadDataError, UserError

# Tries in a row that bring no new byte before the download is given up.
ATTEMPTS = 4
# Seconds that one network operation may take.
_TIMEOUT_SECONDS = 30.0
# The longest pause between two tries, whatever the server asks for.
_LONGEST_PAUSE_SECONDS = 30.0
_CHUNK_BYTES = 1 << 20
# HTTP answers that may differ next time.
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206


class UnreachableError(UserError):
    """The source could not be reached, or does not have the file."""


class _CutError(Exception):
    """The transfer stopped early; another try may get further."""

    def __init__(self, reason: str, *, pause_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_seconds = pause_seconds


class _Validator(Config):
    """Which version of which address a `.part` file belongs to."""

    url: str
    # A strong ETag or a Last-Modified date; empty when the server gave neither.
    tag: str


def download(
    url: str, target: Path, *, size: int, progress: bool = True, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Write the `size` bytes at `url` to `target`, going on from `<target>.part` if there is one.

    The caller checks the digest. Raises UnreachableError when the file cannot be had, BadDataError
    when the server offers another size.
    """
    part = target.with_name(target.name + ".part")
    furthest, failures = _size(part), 0
    with bytes_bar(target.name, total=size, wanted=progress) as show:
        while _size(part) < size:
            try:
                _transfer(url, part, size=size, show=show)
            except _CutError as error:
                failures = 1 if _size(part) > furthest else failures + 1
                furthest = max(furthest, _size(part))
                if failures >= ATTEMPTS:
                    raise UnreachableError(f"{url}: {error} (tried {failures} times)") from error
                sleep(min(_LONGEST_PAUSE_SECONDS, max(error.pause_seconds, 2.0 ** (failures - 1))))
    if _size(part) > size:
        part.unlink()
        raise BadDataError(f"{part} was larger than the {size} bytes expected; it was removed, try again")
    part.replace(target)
    _validator_path(part).unlink(missing_ok=True)


def _transfer(url: str, part: Path, *, size: int, show: Callable[[int], None]) -> None:
    with _open(url, part) as response:
        start = _start(response, part, size=size)
        _remember(url, part, response.headers)
        with part.open("rb+" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            _copy(response, file, start=start, size=size, show=show)
    if _size(part) < size:
        raise _CutError(f"the connection was cut after {_size(part)} of {size} bytes")


def _open(url: str, part: Path) -> http.client.HTTPResponse:
    # "identity": a compressed transfer would have another length, and could unpack to anything.
    headers = {"User-Agent": f"quatrain/{version('quatrain-core')}", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers | _range(url, part))  # noqa: S310 - the descriptor allows https only
    try:
        response: http.client.HTTPResponse = _opener().open(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        raise _refusal(error, url, part) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _CutError(f"cannot be reached: {getattr(error, 'reason', None) or error!r}") from error
    return response


def _refusal(error: urllib.error.HTTPError, url: str, part: Path) -> Exception:
    with error:
        if error.code == _RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
            return _CutError("the part from last time does not fit the server's file; starting again")
        if error.code in _TRANSIENT_STATUS:
            asked = error.headers.get("Retry-After", "")
            return _CutError(
                f"the server answered {error.code} {error.reason}",
                pause_seconds=float(asked) if asked.isdecimal() else 0.0,
            )
    return UnreachableError(f"{url}: the server answered {error.code} {error.reason}")


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_StrictRedirects)


class _StrictRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to https, and between plain addresses of this machine only."""

    def redirect_request(  # noqa: PLR0917 - the standard library's signature
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        new, old = urlsplit(newurl), urlsplit(req.full_url)
        stays_here = new.scheme == "http" and new.hostname == "127.0.0.1" and old.scheme == "http"
        if new.scheme != "https" and not stays_here:
            raise UnreachableError(f"{req.full_url} redirects to {newurl}, which is not https; refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _start(response: http.client.HTTPResponse, part: Path, *, size: int) -> int:
    """Return the offset that the body starts at, after checking that it leads to `size` bytes."""
    start = 0
    if response.status == _PARTIAL_CONTENT:
        span = response.headers.get("Content-Range", "")
        start = _size(part)
        if not span.startswith(f"bytes {start}-"):
            part.unlink(missing_ok=True)
            raise _CutError(f"asked for bytes from {start}, the server sent {span or 'no range'!r}; starting again")
    length = response.headers.get("Content-Length")
    if length is not None and start + int(length) != size:
        part.unlink(missing_ok=True)
        raise BadDataError(
            f"{response.url} offers {start + int(length)} bytes, the catalogue says {size}: it is not the same file"
        )
    return start


def _copy(
    response: http.client.HTTPResponse, file: IO[bytes], *, start: int, size: int, show: Callable[[int], None]
) -> None:
    done = start
    while True:
        try:
            # One byte more than is missing shows a body that does not end where it should.
            chunk = response.read(min(_CHUNK_BYTES, size - done + 1))
        except (http.client.HTTPException, OSError) as error:
            raise _CutError(f"the connection was cut after {done} of {size} bytes ({error!r})") from error
        if not chunk:
            return
        done += len(chunk)
        if done > size:
            file.truncate(0)
            raise BadDataError(f"{response.url} sends more than the {size} bytes of the catalogue: stopped")
        file.write(chunk)
        show(done)


def _range(url: str, part: Path) -> dict[str, str]:
    """Return the headers that ask for what is missing, or for everything if the file has changed."""
    try:
        validator = _Validator.model_validate_json(_validator_path(part).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        validator = None
    if validator is None or validator.url != url:
        part.unlink(missing_ok=True)
    if validator is None or not _size(part):
        return {}
    if_range = {"If-Range": validator.tag} if validator.tag else {}
    return {"Range": f"bytes={_size(part)}-"} | if_range


def _remember(url: str, part: Path, headers: http.client.HTTPMessage) -> None:
    etag = headers.get("ETag", "")
    # A weak ETag does not promise the same bytes, so it may not be used in If-Range.
    tag = headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag
    _validator_path(part).write_text(_Validator(url=url, tag=tag).model_dump_json(), encoding="utf-8")


def _validator_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
