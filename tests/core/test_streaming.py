"""Streams: every item answered once and in order, whatever fails, in bounded memory and without threads left over."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quatrain.core.backends.memory import Halving, is_out_of_memory
from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.open import Bundle
from quatrain.core.channels import Channel
from quatrain.core.inference import InvalidInputError, InvalidOutputError, Model, load_model
from quatrain.core.streaming import stream

SPEC = (TensorSpec(name="x", dtype="float32", shape=("batch", 2)),)


def total(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the sum of each row."""
    return {"sum": arrays["x"].sum(1)}


def row(value: float) -> NDArray[np.float32]:
    """Return one row."""
    return np.array([value, 1], dtype=np.float32)


def own_threads() -> list[str]:
    """Return the names of the threads that streams started and that still live."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("quatrain-")]


@pytest.fixture
def model(seal_doubling: Callable[..., Bundle]) -> Model:
    """Return a loaded model that doubles (batch, 2)."""
    return load_model(seal_doubling().path, threads=1)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 9), max_size=12), batch_size=st.integers(1, 12))
def test_every_item_is_answered_once_and_in_order(model: Model, sizes: list[int], batch_size: int) -> None:
    """Rows (size 0 stands for one) and batches of any size, mixed."""
    counter = itertools.count()
    items = [np.array([[next(counter), 0] for _ in range(size or 1)], np.float32) for size in sizes]
    fed = [item if size else item[0] for item, size in zip(items, sizes, strict=True)]
    answers = list(model.stream(fed, batch_size=batch_size))
    assert [answer.index for answer in answers] == list(range(len(sizes)))
    for item, answer in zip(items, answers, strict=True):
        np.testing.assert_array_equal(answer["doubled"], 2 * item)
    assert own_threads() == []


def test_decoding_goes_on_in_several_threads_and_keeps_the_order(model: Model) -> None:
    """The second item is decoded while the first still is, and is answered after it."""
    both = threading.Barrier(2, timeout=30)

    def decode(value: int) -> NDArray[np.float32]:
        if value < 2:
            both.wait()
        return row(value)

    answers = list(model.stream(range(20), decode=decode, workers=2, batch_size=4))
    assert [float(answer["doubled"][0, 0]) for answer in answers] == [2.0 * value for value in range(20)]


def test_a_bad_item_has_its_error_and_its_neighbours_their_answers(model: Model) -> None:
    """A file that cannot be read, a wrong type and a NaN, between good ones."""

    def decode(value: float) -> Any:
        if value == 1:
            raise OSError("cannot read b.png")
        return np.array([1, 2]) if value == 2 else row(np.nan if value == 3 else value)

    answers = list(model.stream([0.0, 1.0, 2.0, 3.0, 4.0], decode=decode))
    assert [type(answer.error) for answer in answers] == [
        type(None),
        OSError,
        InvalidInputError,
        InvalidInputError,
        type(None),
    ]
    assert float(answers[4]["doubled"][0, 0]) == 8.0
    with pytest.raises(OSError, match=r"cannot read b\.png"):
        answers[1]["doubled"]


def test_an_answer_that_is_no_number_is_that_items_alone() -> None:
    """The batch is computed again, item by item."""

    def compute(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if (arrays["x"][:, 0] == 3).any():
            raise InvalidOutputError("no number")
        return total(arrays)

    answers = list(stream([row(value) for value in range(6)], compute, inputs=SPEC))
    assert [answer.index for answer in answers if answer.error is not None] == [3]
    assert [float(answer["sum"][0]) for answer in answers if answer.error is None] == [1, 2, 3, 5, 6]


@pytest.mark.parametrize("where", ["source", "decoder", "model"])
def test_a_bug_is_raised_after_the_answers_before_it(where: str) -> None:
    """It is not an item's error, and no thread swallows it."""

    def source() -> Iterator[int]:
        yield from range(5)
        if where == "source":
            raise KeyError("bug")
        yield from range(5, 9)

    def decode(value: int) -> NDArray[np.float32]:
        if where == "decoder" and value == 5:
            raise KeyError("bug")
        return row(value)

    def compute(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if where == "model" and (arrays["x"][:, 0] == 5).any():
            raise KeyError("bug")
        return total(arrays)

    seen: list[int] = []
    answers = stream(source(), compute, inputs=SPEC, decode=decode, batch_size=1)
    with pytest.raises(KeyError, match="bug"):
        seen.extend(answer.index for answer in answers)
    assert seen == [0, 1, 2, 3, 4]
    assert own_threads() == []


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_closing_early_ends_all_threads_and_the_source(model: Model, taken: int) -> None:
    """An endless source is read no further than what was on its way."""
    read: list[int] = []
    closed: list[bool] = []

    def endless() -> Iterator[NDArray[np.float32]]:
        try:
            for value in itertools.count():
                read.append(value)
                yield row(value)
        finally:
            closed.append(True)

    answers = model.stream(endless(), batch_size=2, ahead=4)
    for _ in range(taken):
        next(answers)
    answers.close()  # type: ignore[attr-defined]  # it is a generator
    assert own_threads() == []
    assert closed == ([True] if taken else [])
    assert len(read) <= taken + 30


def test_what_waits_is_bounded_however_slow_the_reader_of_answers_is() -> None:
    """Read are at most the items that wait, those in batches on their way, and those in the hands of the threads."""
    read = 0

    def source() -> Iterator[NDArray[np.float32]]:
        nonlocal read
        for value in range(10_000):
            read += 1
            yield row(value)

    answers = stream(source(), total, inputs=SPEC, batch_size=8, ahead=16)
    most = 0
    for n, _ in enumerate(answers, start=1):
        most = max(most, read - n)
    assert read == 10_000
    assert most <= 16 + 5 * 8 + 4


def test_an_answer_does_not_keep_its_batch() -> None:
    """Who keeps one row of a thousand keeps no thousand."""
    answers = list(stream([row(value) for value in range(8)], total, inputs=SPEC, batch_size=8))
    assert all(answer["sum"].base is None for answer in answers)


def test_items_of_other_shapes_are_never_joined() -> None:
    """A free dimension beside the batch may change from item to item."""
    spec = (TensorSpec(name="x", dtype="float32", shape=("batch", "length")),)
    items = [np.ones((1, length), np.float32) for length in (2, 2, 5, 2)]
    answers = list(stream(items, total, inputs=spec, batch_size=8))
    assert [float(answer["sum"][0]) for answer in answers] == [2, 2, 5, 2]


@pytest.mark.parametrize("option", ["batch_size", "workers", "ahead"])
def test_sizes_below_one_are_refused(model: Model, option: str) -> None:
    """At the call, not at the first answer."""
    with pytest.raises(ValueError, match="must be at least 1"):
        model.stream([], **{option: 0})


class Small:
    """Memory for so many rows at most."""

    def __init__(self, most: int, error: type[Exception] = MemoryError) -> None:
        self.most = most
        self.error = error
        self.calls: list[int] = []

    def __call__(self, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the sums, or fail as an allocator does."""
        n = len(arrays["x"])
        self.calls.append(n)
        if n > self.most:
            raise self.error("CUDA out of memory. Tried to allocate 2 GiB")
        return total(arrays)


def test_a_batch_that_does_not_fit_is_halved_and_so_are_later_ones(caplog: pytest.LogCaptureFixture) -> None:
    """What did not fit once is not tried again, and no row is lost."""
    memory = Small(most=20)
    halving = Halving(memory)
    x = np.arange(128, dtype=np.float32).reshape(64, 2)
    for _ in range(2):
        np.testing.assert_array_equal(halving({"x": x})["sum"], x.sum(1))
    assert memory.calls == [64, 32, 16, 16, 16, 16, *[16] * 4]
    assert [record.getMessage().split(";")[1] for record in caplog.records] == [
        " going on with 32",
        " going on with 16",
    ]


def test_a_stream_goes_on_when_memory_runs_out() -> None:
    """All answers come, in smaller batches."""
    answers = list(stream([row(value) for value in range(30)], Small(most=3), inputs=SPEC, batch_size=16))
    assert [float(answer["sum"][0]) for answer in answers] == [value + 1.0 for value in range(30)]


def test_one_row_that_does_not_fit_and_other_errors_are_raised() -> None:
    """Halving helps against nothing else."""
    one = np.ones((1, 2), np.float32)
    with pytest.raises(MemoryError, match="out of memory"):
        Halving(Small(most=0))({"x": one})
    with pytest.raises(RuntimeError, match="out of memory"):
        Halving(Small(most=0, error=RuntimeError))({"x": one})

    def fails(_: object) -> dict[str, NDArray[Any]]:
        raise RuntimeError("an illegal memory access")

    with pytest.raises(RuntimeError, match="illegal"):
        Halving(fails)({"x": np.ones((4, 2), np.float32)})


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (RuntimeError("[ONNXRuntimeError] : 6 : BFCArena::AllocateRawInternal Failed to allocate memory for 8"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("Non-zero status code returned while running Conv node"), False),
    ],
)
def test_an_allocators_words_are_known(error: Exception, is_memory: bool) -> None:
    """Of ONNX Runtime, CUDA and the C++ library."""
    assert is_out_of_memory(error) is is_memory


def test_a_closed_channel_wakes_who_waits_for_room() -> None:
    """Or its thread would stay for ever."""
    channel: Channel[int] = Channel(1)
    assert channel.put(1)
    results: list[bool] = []
    waiting = threading.Thread(target=lambda: results.append(channel.put(2)))
    waiting.start()
    channel.close()
    waiting.join(timeout=30)
    assert results == [False]
    assert list(channel) == []
