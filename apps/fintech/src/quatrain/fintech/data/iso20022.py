"""Credit transfers out of ISO 20022 messages (pain.001, pacs.008), transaction by transaction.

A transaction's id is its UETR, else its TxId, EndToEndId or InstrId, else the message's id with its
number. Its time is AccptncDtTm, else the message's CreDtTm, and never ReqdExctnDt: a requested
execution date is a day, often ahead, and does not say when the payment was made. Its amount is what
the debtor instructed (pain.001) or what the banks settle (pacs.008). The debtor's account is the
customer, the creditor's is the terminal.

Only open elements are held in memory. A document type is refused, so no file can define entities.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.iban import is_iban
from quatrain.fintech.data.pan import masked

_NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:"
_DOCUMENT = re.compile(r"(?:(\S*) )?Document")
# In order of preference. EndToEndId says NOTPROVIDED when the debtor gave none (EPC and CBPR+ usage rules).
_IDS = ("UETR", "TxId", "EndToEndId", "InstrId")
_NO_ID = "NOTPROVIDED"
_CURRENCY = "Ccy"
_CHUNK_BYTES = 1 << 18
# No message of these kinds nests deeper, or has longer values in what is read.
_DEEPEST = 64
_LONGEST = 1024


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One transaction; its number in the file, and texts as the message has them."""

    row: int
    transaction_id: str | None
    timestamp: str | None
    # IBANs without spaces and in capitals, other account numbers as they are.
    customer_id: str | None
    terminal_id: str | None
    amount: str | None
    currency: str | None
    # Reason, column and value, where something is wrong that a table could not show.
    problem: tuple[str, str, str | None] | None = None


@dataclass(frozen=True, kw_only=True)
class _Form:
    """A kind of message: its root element, what holds transactions with the same debtor, and amounts."""

    root: str
    block: str | None
    debtor: str
    amounts: tuple[str, ...]


_TRANSACTION = "CdtTrfTxInf"
_PAIN = _Form(root="CstmrCdtTrfInitn", block="PmtInf", debtor="block", amounts=("Amt/InstdAmt", "Amt/EqvtAmt/Amt"))
_PACS = _Form(root="FIToFICstmrCdtTrf", block=None, debtor="transaction", amounts=("IntrBkSttlmAmt",))
_FORMS = {
    **{f"pain.001.001.{version}": _PAIN for version in ("03", "09", "11")},
    **{f"pacs.008.001.{version}": _PACS for version in ("02", "08", "10")},
}


def read_transfers(path: Path) -> Iterator[list[Transfer]]:
    """Yield the transactions of a file, some hundred at a time.

    Raises BadDataError for a file that is no message of a known version, has a document type, is
    damaged, or holds another number of transactions than it says.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    messages = _Messages(path.name, parser)
    with path.open("rb") as file:
        is_whole = False
        while not is_whole:
            chunk = file.read(_CHUNK_BYTES)
            is_whole = not chunk
            try:
                parser.Parse(chunk, is_whole)
            except expat.ExpatError as error:
                reason = expat.errors.messages[error.code]
                raise BadDataError(
                    f"{path.name} cannot be read to its end: {reason} in line {error.lineno}; was it cut short?"
                ) from error
            except (LookupError, ValueError) as error:
                raise BadDataError(f"{path.name} names an encoding that cannot be read: {error}") from error
            transfers = messages.take()
            if transfers:
                yield transfers
    messages.finish()


def first_currency(path: Path) -> str | None:
    """Return the first currency that a file names, None where there is none; raises BadDataError for no message."""
    for transfers in read_transfers(path):
        return next((each.currency for each in transfers if each.currency), None)
    return None


@dataclass
class _Node:
    """An element that is read, or leads to one."""

    children: dict[str, _Node] = field(default_factory=dict)
    # Where the element's text goes, and under which name.
    store: dict[str, str] | None = None
    key: str = ""
    # What starts anew with the element: "block" or "transaction".
    begins: str = ""


class _Messages:
    """What expat calls; follows the elements that matter and skips the others."""

    def __init__(self, file: str, parser: expat.XMLParserType) -> None:
        self._file = file
        self._parser = parser
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_document_type
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        self._values: dict[str, dict[str, str]] = {"message": {}, "block": {}, "transaction": {}}
        self._form: _Form | None = None
        # The elements that lead to the present one, inside a Document.
        self._path: list[_Node] = []
        self._depth = 0
        self._skipped = 0
        self._text: list[str] = []
        self._n_rows = 0
        self._n_in_message = 0
        self._transfers: list[Transfer] = []

    def take(self) -> list[Transfer]:
        """Return the transactions since the last call."""
        transfers, self._transfers = self._transfers, []
        return transfers

    def finish(self) -> None:
        """Raise BadDataError unless a message was there."""
        if self._form is None:
            raise BadDataError(f"{self._file} holds no ISO 20022 message: expected {_known()}")

    def _refuse_document_type(self, *_: object) -> None:
        # Entities, which only a document type can define, make a small file endless or read other files.
        raise BadDataError(f"{self._file} has a document type (<!DOCTYPE ...>), which no ISO 20022 message has")

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise BadDataError(f"{self._file} nests elements deeper than {_DEEPEST}; no ISO 20022 message does")
        if self._skipped:
            self._skipped += 1
        elif not self._path:
            self._begin_document(name)
        else:
            self._begin_known(self._path[-1].children.get(name), attributes)

    def _take_text(self, text: str) -> None:
        if not self._skipped and len(self._text) < _LONGEST:
            self._text.append(text[:_LONGEST])

    def _end(self, _: str) -> None:
        self._depth -= 1
        if self._skipped:
            self._skipped -= 1
        elif self._path:
            node = self._path.pop()
            if node.store is not None:
                self._parser.CharacterDataHandler = None
                node.store[node.key] = "".join(self._text).strip()
            elif node.begins == "transaction":
                self._transfers.append(self._transfer())
            if not self._path:
                self._end_document()

    def _begin_document(self, name: str) -> None:
        """Go into a message; what is around it, such as a business header, is passed by."""
        match = _DOCUMENT.fullmatch(name)
        if match is None:
            return
        namespace = match[1] or ""
        version = namespace.removeprefix(_NAMESPACE)
        if version == namespace or version not in _FORMS:
            raise BadDataError(
                f"{self._file} has a Document of {masked(namespace)[:80] or 'no namespace'}, expected {_NAMESPACE} "
                f"with one of {_known()}"
            )
        self._form = _FORMS[version]
        self._n_in_message = 0
        for values in self._values.values():
            values.clear()
        self._path.append(self._tree(self._form, namespace))

    def _begin_known(self, node: _Node | None, attributes: dict[str, str]) -> None:
        if node is None:
            self._skipped = 1
            return
        self._path.append(node)
        if node.begins:
            self._values[node.begins].clear()
        if node.store is not None:
            # Called for what is read only: most text of a message is not.
            self._parser.CharacterDataHandler = self._take_text
            self._text.clear()
            if _CURRENCY in attributes:
                node.store[_CURRENCY] = attributes[_CURRENCY]

    def _end_document(self) -> None:
        stated = self._values["message"].get("NbOfTxs", "")
        if stated.lstrip("0") not in {"", str(self._n_in_message)}:
            raise BadDataError(
                f"{self._file} says that it holds {masked(stated)[:20]} transactions (NbOfTxs) and holds "
                f"{self._n_in_message}; was it put together wrongly?"
            )

    def _tree(self, form: _Form, namespace: str) -> _Node:
        """Return the paths of what is read, from Document on."""
        top = _Node()
        wanted = {f"GrpHdr/{name}": ("message", name) for name in ("MsgId", "CreDtTm", "NbOfTxs")}
        block = f"{form.block}/" if form.block else ""
        transaction = f"{block}{_TRANSACTION}/"
        wanted |= {f"{transaction}PmtId/{name}": ("transaction", name) for name in _IDS}
        wanted |= {f"{transaction}{amount}": ("transaction", amount) for amount in form.amounts}
        wanted[f"{transaction}AccptncDtTm"] = ("transaction", "AccptncDtTm")
        for who, scope, path in (
            ("Dbtr", form.debtor, block if form.debtor == "block" else transaction),
            ("Cdtr", "transaction", transaction),
        ):
            for account in ("IBAN", "Othr/Id"):
                wanted[f"{path}{who}Acct/Id/{account}"] = (scope, f"{who} {account}")
        for path, (scope, key) in wanted.items():
            node = top
            for element in (form.root, *path.split("/")):
                node = node.children.setdefault(f"{namespace} {element}", _Node())
                node.begins = "transaction" if element == _TRANSACTION else "block" if element == form.block else ""
            node.store, node.key = self._values[scope], key
        return top

    def _transfer(self) -> Transfer:
        form = self._form or _PAIN
        message, own = self._values["message"], self._values["transaction"]
        row = self._n_rows
        self._n_rows += 1
        self._n_in_message += 1
        given = (own.get(name) for name in _IDS)
        numbered = f"{message['MsgId']}/{row}" if message.get("MsgId") else None
        customer = _account(self._values[form.debtor], "Dbtr")
        terminal = _account(own, "Cdtr")
        currency = own.get(_CURRENCY)
        amount = next((own[name] for name in form.amounts if name in own), None)
        return Transfer(
            row=row,
            transaction_id=next((each for each in given if each and each != _NO_ID), numbered),
            timestamp=own.get("AccptncDtTm") or message.get("CreDtTm"),
            customer_id=customer,
            terminal_id=terminal,
            amount=amount,
            currency=currency,
            problem=_problem(self._values[form.debtor], own, amount=amount, currency=currency),
        )


def _account(values: dict[str, str], who: str) -> str | None:
    iban = values.get(f"{who} IBAN")
    return _compact(iban) if iban else values.get(f"{who} Othr/Id") or None


def _problem(
    debtor: dict[str, str], own: dict[str, str], *, amount: str | None, currency: str | None
) -> tuple[str, str, str | None] | None:
    for values, who, column in ((debtor, "Dbtr", "customer_id"), (own, "Cdtr", "terminal_id")):
        iban = values.get(f"{who} IBAN")
        if iban and not is_iban(_compact(iban)):
            return "an IBAN with wrong check digits", column, iban
    if amount is not None and not currency:
        return "without a currency", "amount", amount
    return None


def _compact(iban: str) -> str:
    return iban.replace(" ", "").upper()


def _known() -> str:
    return ", ".join(_FORMS)
