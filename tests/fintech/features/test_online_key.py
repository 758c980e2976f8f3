"""One key's history holds exact sums of any size, and counts ids that come, leave and come late."""

from __future__ import annotations

from tests.fintech.features.leaks import seeded

from quatrain.fintech.features.online_key import Distinct, KeyHistory, Largest
from quatrain.fintech.features.transaction import Stored


def stored(at_us: int, id_: str, amount: int = 1, other: str | None = None) -> Stored:
    """Return an event whose third entity is `other`."""
    return Stored(at_us, id_.encode(), amount, (None, None, other, None))


def test_sums_past_64_bits_stay_exact() -> None:
    """Amounts that no sum of 64 bits holds, in order and late, and back to 64 bits once they have left."""
    history = KeyHistory([], [])
    for i in range(4):
        history.append(stored(2 * i, "a", 2**62))
    assert history.insert(stored(3, "late", 2**62 + 1)) == 2
    assert list(history.sums) == [2**62, 2**63, 3 * 2**62 + 1, 4 * 2**62 + 1, 5 * 2**62 + 1]
    for i in range(100):
        history.append(stored(100 + i, "a"))
    for _ in range(80):
        history.pop()
    assert len(history) == 25
    last = len(history.ids) - 1
    assert history.sums[last] - history.sums[last - 10] == 10
    assert type(history.sums).__name__ == "array"


def test_distinct_ids_agree_with_a_set() -> None:
    """Over a thousand steps of arriving in order, arriving late and leaving: a set of the window says the same."""
    random = seeded(0)
    windows_us = (5, 20, 50)
    distinct = Distinct(2, windows_us)
    history = KeyHistory([2], [distinct])
    held: list[tuple[int, str, str | None]] = []
    at_us = 0
    for i in range(1000):
        at_us += random.choice((0, 0, 1, 3))
        late_us = random.choice((0, 0, 0, 0, 7))
        event = (max(at_us - late_us, held[0][0] if held else 0), f"{i:04d}", random.choice((None, "u", "v", "w", "x")))
        is_latest = not held or event[:2] > max(held)[:2]
        (history.append if is_latest else history.insert)(stored(event[0], event[1], other=event[2]))
        held = sorted([*held, event], key=lambda e: e[:2])
        while held[0][0] <= at_us - 60:
            history.pop()
            del held[0]
        now_us = held[-1][0]
        wanted = [len({other for at, _, other in held if at > now_us - w} - {None}) for w in windows_us]
        assert list(distinct.look(history, len(history.ids) - 1)) == wanted
        # Nobody asks after each event.
        if random.random() < 0.7:
            assert list(distinct.latest(history)) == wanted


def test_largest_amounts_agree_with_a_scan() -> None:
    """Over a thousand steps of arriving in order, arriving late, leaving and not being asked: a scan says the same."""
    random = seeded(1)
    windows_us = (50, 20, 5)
    largest = Largest(windows_us)
    history = KeyHistory([], [], largest)
    held: list[tuple[int, str, int]] = []
    at_us = 0
    for step in range(1000):
        at_us += random.randrange(4)
        late = at_us - random.randrange(30) if step % 7 == 3 else at_us
        event = (max(late, held[0][0] if held else 0), f"{step:04}", random.randrange(9))
        is_latest = not held or event[:2] > held[-1][:2]
        (history.append if is_latest else history.insert)(stored(event[0], event[1], event[2]))
        held = sorted([*held, event])
        while held[0][0] < at_us - 80:
            history.pop()
            del held[0]
        if is_latest and step % 5:
            expected = [max([e[2] for e in held[:-1] if e[0] > event[0] - w], default=0) for w in windows_us]
            assert [*largest.latest(history)] == expected
            assert [*largest.look(history, len(history.ids) - 1)] == expected
