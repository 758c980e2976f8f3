"""The catalogue's descriptors: every shipped one is complete, and bad ones are refused with the reason."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.core.data import catalogue
from quatrain.core.data.cache import generator
from quatrain.core.data.descriptor import Descriptor, Generated, read
from quatrain.core.errors import UsageError

REPOSITORY = Path(__file__).parents[2]
SHA256 = "0" * 64
HEAD = f"""
title = "A set"
app = "fintech"
task = "fraud"
licence = "CC0-1.0"
citation = "Nobody, 2026."
synthetic = false
file = "set.csv"
sha256 = "{SHA256}"
size = 10
"""
HTTPS = '[source]\nkind = "https"\nurl = "https://example.org/set.csv"\n'


def descriptor(folder: Path, text: str) -> Descriptor:
    """Return the descriptor in this TOML text."""
    file = folder / "a-set.toml"
    file.write_text(text, encoding="utf-8")
    return read(file)


@pytest.mark.parametrize("name", catalogue.names())
def test_every_shipped_set_is_complete(name: str) -> None:
    """A set of the catalogue says what it is, who may use it and how it is checked."""
    set_ = catalogue.describe(name)
    assert set_.licence
    assert set_.citation
    assert set_.label is not None
    if isinstance(set_.source, Generated):
        assert set_.synthetic
    else:
        assert set_.sha256
        assert set_.size
        assert set_.n_rows


@pytest.mark.parametrize("name", catalogue.names())
def test_every_shipped_generator_takes_its_options(name: str) -> None:
    """A generated set names an installed function that accepts its path, seed and options."""
    source = catalogue.describe(name).source
    if isinstance(source, Generated):
        point = generator(source)
        assert point is not None
        inspect.signature(point.load()).bind(Path("set.parquet"), seed=source.seed, **source.options)


@pytest.mark.parametrize("name", ["german-credit", "uci-credit-default"])
def test_credit_scoring_sets_are_not_offered_as_transactions(name: str) -> None:
    """Credit scoring is another task than fraud, so these sets carry no transaction mapping."""
    set_ = catalogue.describe(name)
    assert set_.task == "credit-scoring"
    assert set_.columns is None


def test_ulb_mapping_has_the_form_of_a_columns_file() -> None:
    """`--data ulb-creditcard` needs no --columns: the descriptor holds the same tables."""
    columns = catalogue.describe("ulb-creditcard").columns
    assert columns is not None
    assert columns["columns"] == {"timestamp": "Time", "amount": "Amount", "is_fraud": "Class"}
    assert columns["timestamp"] == {"unit": "s", "origin": "2013-09-01T00:00:00Z"}
    assert columns["extra"]["numeric"] == [f"V{i}" for i in range(1, 29)]


def test_ulb_split_is_eighty_twenty_in_file_order() -> None:
    """The test split is the last fifth of the rows, so nothing of the future is in training."""
    set_ = catalogue.describe("ulb-creditcard")
    train, test = set_.splits["train"], set_.splits["test"]
    assert (train.start, train.stop, test.start, test.stop) == (0, 227_845, 227_845, 284_807)


def test_shared_data_is_the_packaged_folder() -> None:
    """The repository's shared_data/ and the package's catalogue are one folder, so they cannot differ."""
    assert (REPOSITORY / "shared_data").resolve() == catalogue.SETS.resolve()


def test_wheel_holds_every_descriptor(tmp_path: Path) -> None:
    """A quatrain-core installed as a wheel, with no repository, has the whole catalogue."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        pytest.skip("uv builds the wheel and is not installed")
    core = REPOSITORY / "core"
    subprocess.run([uv, "build", "--offline", "--quiet", "--out-dir", tmp_path, core], check=True, timeout=60)
    with ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        members = {Path(member).stem for member in wheel.namelist() if member.startswith("quatrain/core/data/sets/")}
    assert set(catalogue.names()) <= members


def test_name_is_the_files_name(tmp_path: Path) -> None:
    """A descriptor does not repeat its name."""
    assert descriptor(tmp_path, HEAD + HTTPS).name == "a-set"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (HEAD.replace('licence = "CC0-1.0"', "") + HTTPS, "licence: Field required"),
        (HEAD.replace("size = 10", "") + HTTPS, "needs sha256 and size"),
        (HEAD.replace(SHA256, "abc") + HTTPS, "sha256"),
        (HEAD.replace("set.csv", "../set.csv") + HTTPS, "file"),
        (HEAD.replace("set.csv", "set.pkl") + HTTPS, "runs code when read"),
        (HEAD + "colour = 1\n" + HTTPS, "colour"),
        (HEAD + HTTPS.replace("https://", "http://"), "url"),
        (HEAD + HTTPS.replace("https://example.org", "file://"), "url"),
        (HEAD + HTTPS.replace("https://example.org", "http://127.0.0.1.example.org"), "url"),
        (HEAD + '[source]\nkind = "torrent"\n', "source"),
        (HEAD + '[source]\nkind = "generated"\ngenerator = "x"\n', "synthetic = true"),
        (HEAD + HTTPS + "[splits.train]\nstart = 5\nstop = 5\n", "split 'train' must lie within"),
        ("title = ", "not valid TOML"),
    ],
)
def test_bad_descriptor_is_refused_with_the_reason(tmp_path: Path, text: str, match: str) -> None:
    """The message names the key and what is wrong with it."""
    with pytest.raises(UsageError, match=match):
        descriptor(tmp_path, text)


@pytest.mark.parametrize("member", ["../set.csv", "/etc/set.csv", "a/../../set.csv", "..\\set.csv", "C:/set.csv"])
def test_member_may_not_leave_the_archive(tmp_path: Path, member: str) -> None:
    """A path that climbs out of an archive is refused before anything is downloaded."""
    source = f"[source]\nkind = 'wheel-member'\npackage = 'p'\nversion = '1'\nmember = '{member}'\n"
    with pytest.raises(UsageError, match="relative path"):
        descriptor(tmp_path, HEAD + source)


@pytest.mark.parametrize("requirement", ["--index-url", "p==1 @ file:///x", "-r x", "p;q"])
def test_package_name_cannot_be_an_option_of_the_client(tmp_path: Path, requirement: str) -> None:
    """A descriptor cannot smuggle options or addresses into the package client's command line."""
    source = f"[source]\nkind = 'wheel-member'\npackage = '{requirement}'\nversion = '1'\nmember = 'm.csv'\n"
    with pytest.raises(UsageError, match="package"):
        descriptor(tmp_path, HEAD + source)


@given(st.text(max_size=40))
def test_any_text_is_a_descriptor_or_a_usage_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """No file content makes the parser fail in another way than the one a person understands."""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        match = "not valid TOML"
    else:
        match = "does not describe a data set"
    with pytest.raises(UsageError, match=match):
        descriptor(tmp_path_factory.getbasetemp(), text.replace("\r\n", "\n"))
