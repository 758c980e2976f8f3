"""What a person sees when a page cannot be drawn."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

import streamlit as st

from quatrain.core.dashboard import formats
from quatrain.core.errors import UserError

_logger = logging.getLogger(__name__)


def guarded(draw: Callable[[], None]) -> None:
    """Run `draw`; show what went wrong in words and log the rest."""
    try:
        draw()
    except UserError as error:
        show(error)
    # A page is this process's unit of work: one broken page must not show a stack trace to an analyst.
    except Exception as error:
        moment = f"{datetime.now(UTC):%H:%M:%S}"
        _logger.exception("the page failed at %s UTC", moment)
        st.error(
            f"Nothing was changed and your verdicts are safe. Reload the page; if it happens again, give an "
            f"engineer the time {moment} UTC and this name: {type(error).__name__}.",
            title="This page could not be drawn",
        )


def show(error: UserError) -> None:
    """Show an error that the person can fix, in its own words."""
    what, _, fix = str(error).partition("; ")
    st.warning(
        formats.plain(fix[:1].upper() + fix[1:]) if fix else "Fix it and reload the page.", title=_sentence(what)
    )


def _sentence(text: str) -> str:
    return formats.plain(text[:1].upper() + text[1:])
