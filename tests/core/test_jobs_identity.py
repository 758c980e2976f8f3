"""What makes a unit of work the same one: its key, and the snapshot of a file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.core.jobs.identity import Job, Snapshot, Stamp, plain, take_snapshot, unit_key

texts = st.text(max_size=8)
parts = st.tuples(texts, texts, texts, st.sampled_from([".csv", ".parquet", ""]))


def key_of(key_parts: tuple[str, str, str, str]) -> str:
    """Return the key of (model, config, input, suffix)."""
    model, config, content, suffix = key_parts
    return unit_key(model_digest=model, config_digest=config, input_digest=content, suffix=suffix)


@given(parts, parts)
def test_keys_are_equal_exactly_when_all_parts_are(
    first: tuple[str, str, str, str], second: tuple[str, str, str, str]
) -> None:
    """No part can take over characters of its neighbour."""
    assert (key_of(first) == key_of(second)) == (first == second)


@given(texts, texts)
def test_characters_cannot_move_between_parts(left: str, right: str) -> None:
    """The key of ("ab", "c") is not that of ("a", "bc")."""
    whole = key_of((left + right, "", "x", ".csv"))
    assert (key_of((left, right, "x", ".csv")) == whole) == (right == "")


@given(st.binary(max_size=64), st.sampled_from(["a.csv", "b.csv", "B.CSV"]))
def test_the_key_does_not_know_the_file_name(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    """Only content, model, config and the kind of file count."""
    path = tmp_path_factory.mktemp("in") / name
    path.write_bytes(content)
    job = Job(name="toy", app="toy", out=path.parent, model_digest="m", config_digest="c")
    expected = unit_key(
        model_digest="m", config_digest="c", input_digest=hashlib.sha256(content).hexdigest(), suffix=".csv"
    )
    assert job.unit_key(input_digest=take_snapshot(path).digest, suffix=path.suffix) == expected


def test_jobs_differ_by_name_and_out_folder() -> None:
    """The model and the config do not make another job: its lock and its history stay one."""
    job = Job(name="a", app="x", out=Path("/o"), model_digest="m", config_digest="c")
    assert job.scope == Job(name="a", app="x", out=Path("/o"), model_digest="n", config_digest="d").scope
    assert job.scope != Job(name="b", app="x", out=Path("/o"), model_digest="m", config_digest="c").scope
    assert job.scope != Job(name="a", app="x", out=Path("/p"), model_digest="m", config_digest="c").scope


def test_a_snapshot_tells_a_write_that_restores_the_times(tmp_path: Path) -> None:
    """The time of the last status change cannot be set back."""
    path = tmp_path / "day.csv"
    path.write_text("1\n")
    before = take_snapshot(path)
    assert take_snapshot(path).is_same_as(before)
    path.write_text("2\n")
    os.utime(path, ns=(before.stamp.mtime_ns, before.stamp.mtime_ns))
    assert not take_snapshot(path).is_same_as(before)


@pytest.mark.parametrize(("age_ns", "is_lasting"), [(1_000_000_000, False), (2_000_000_001, True)])
def test_only_an_old_stamp_is_believed(age_ns: int, is_lasting: bool) -> None:
    """A file read within two seconds of its last change may have changed again unseen."""
    stamp = Stamp(size=1, mtime_ns=0, ctime_ns=5, inode=1, device=1)
    assert Snapshot(digest="d", stamp=stamp, taken_ns=5 + age_ns).is_lasting == is_lasting


@given(st.text(alphabet=st.characters(codec=None)))
def test_plain_text_is_what_databases_take(text: str) -> None:
    """No NUL and no lone surrogate; ordinary text stays as it is."""
    shown = plain(text)
    assert "\0" not in shown
    shown.encode()
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert shown == text.replace("\0", "\\x00")
