"""Errors: suggestions, exit codes, and missing extras."""

from __future__ import annotations

import json

import pytest

from quatrain.core import errors


def test_nearest_finds_a_typo_and_gives_up_on_noise() -> None:
    """A near name is found; an unrelated one is not invented."""
    assert errors.nearest("amuont", ["amount", "time"]) == "amount"
    assert errors.nearest("zzz", ["amount", "time"]) is None


def test_did_you_mean_lists_names_when_none_is_near() -> None:
    """Without a near match the known names are listed."""
    assert errors.did_you_mean("zzz", ["b", "a"]) == "; known: a, b"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UserError, 1),
        (errors.UsageError, 2),
        (errors.BadDataError, 65),
        (errors.LockedError, 75),
        (errors.MissingExtraError, 1),
    ],
)
def test_exit_codes_are_those_of_the_contract(error: type[errors.UserError], code: int) -> None:
    """Cron tells the kinds of failure apart by these numbers."""
    assert error("x").exit_code == code


def test_require_returns_the_module() -> None:
    """A module that is there is imported."""
    assert errors.require("json", package="quatrain-core[train]") is json


def test_require_names_the_command_that_installs() -> None:
    """A missing package becomes an instruction."""
    with pytest.raises(errors.MissingExtraError, match=r"pip install 'quatrain-core\[train\]'"):
        errors.require("no_such_package_here", package="quatrain-core[train]")


def test_require_installed_looks_without_importing() -> None:
    """What is installed passes; what is not becomes the same instruction."""
    errors.require_installed("json", package="quatrain-core[train]")
    with pytest.raises(errors.MissingExtraError, match=r"needs no_such_package_here.*'quatrain-core\[train\]'"):
        errors.require_installed("no_such_package_here", package="quatrain-core[train]")
