"""Card numbers are told from a column's own long numbers by the share that passes the check digit."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.pan_guard import PanGuard, as_written

Integers = NDArray[np.int64]


def cards(rng: np.random.Generator, n: int, *, first: int = 4) -> Integers:
    """Return random card numbers of 16 digits."""
    bodies = rng.integers(first * 10**14, (first + 1) * 10**14, n) * 10
    digits = bodies[:, None] // 10 ** np.arange(16) % 10
    doubled = digits[:, 1::2] * 2
    total = digits[:, 0::2].sum(axis=1) + (doubled - 9 * (doubled > 9)).sum(axis=1)
    return np.asarray(bodies + (-total) % 10)


def verdict(values: Any, *, batch: int = 65_536) -> int:
    """Return how many rows of a column are set aside; -1 when the file is refused."""
    guard = PanGuard("a.csv")
    array = pa.array(values)
    try:
        return sum(int(guard.pans("x", array.slice(i, batch)).sum()) for i in range(0, len(array), batch))
    except BadDataError:
        return -1


def texts(numbers: Integers) -> list[str]:
    """Return numbers as text."""
    return [str(number) for number in numbers]


@pytest.mark.parametrize("n", [1, 2, 20, 1000, 70_000])
@pytest.mark.parametrize("form", [list, texts, lambda x: [f"card-{each}" for each in x]])
def test_a_column_of_cards_refuses_the_file(n: int, form: Callable[[Integers], Any]) -> None:
    """As numbers, as text, with something before them; one card in a column of one is enough."""
    assert verdict(form(cards(np.random.default_rng(n), n))) == -1


def test_the_refusal_says_how_to_fix_it_and_shows_no_number() -> None:
    """The column, how many, the key; digits are masked."""
    message = (
        r"^day.csv: column card holds card numbers \(PANs\), 3 in its first 3 values, such as 411111\*{6}1111; "
        r'a PAN is never stored.*\[pan\] columns = \["card"\].*keygen'
    )
    with pytest.raises(BadDataError, match=message) as caught:
        PanGuard("day.csv").pans("card", pa.array(["4111111111111111"] * 3))
    assert "4111111111111111" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
@pytest.mark.parametrize("n", [200, 5000])
def test_cards_among_other_ids_refuse_the_file(share: float, n: int) -> None:
    """Short ids, accounts that begin like no card, and random long numbers alike."""
    rng = np.random.default_rng(0)
    is_card = rng.random(n) < share
    card = cards(rng, n)
    others = {
        "short": rng.integers(0, 10**6, n),
        "accounts": rng.integers(10**15, 2 * 10**15, n),
        "random": rng.integers(10**15, 10**16, n),
    }
    for name, other in others.items():
        outcome = verdict(texts(np.where(is_card, card, other)))
        # A tenth of random numbers passes already: a few cards more in 200 cannot be seen.
        assert outcome == -1 or (name == "random" and share * n <= 20), name


@pytest.mark.parametrize("n_cards", [1, 5])
def test_single_cards_cost_their_rows(n_cards: int) -> None:
    """In names, short ids, UUIDs and accounts the row is found, and the file is used."""
    rng = np.random.default_rng(1)
    n = 1000
    rows = rng.choice(n, n_cards, replace=False)
    columns: dict[str, list[str]] = {
        "names": [f"customer {i}" for i in range(n)],
        "short": texts(rng.integers(0, 10**6, n)),
        "uuids": [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(n)],
        "accounts": texts(rng.integers(10**15, 2 * 10**15, n)),
    }
    for name, values in columns.items():
        for row, card in zip(rows, cards(rng, n_cards), strict=True):
            values[row] = str(card)
        mask = PanGuard("a.csv").pans("x", pa.array(values))
        assert sorted(np.flatnonzero(mask)) == sorted(rows), name


def own_numbers(rng: np.random.Generator, n: int) -> dict[str, Any]:
    """Return columns of long numbers that are no cards."""
    now_us = 1_750_000_000_000_000 + np.sort(rng.integers(0, 30 * 86_400_000_000, n))
    return {
        "random 16 digits": rng.integers(10**15, 10**16, n),
        "random 16 digits from 4": rng.integers(4 * 10**15, 5 * 10**15, n),
        "random 13 digits": rng.integers(10**12, 10**13, n),
        "random 15 digits": rng.integers(10**14, 10**15, n),
        "random 19 digits": rng.integers(10**18, 9 * 10**18, n),
        "random as text": texts(rng.integers(10**15, 10**16, n)),
        "random grouped": [f"{i // 10**8}-{i % 10**8}" for i in rng.integers(4 * 10**15, 5 * 10**15, n)],
        "random with a prefix": [f"ACC{i}" for i in rng.integers(4 * 10**15, 5 * 10**15, n)],
        "sequential from 1": 1_000_000_000_000_000 + np.arange(n),
        "sequential from 4": 4_000_000_000_000_000 + np.arange(n),
        "sequential in tens": 4_000_000_000_000_000 + 10 * np.arange(n),
        "few different": rng.choice(rng.integers(4 * 10**15, 5 * 10**15, 300), n),
        "milliseconds": now_us // 1000,
        "microseconds": now_us,
        "nanoseconds": now_us * 1000,
        "amounts": np.round(rng.lognormal(4, 3, n), 2),
        "large amounts": np.round(rng.lognormal(33, 2, n)),
        "fractions": rng.normal(size=n),
        "uuids": [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(n)],
        "digests": [rng.bytes(20).hex() for _ in range(n)],
    }


def test_no_row_is_lost_to_a_columns_own_numbers() -> None:
    """Random, sequential and grouped ones, times, amounts: by the check digit alone one in ten would be lost."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for name, values in own_numbers(rng, 2000).items():
            assert verdict(values) == 0, (seed, name)


def test_rarely_a_row_is_lost_in_a_short_file() -> None:
    """Of 300 files of 20 random 16-digit ids few are touched, of files of 40 hardly one."""
    rng = np.random.default_rng(5)
    assert [verdict(rng.integers(10**15, 10**16, 20)) for _ in range(300)].count(0) >= 0.9 * 300
    assert [verdict(rng.integers(10**15, 10**16, 40)) for _ in range(300)].count(0) >= 0.95 * 300


def test_cards_that_begin_in_a_later_batch_are_seen() -> None:
    """A column that had its own numbers so far has not earned trust for what follows."""
    rng = np.random.default_rng(2)
    own, card = rng.integers(10**15, 10**16, 3000), cards(rng, 1000)
    assert verdict(np.concatenate([own, card]), batch=1000) == -1
    # A last batch too small to show anything by itself is judged by what the column has shown.
    assert verdict(own[:1003], batch=1000) == 0


def test_accounts_are_no_cards() -> None:
    """A column of IBANs, in whose digits a card's could be read."""
    rng = np.random.default_rng(3)
    ibans = []
    for number in rng.integers(10**15, 10**16, 400):
        check = 98 - int(f"{number}102900") % 97
        ibans.append(f"AT{check:02d}{number}")
    assert verdict(ibans[:15]) == 0
    assert verdict(ibans) == 0
    assert verdict([*ibans, "4111111111111111"]) == 1


@pytest.mark.parametrize(
    "values",
    [
        pa.array([["x", "4111111111111111"]]),
        pa.array([{"card": 4111111111111111}]),
        pa.array([[("card", "4111 1111 1111 1111")]], pa.map_(pa.string(), pa.string())),
        pa.array([b"4111111111111111"], pa.binary(16)),
        pa.array([b"\xff 4111111111111111"]),
        pa.array([" 4111111111111111 "], pa.large_string()),
    ],
)
def test_columns_that_nobody_parses_are_looked_at_in_every_type(values: pa.Array[Any]) -> None:
    """Nested ones, bytes that are no text, other layouts of text."""
    with pytest.raises(BadDataError, match="holds card numbers"):
        PanGuard("a.parquet").pans("x", as_written(values))


def test_decimal_numbers_that_nobody_parses_are_no_cards() -> None:
    """A float as text, as CSV has it, and a nested null."""
    texts = pa.array([str(value) for value in np.random.default_rng(0).normal(size=50)])
    assert not PanGuard("a.csv").pans("x", as_written(texts)).any()
    assert not PanGuard("a.csv").pans("x", as_written(pa.array([None, ["x"]]))).any()


def test_nulls_do_not_count() -> None:
    """A sparse column of cards is a column of cards."""
    assert verdict([None] * 1000 + ["4111111111111111"]) == -1
    assert verdict(pa.nulls(5, pa.string())) == 0
