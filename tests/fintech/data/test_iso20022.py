"""Payment messages become transactions: every version, good ones used, bad ones set aside, broken files refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quatrain.core.errors import BadDataError, UsageError
from quatrain.fintech.data.columns import ColumnMap, parse_columns
from quatrain.fintech.data.iso20022 import read_transfers
from quatrain.fintech.data.read import layout_for_model, layout_for_training, read_batches
from quatrain.fintech.data.source import open_source
from quatrain.fintech.data.table import files_of
from quatrain.fintech.data.tokenise import tokenise_file

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:"
PAIN = ["pain.001.001.03", "pain.001.001.09", "pain.001.001.11"]
PACS = ["pacs.008.001.02", "pacs.008.001.08", "pacs.008.001.10"]
# The examples of the SWIFT IBAN registry.
GERMAN, BRITISH, DUTCH = "DE89370400440532013000", "GB29NWBK60161331926819", "NL91ABNA0417164300"
UETR = "8a562c67-ca16-48ba-b074-65581be6f011"
PLAIN = ColumnMap()


class Rejected(list[tuple[int, str | None, str, str | None]]):
    """Collects (row, column, reason, value)."""

    def __call__(self, *, row: int, reason: str, column: str | None = None, value: str | None = None) -> None:
        """Collect one rejection."""
        self.append((row, column, reason, value))


def account(number: str) -> str:
    """Return an account as a message has it."""
    if number.strip()[:2].isalpha():
        return f"<Id><IBAN>{number}</IBAN></Id><Ccy>EUR</Ccy>"
    return f"<Id><Othr><Id>{number}</Id><SchmeNm><Cd>BBAN</Cd></SchmeNm></Othr></Id>"


def pain_transfer(
    amount: str = "12.50", *, ids: str = "<EndToEndId>E1</EndToEndId>", currency: str = "EUR", creditor: str = BRITISH
) -> str:
    """Return one transaction of a pain.001."""
    return (
        f'<CdtTrfTxInf><PmtId>{ids}</PmtId><Amt><InstdAmt Ccy="{currency}">{amount}</InstdAmt></Amt>'
        f"<CdtrAgt><FinInstnId><Othr><Id>ignored</Id></Othr></FinInstnId></CdtrAgt><Cdtr><Nm>A &amp; B</Nm></Cdtr>"
        f"<CdtrAcct>{account(creditor)}</CdtrAcct><RmtInf><Ustrd>thank you</Ustrd></RmtInf></CdtTrfTxInf>"
    )


def pain_block(*transfers: str, debtor: str = GERMAN, date: str = "<Dt>2026-03-01</Dt>") -> str:
    """Return transactions of one debtor."""
    return (
        f"<PmtInf><PmtInfId>P</PmtInfId><PmtMtd>TRF</PmtMtd><NbOfTxs>{len(transfers)}</NbOfTxs>"
        f"<ReqdExctnDt>{date}</ReqdExctnDt><Dbtr><Nm>Somebody</Nm></Dbtr><DbtrAcct>{account(debtor)}</DbtrAcct>"
        f"<DbtrAgt><FinInstnId/></DbtrAgt>{''.join(transfers)}</PmtInf>"
    )


def pacs_transfer(
    amount: str = "12.50",
    *,
    ids: str = "<EndToEndId>E1</EndToEndId><TxId>T1</TxId>",
    currency: str = "EUR",
    debtor: str = GERMAN,
    accepted: str = "",
) -> str:
    """Return one transaction of a pacs.008."""
    return (
        f'<CdtTrfTxInf><PmtId>{ids}</PmtId><IntrBkSttlmAmt Ccy="{currency}">{amount}</IntrBkSttlmAmt>'
        f"<IntrBkSttlmDt>2026-02-01</IntrBkSttlmDt>{accepted}"
        f'<InstdAmt Ccy="USD">99</InstdAmt><ChrgBr>SLEV</ChrgBr><Dbtr><Nm>Somebody</Nm></Dbtr>'
        f"<DbtrAcct>{account(debtor)}</DbtrAcct><CdtrAcct>{account(BRITISH)}</CdtrAcct></CdtTrfTxInf>"
    )


def message(version: str, *parts: str, created: str = "2026-01-31T08:00:00+01:00", n: int | None = None) -> str:
    """Return a message of these parts; `n` is the number of transactions that it states."""
    content = "".join(parts)
    root = "CstmrCdtTrfInitn" if version in PAIN else "FIToFICstmrCdtTrf"
    n = content.count("<CdtTrfTxInf>") if n is None else n
    header = f"<GrpHdr><MsgId>M1</MsgId><CreDtTm>{created}</CreDtTm><NbOfTxs>{n}</NbOfTxs></GrpHdr>"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="{NAMESPACE}{version}">'
        f"<{root}>{header}{content}</{root}></Document>\n"
    )


def read(tmp_path: Path, content: str | bytes, mapping: ColumnMap = PLAIN) -> tuple[list[dict[str, Any]], Rejected]:
    """Return the clean rows and the rejections of a message."""
    path = tmp_path / "message.xml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    source = open_source(path, mapping.csv)
    rejected = Rejected()
    batches = list(read_batches(source, layout_for_model(source, mapping, extras=()), mapping, reject=rejected))
    return [row for batch in batches for row in batch.to_pylist()], rejected


@pytest.mark.parametrize("version", PAIN)
def test_a_customers_order_is_read(tmp_path: Path, version: str) -> None:
    """Several debtors, ids by preference, IBAN and other accounts; a date of execution is no time of payment."""
    ids = "<InstrId>I2</InstrId><EndToEndId>NOTPROVIDED</EndToEndId>"
    uetr = f"<EndToEndId>E3</EndToEndId><UETR>{UETR}</UETR>"
    date = "2026-03-01" if version == PAIN[0] else "<Dt>2026-03-01</Dt>"
    content = message(
        version,
        pain_block(pain_transfer(), pain_transfer("7", ids=ids, creditor="123/45"), date=date),
        pain_block(pain_transfer("1e2", ids=uetr), debtor=" nl91 ABNA 0417 1643 00", date=date),
        pain_block(pain_transfer(ids="<EndToEndId>NOTPROVIDED</EndToEndId>"), debtor="987", date=date),
    )
    rows, rejected = read(tmp_path, content)
    assert rejected == []
    when = datetime(2026, 1, 31, 7, tzinfo=UTC)
    expected = [
        ("E1", when, GERMAN, BRITISH, 12.5),
        ("I2", when, GERMAN, "123/45", 7.0),
        (UETR, when, DUTCH, BRITISH, 100.0),
        ("M1/3", when, "987", BRITISH, 12.5),
    ]
    assert [tuple(row.values()) for row in rows] == expected
    assert list(rows[0]) == ["transaction_id", "timestamp", "customer_id", "terminal_id", "amount"]


@pytest.mark.parametrize("version", PACS)
def test_a_transfer_between_banks_is_read(tmp_path: Path, version: str) -> None:
    """What is settled is the amount; the moment of acceptance comes before the message's."""
    accepted = "<AccptncDtTm>2026-01-30T23:59:59.123456Z</AccptncDtTm>"
    second = f"<EndToEndId>E2</EndToEndId><TxId>T2</TxId><UETR>{UETR}</UETR>"
    content = message(version, pacs_transfer(), pacs_transfer("7", ids=second, debtor="42", accepted=accepted))
    rows, rejected = read(tmp_path, content)
    assert rejected == []
    assert [tuple(row.values()) for row in rows] == [
        ("T1", datetime(2026, 1, 31, 7, tzinfo=UTC), GERMAN, BRITISH, 12.5),
        (UETR, datetime(2026, 1, 30, 23, 59, 59, 123456, tzinfo=UTC), "42", BRITISH, 7.0),
    ]


def test_an_equivalent_amount_is_an_amount(tmp_path: Path) -> None:
    """A debtor may say what leaves the account, in its currency."""
    transfer = pain_transfer().replace(
        '<InstdAmt Ccy="EUR">12.50</InstdAmt>',
        '<EqvtAmt><Amt Ccy="EUR">80.00</Amt><CcyOfTrf>USD</CcyOfTrf></EqvtAmt>',
    )
    rows, rejected = read(tmp_path, message(PAIN[1], pain_block(transfer)))
    assert (rows[0]["amount"], rejected) == (80.0, [])


def test_bad_transactions_are_set_aside_with_their_number(tmp_path: Path) -> None:
    """Accounts, currencies, amounts, times and ids; the good ones are used."""
    wrong = GERMAN[:-1] + "1"
    content = message(
        PACS[1],
        pacs_transfer(ids="<TxId>T0</TxId>"),
        pacs_transfer(ids="<TxId>T1</TxId>", debtor=wrong),
        pacs_transfer(ids="<TxId>T2</TxId>", currency="USD"),
        pacs_transfer("-1", ids="<TxId>T3</TxId>"),
        pacs_transfer("1.000,00", ids="<TxId>T4</TxId>"),
        pacs_transfer(ids="<TxId>T5</TxId>", accepted="<AccptncDtTm>2026-01-31</AccptncDtTm>"),
        pacs_transfer(ids="<TxId>T0</TxId>"),
        pacs_transfer(ids="<TxId>T7</TxId>").replace(' Ccy="EUR"', ""),
        pacs_transfer(ids="<TxId>T8</TxId>").replace("IntrBkSttlmAmt", "Other"),
        pacs_transfer(ids="<TxId>T9</TxId>").replace(f"<IBAN>{GERMAN}</IBAN>", ""),
    )
    rows, rejected = read(tmp_path, content)
    assert [row["transaction_id"] for row in rows] == ["T0", "T9"]
    assert rows[1]["customer_id"] is None
    assert sorted(rejected) == [
        (1, "customer_id", "an IBAN with wrong check digits", "DE893704**********3001"),
        (2, "amount", "not in EUR", "USD"),
        (3, "amount", "negative", "-1"),
        (4, "amount", "not a number", "1.000,00"),
        (5, "timestamp", "no time zone, while other rows of the file have one", "2026-01-31"),
        (6, "transaction_id", "repeated in this file", "T0"),
        (7, "amount", "without a currency", "12.50"),
        (8, "amount", "missing", None),
    ]


def test_the_currency_can_be_said(tmp_path: Path) -> None:
    """Then it, and not the first transaction's, is what the others must have."""
    content = message(PACS[1], pacs_transfer(ids="<TxId>a</TxId>", currency="USD"), pacs_transfer())
    rows, rejected = read(tmp_path, content, parse_columns({"iso20022": {"currency": "EUR"}}, where="test"))
    assert [row["transaction_id"] for row in rows] == ["T1"]
    assert rejected == [(0, "amount", "not in EUR", "USD")]
    with pytest.raises(UsageError, match=r"iso20022\.currency"):
        parse_columns({"iso20022": {"currency": "euro"}}, where="test")


def test_a_mapping_of_other_files_does_not_touch_messages(tmp_path: Path) -> None:
    """Only the zone, and whose values are tokens, apply: a bank's CSV and XML files may lie in one folder."""
    mapping = parse_columns(
        {
            "columns": {"timestamp": "when", "customer_id": "card", "amount": "eur"},
            "timestamp": {"unit": "s", "zone": "Europe/Paris"},
            "csv": {"decimal": ",", "delimiter": ";"},
        },
        where="test",
    )
    rows, rejected = read(tmp_path, message(PACS[1], pacs_transfer(), created="2026-07-01T08:00:00"), mapping)
    assert (rows[0]["timestamp"], rows[0]["amount"]) == (datetime(2026, 7, 1, 6, tzinfo=UTC), 12.5)
    assert rejected == []


@pytest.mark.parametrize("listed", ["card", "customer_id"])
def test_accounts_are_tokenised_like_cards(tmp_path: Path, listed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the name that the mapping gives the column or its own; a card in place of an account is refused without."""
    monkeypatch.setenv("QUATRAIN_PAN_KEY", "ab" * 32)
    content = message(PACS[1], pacs_transfer(debtor="4111111111111111"))
    with pytest.raises(BadDataError, match="column customer_id holds card numbers"):
        read(tmp_path, content)
    mapping = {"columns": {"customer_id": "card"}, "pan": {"columns": [listed]}}
    rows, _ = read(tmp_path, content, parse_columns(mapping, where="test"))
    assert rows[0]["customer_id"].startswith("tok_")
    assert rows[0]["terminal_id"] == BRITISH


def test_prefixes_wrappers_and_encodings_do_not_matter(tmp_path: Path) -> None:
    """A business envelope with a header, another prefix, UTF-16, comments and CDATA; two messages in one envelope."""
    content = message(PACS[1], pacs_transfer(), pacs_transfer(ids="<TxId><!-- no -->T<![CDATA[2]]></TxId>"))
    body = content.partition("\n")[2]
    prefixed = body.replace("<", "<d:").replace("<d:/", "</d:").replace("<d:!", "<!").replace("xmlns=", "xmlns:d=")
    header = '<AppHdr xmlns="urn:iso:std:iso:20022:tech:xsd:head.001.001.02"><Fr><Id>x</Id></Fr></AppHdr>'
    other = body.replace("T1", "T3").replace("T<![CDATA[2]]>", "T4")
    envelope = f"<Envelope>{header}{prefixed}{header}{other}</Envelope>"
    rows, rejected = read(tmp_path, ('<?xml version="1.0" encoding="UTF-16"?>' + envelope).encode("utf-16"))
    assert [row["transaction_id"] for row in rows] == ["T1", "T2", "T3", "T4"]
    assert rejected == []


def test_rows_are_numbered_over_all_batches(tmp_path: Path) -> None:
    """20,000 transactions, some bad; what is held at a time does not grow with the file."""
    bad = {0, 8191, 8192, 19_999}
    parts = [
        pacs_transfer("-1" if i in bad else "1", ids=f"<TxId>T{i}</TxId>", accepted="<AccptncDtTm></AccptncDtTm>")
        for i in range(20_000)
    ]
    rows, rejected = read(tmp_path, message(PACS[2], *parts))
    assert {row for row, *_ in rejected} == bad
    assert len(rows) == 20_000 - len(bad)
    assert max(len(part) for part in read_transfers(tmp_path / "message.xml")) < 2000


GOOD = message(PACS[1], pacs_transfer())
ENTITY = '<!DOCTYPE Document [<!ENTITY a "b">]>'
BOMB = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE Document SYSTEM "file:///etc/hostname">'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (GOOD[: len(GOOD) // 2], r"cannot be read to its end: .* in line 2; was it cut short\?"),
        (GOOD[:-15], "cannot be read to its end: .*was it cut short"),
        (GOOD.replace("<Document", ENTITY + "<Document", 1), r"has a document type \(<!DOCTYPE"),
        (GOOD.replace("<Document", BOMB + "<Document", 1).replace("T1", "&b;"), "has a document type"),
        (GOOD.replace("<Document", OUTSIDE + "<Document", 1), "has a document type"),
        (GOOD.replace("T1", "&a;"), "cannot be read to its end: undefined entity"),
        (GOOD.replace("<TxId>", "<TxID>"), "cannot be read to its end: mismatched tag"),
        (
            GOOD.replace("pacs.008.001.08", "pacs.008.001.07"),
            r"Document of .*pacs.008.001.07, expected .*pain.001.001.03",
        ),
        (GOOD.replace("pacs.008.001.08", "camt.053.001.08"), "Document of .*camt.053.001.08, expected"),
        (GOOD.replace(f' xmlns="{NAMESPACE}pacs.008.001.08"', ""), "Document of no namespace, expected"),
        (GOOD.replace(NAMESPACE, "urn:swift:xsd:"), "Document of urn:swift:xsd:pacs.008.001.08, expected"),
        ("<html><body/></html>", "holds no ISO 20022 message: expected pain.001.001.03"),
        ("<a>" * 70 + "</a>" * 70, "nests elements deeper than 64"),
        (GOOD.replace("<TxId>", "<x>" * 70 + "</x>" * 70 + "<TxId>"), "nests elements deeper than 64"),
        ("transaction_id,timestamp,amount\n", "cannot be read to its end: .*line 1"),
        ("\x00\x01", "cannot be read to its end"),
        (GOOD.replace("UTF-8", "UvF-8"), "names an encoding that cannot be read: unknown encoding: UvF-8"),
        (GOOD.replace("UTF-8", "shift_jis"), "names an encoding that cannot be read"),
        (message(PACS[1]), "has a header but no readable rows"),
        (message(PACS[1], pacs_transfer(), n=2), r"says that it holds 2 transactions \(NbOfTxs\) and holds 1"),
        (message(PACS[1], pacs_transfer(), n=0), None),
        (message(PACS[1], pacs_transfer()).replace("<NbOfTxs>1<", "<NbOfTxs>0001<"), None),
    ],
)
def test_what_is_no_whole_message_is_refused(tmp_path: Path, content: str, reason: str | None) -> None:
    """With its reason: cut short, entities, other versions, other files."""
    if reason is None:
        assert len(read(tmp_path, content)[0]) == 1
        return
    with pytest.raises(BadDataError, match=reason) as caught:
        read(tmp_path, content)
    assert "message.xml" in str(caught.value)


def test_nothing_outside_a_message_is_read(tmp_path: Path) -> None:
    """An element of another namespace, or of the same name elsewhere, says nothing of a transaction."""
    transfer = pacs_transfer().replace(
        "<ChrgBr>",
        '<x:IntrBkSttlmAmt xmlns:x="urn:x" Ccy="USD">1</x:IntrBkSttlmAmt>'
        "<SplmtryData><TxId>no</TxId></SplmtryData><ChrgBr>",
    )
    rows, rejected = read(tmp_path, message(PACS[1], transfer))
    assert (rows[0]["transaction_id"], rows[0]["amount"], rejected) == ("T1", 12.5, [])


def test_values_of_one_transaction_never_reach_the_next(tmp_path: Path) -> None:
    """What a transaction lacks is missing, also when the one before had it."""
    bare = "<CdtTrfTxInf><PmtId><EndToEndId>E9</EndToEndId></PmtId></CdtTrfTxInf>"
    block = pain_block(bare).replace(f"<DbtrAcct>{account(GERMAN)}</DbtrAcct>", "")
    path = tmp_path / "a.xml"
    path.write_text(message(PAIN[1], pain_block(pain_transfer()), block))
    first, second = (each for part in read_transfers(path) for each in part)
    assert (first.customer_id, first.amount, first.currency) == (GERMAN, "12.50", "EUR")
    assert (second.transaction_id, second.timestamp) == ("E9", first.timestamp)
    assert (second.customer_id, second.terminal_id, second.amount, second.currency) == (None, None, None, None)


def test_a_very_long_value_is_not_kept(tmp_path: Path) -> None:
    """It costs its transaction, not the memory of the machine."""
    content = message(PACS[1], pacs_transfer(ids=f"<TxId>{'x' * 5_000_000}</TxId>"), pacs_transfer())
    rows, rejected = read(tmp_path, content)
    assert [row["transaction_id"] for row in rows] == ["T1"]
    assert rejected[0][:3] == (0, "transaction_id", "longer than 256 characters")


def test_messages_are_known_by_name_or_by_their_beginning(tmp_path: Path) -> None:
    """A folder's .xml files are read; a message without an ending is still one; none can be trained on or rewritten."""
    for name in ("a.xml", "b.XML", "c"):
        (tmp_path / name).write_text(GOOD)
        assert open_source(tmp_path / name, PLAIN.csv).kind == "iso20022"
    assert files_of(tmp_path) == [tmp_path / "a.xml"]
    source = open_source(tmp_path / "a.xml", PLAIN.csv)
    with pytest.raises(BadDataError, match="lacks is_fraud"):
        layout_for_training(source, PLAIN)
    with pytest.raises(UsageError, match="is a payment message, which is tokenised as it is read"):
        tokenise_file(tmp_path / "a.xml", PLAIN, tmp_path / "out.xml")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(GOOD)), cut=st.integers(0, 60), garbage=st.binary(max_size=8))
def test_damage_is_refused_or_costs_rows(tmp_path: Path, place: int, cut: int, garbage: bytes) -> None:
    """Whatever is lost or put into a message, nothing but BadDataError comes."""
    content = GOOD.encode()
    try:
        rows, rejected = read(tmp_path, content[:place] + garbage + content[place + cut :])
    except BadDataError as error:
        assert "message.xml" in str(error)  # noqa: PT017 -- some examples raise nothing
    else:
        assert len(rows) + len(rejected) == 1
