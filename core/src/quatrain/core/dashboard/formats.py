"""How numbers, times and foreign text are written on every page."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from html import escape

# What stands where there is no value: an en dash.
NONE = "\u2013"
_MILLION = 1_000_000
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_ACRONYMS = frozenset({"ap", "auc", "ece", "ema", "cp", "id"})
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:])")


def count(value: float | None) -> str:
    """Return a whole number with thousands separators, or a dash."""
    return NONE if value is None or not math.isfinite(value) else f"{value:,.0f}"


def money(value: float | None, unit: str = "") -> str:
    """Return an amount to the cent, whole above a million: "1,204.50", "12,400,310 EUR"."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:,.0f}" if abs(value) >= _MILLION else f"{value:,.2f}"
    return f"{text} {unit}".rstrip()


def share(value: float | None, *, digits: int = 1) -> str:
    """Return a fraction as a percentage: 0.0012 -> "0.12 %" with digits=2."""
    return NONE if value is None or not math.isfinite(value) else f"{value * 100:,.{digits}f} %"


def measure(value: float | None, *, digits: int = 3) -> str:
    """Return a number for a table: fixed digits below a thousand, separators above."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == int(value) and abs(value) < 1e15:  # noqa: PLR2004 -- beyond 1e15 floats skip integers
        return f"{value:,.0f}"
    return f"{value:,.{digits}f}" if abs(value) >= 10**-digits else f"{value:.2g}"


def interval(low: float, high: float, *, digits: int = 3) -> str:
    """Return an interval: "0.741 to 0.842"."""
    return f"{low:.{digits}f} to {high:.{digits}f}"


def parse_time(text: str | datetime | None) -> datetime | None:
    """Return an aware UTC time from ISO 8601 text or a datetime; a naive one is read as UTC."""
    if not text:
        return None
    time = datetime.fromisoformat(text) if isinstance(text, str) else text
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def moment(time: datetime | None) -> str:
    """Return a time as people write it: "3 Nov 2026, 14:02 UTC"."""
    return NONE if time is None else f"{time.day} {time:%b %Y, %H:%M} UTC"


def ago(time: datetime | None, *, now: datetime | None = None) -> str:
    """Return how long ago a time was, in one unit: "just now", "5 min ago", "3 days ago"."""
    if time is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - time).total_seconds()
    if seconds < _MINUTE:
        return "just now"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min ago"
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR:.0f} h ago"
    return f"{seconds // _DAY:.0f} days ago"


def duration(seconds: float | None) -> str:
    """Return a length of time in its natural unit: "0.4 s", "3 min 20 s", "2 h 5 min"."""
    if seconds is None:
        return NONE
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min {seconds % _MINUTE:.0f} s"
    return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:.0f} min"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """Return "1 alert" or "2,310 alerts"."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def label(key: str) -> str:
    """Return a config key or measure as a label: "valid_ap" -> "Valid AP", "n_rows" -> "N rows"."""
    words = [word.upper() if word in _ACRONYMS else word for word in key.split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def plain(text: str) -> str:
    """Return foreign text that Markdown shows as it is."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def html(text: object) -> str:
    """Return foreign text that is safe inside HTML, attributes included."""
    return escape(str(text), quote=True)


def digest(text: str | None) -> str:
    """Return the first twelve characters of a digest, as the file names show it."""
    return text[:12] if text else NONE
