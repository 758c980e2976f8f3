"""The apps that are installed here, found by their entry points."""

from __future__ import annotations

import logging
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from quatrain.core.dashboard.card import Card
from quatrain.core.dashboard.run import CARDS_GROUP, PAGES_GROUP

_logger = logging.getLogger(__name__)


def cards() -> dict[str, Card]:
    """Return the overview card of every installed app that has one, by entry-point name."""
    loaded = {name: _load(point) for name, point in _points(CARDS_GROUP).items()}
    return {name: card for name, card in loaded.items() if isinstance(card, Card)}


def pages(only: str | None = None) -> dict[str, list[Any]]:
    """Return the pages of every installed app, or of one, by the app's title."""
    titles = {name: card.title for name, card in cards().items()}
    found: dict[str, list[Any]] = {}
    for name, point in _points(PAGES_GROUP).items():
        build = _load(point) if only in (None, name) else None
        if build is not None:
            found[titles.get(name, name.replace("_", " ").capitalize())] = build()
    return found


@cache
def _points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


def _load(point: EntryPoint) -> Any | None:
    try:
        return point.load()
    except ImportError:
        _logger.exception("the app %s cannot be loaded", point.name)
        return None
