"""Verdicts are events: only ever added, undone by another one, and never lost to a race."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from quatrain.core.config import settings
from quatrain.core.errors import MissingExtraError, UserError
from quatrain.fintech import cases
from quatrain.fintech.cases import OPEN, CaseKey, ConflictError

KEY = CaseKey("2018-08-10.csv", "1700001")


def test_a_case_without_events_is_open() -> None:
    """Nobody has to open a case: an alert that nobody touched has no row."""
    assert cases.cases() == {}
    assert (OPEN.status, OPEN.decided) == ("open", None)


def test_a_verdict_is_kept_with_analyst_note_and_time() -> None:
    """What was decided, by whom, when and why can be read again."""
    before = datetime.now(UTC)
    cases.record(KEY, "fraud", seen=0, analyst="ana", note="  called the customer ")
    case = cases.cases()[KEY]
    assert case.status == "fraud"
    assert case.decided is not None
    assert (case.decided.analyst, case.decided.note) == ("ana", "called the customer")
    assert before <= case.decided.at <= datetime.now(UTC)


def test_undo_brings_back_the_verdict_before() -> None:
    """An undo takes the last verdict back, not all of them, and the events all stay."""
    cases.record(KEY, "fraud", seen=0, analyst="ana")
    cases.record(KEY, "dismissed", seen=1, analyst="ben")
    cases.record(KEY, "undo", seen=2, analyst="ben")
    assert cases.cases()[KEY].status == "fraud"
    cases.record(KEY, "undo", seen=3, analyst="ana")
    case = cases.cases()[KEY]
    assert case.status == "open"
    assert [event.action for event in case.events] == ["fraud", "dismissed", "undo", "undo"]


def test_undo_of_an_open_case_is_refused() -> None:
    """There is nothing to take back."""
    with pytest.raises(UserError, match="no verdict to take back"):
        cases.record(KEY, "undo", seen=0, analyst="ana")


def test_a_verdict_on_an_outdated_view_is_refused() -> None:
    """Who decided last is told, and the second verdict is not recorded."""
    cases.record(KEY, "fraud", seen=0, analyst="ana")
    with pytest.raises(ConflictError, match=r"ana confirmed it as fraud at \d\d:\d\d UTC"):
        cases.record(KEY, "dismissed", seen=0, analyst="ben")
    assert len(cases.cases()[KEY].events) == 1


def test_of_two_verdicts_at_once_one_wins() -> None:
    """The ledger itself refuses a second event with the same number."""
    barrier, outcomes = threading.Barrier(2), []

    def decide(analyst: str) -> None:
        barrier.wait()
        try:
            cases.record(KEY, "fraud", seen=0, analyst=analyst)
            outcomes.append("kept")
        except ConflictError:
            outcomes.append("refused")

    threads = [threading.Thread(target=decide, args=(name,)) for name in ("ana", "ben")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["kept", "refused"]
    assert len(cases.cases()[KEY].events) == 1


def test_the_same_id_in_two_files_is_two_cases() -> None:
    """Ids are only unique within the file they came in."""
    cases.record(KEY, "fraud", seen=0, analyst="ana")
    cases.record(CaseKey("2018-08-11.csv", KEY.transaction_id), "dismissed", seen=0, analyst="ana")
    assert [case.status for case in cases.cases().values()] == ["fraud", "dismissed"]


@pytest.mark.parametrize("statement", ["UPDATE fintech_case_events SET note = 'x'", "DELETE FROM fintech_case_events"])
def test_events_can_neither_be_changed_nor_removed(statement: str) -> None:
    """Not even by hand: the database itself refuses."""
    cases.record(KEY, "fraud", seen=0, analyst="ana")
    engine = sa.create_engine(settings().ledger_url, poolclass=sa.NullPool)
    with pytest.raises(sa.exc.IntegrityError, match="only added"), engine.begin() as connection:
        connection.execute(sa.text(statement))
    assert cases.cases()[KEY].events[0].note == ""


def test_the_revision_grows_with_every_event() -> None:
    """Caches are keyed by it."""
    assert cases.revision() == 0
    cases.record(KEY, "fraud", seen=0, analyst="ana")
    cases.record(KEY, "undo", seen=1, analyst="ana")
    assert cases.revision() == 2


def test_a_note_that_is_too_long_is_refused() -> None:
    """The reason names both lengths."""
    with pytest.raises(UserError, match="2,000 characters, got 2,001"):
        cases.record(KEY, "fraud", seen=0, analyst="ana", note="x" * 2001)


def test_a_ledger_that_cannot_be_opened_is_an_error_in_words(tmp_path: Path) -> None:
    """The analyst reads what is wrong, not a driver's exception."""
    (tmp_path / "ledger.db").write_text("this is not a database, but it is long enough to be taken for one" * 40)
    with pytest.raises(UserError, match="file is not a database; check that it is reachable and writable"):
        cases.cases(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_verdicts_go_where_the_runs_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain postgresql:// URL is taken as the job ledger takes it, with the driver that is shipped."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"psycopg.*pip install 'quatrain-core\[postgres\]'"):
        cases.cases("postgresql://127.0.0.1/ledger")


@given(actions=st.lists(st.sampled_from(["fraud", "dismissed", "undo"]), max_size=12))
def test_the_status_is_that_of_a_stack(actions: list[str]) -> None:
    """Verdicts push, undos pop; the top is the status. Undos beyond the bottom are refused."""
    stack: list[str] = []
    events: list[cases.Event] = []
    for action in actions:
        if action == "undo" and not stack:
            continue
        stack = stack[:-1] if action == "undo" else [*stack, action]
        events.append(cases.Event(action=action, at=datetime.now(UTC), analyst="ana"))
    assert cases._case(tuple(events)).status == (stack[-1] if stack else "open")
