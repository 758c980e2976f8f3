"""Files that come ahead of the inputs, and units that build on what earlier ones published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quatrain.core.errors import BadDataError, UserError
from quatrain.core.jobs.config import JobConfig
from quatrain.core.jobs.engine import run_job
from quatrain.core.jobs.feed import Feed
from quatrain.core.jobs.history import job_run
from quatrain.core.jobs.report import JobReport
from quatrain.core.jobs.sink import Sink


def remember(path: Path, sink: Sink) -> None:
    """Publish the file's text; refuse what says so."""
    text = path.read_text()
    if text == "nonsense":
        raise BadDataError(f"{path.name} is nonsense")
    sink.count(1)
    sink.write("texts", pa.table({"text": [text]}))


def chain(path: Path, sink: Sink) -> None:
    """Publish the file's text behind those of every unit before it."""
    remember(path, sink)
    before = [text for file in sink.earlier("texts") if file.path.is_file() for text in texts(file.path)]
    sink.write("chain", pa.table({"text": [*before, path.read_text()]}))


def texts(path: Path) -> list[str]:
    """Return what a published file holds."""
    return [str(text) for text in pq.read_table(path)["text"].to_pylist()]


class Desk:
    """An inbox, a folder of files that come ahead of it, and a job that chains texts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("in", "ahead"):
            (root / name).mkdir()

    def put(self, name: str, text: str) -> None:
        """Write a file below the root."""
        (self.root / name).write_text(text)

    def run(self, *, model: str = "m", digest: str = "d", is_required: bool = False, **options: Any) -> JobReport:
        """Run the job with the feed."""
        return run_job(
            JobConfig(**{"inputs": (self.root / "in",), "out": self.root / "out", **options}),
            name="toy/chain",
            app="toy",
            model_digest=model,
            config_digest="c",
            process=chain,
            ahead=[Feed(inputs=(self.root / "ahead",), process=remember, digest=digest, is_required=is_required)],
        )

    def chain_of(self, stem: str) -> list[str]:
        """Return the only chain that a file made."""
        (path,) = (self.root / "out" / "chain").glob(f"{stem}-*.parquet")
        return texts(path)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Return an empty desk."""
    return Desk(tmp_path)


def test_a_feed_comes_first_and_once(desk: Desk) -> None:
    """Whatever it is called; a new model does not do it again, another digest does."""
    desk.put("in/a.csv", "one")
    desk.put("ahead/z.csv", "past")
    first = desk.run()
    assert [unit.path.rpartition("/")[2] for unit in job_run(first.run_id).files] == ["z.csv", "a.csv"]
    assert desk.chain_of("a") == ["past", "one"]
    assert desk.run().units["skipped"] == 2
    assert desk.run(model="other").units["done"] == 1
    assert desk.run(model="other", digest="e").units["done"] == 1


def test_a_file_may_be_fed_and_processed(desk: Desk) -> None:
    """The two are units of their own, although the content is one."""
    desk.put("in/a.csv", "same")
    desk.put("ahead/a.csv", "same")
    assert desk.run().units["done"] == 2


def test_since_and_dry_run_know_of_feeds(desk: Desk) -> None:
    """Old files of a feed are taken up all the same, and a rehearsal names them."""
    desk.put("in/a.csv", "one")
    desk.put("ahead/z.csv", "past")
    plan = desk.run(dry_run=True, since="2999-01-01T00:00:00Z").plan
    assert [(Path(step["file"]).name, step["action"]) for step in plan] == [("z.csv", "process")]


def test_each_unit_sees_what_was_settled_before_it(desk: Desk) -> None:
    """Files of the same run in their order, then those of later runs; refused ones leave nothing."""
    for name, text in (("a", "one"), ("b", "two"), ("c", "nonsense")):
        desk.put(f"in/{name}.csv", text)
    desk.run(max_bad_ratio=1)
    desk.put("in/a2.csv", "three")
    desk.run(max_bad_ratio=1)
    assert desk.chain_of("b") == ["one", "two"]
    assert desk.chain_of("a2") == ["one", "two", "three"]


def test_a_unit_done_again_gives_the_same_bytes(desk: Desk) -> None:
    """What came after it the first time is not there for it the second time."""
    for name, text in (("a", "one"), ("b", "two"), ("c", "three")):
        desk.put(f"in/{name}.csv", text)
    desk.run()
    (path,) = (desk.root / "out" / "chain").glob("b-*.parquet")
    expected = path.read_bytes()
    path.unlink()
    assert desk.run().units == {"new": 1, "done": 1, "refused": 0, "failed": 0, "skipped": 2}
    assert path.read_bytes() == expected


def test_content_that_was_processed_again_counts_once(desk: Desk) -> None:
    """With another model the newest result of each content counts, in the order of those results."""
    desk.put("in/a.csv", "one")
    desk.put("in/b.csv", "two")
    desk.run()
    (desk.root / "in" / "b.csv").unlink()
    desk.run(model="other")
    desk.put("in/c.csv", "three")
    desk.run(model="other")
    assert desk.chain_of("c") == ["two", "one", "three"]


@pytest.mark.parametrize("text", ["nonsense", "good"])
def test_a_required_file_that_is_not_done_ends_the_run(desk: Desk, text: str) -> None:
    """Nothing is built without it, also in the run after the one that refused it."""
    desk.put("in/a.csv", "one")
    desk.put("ahead/z.csv", text)
    if text == "good":
        assert desk.run(is_required=True).units["done"] == 2
        assert desk.run(is_required=True).units["skipped"] == 2
        return
    for reason in ("z.csv is nonsense", "refused in run"):
        with pytest.raises(UserError, match=f"z.csv is needed before anything else, but it is not done: {reason}"):
            desk.run(is_required=True)
    assert not (desk.root / "out" / "chain").exists()
