"""Promises 2 and 12: a table that was sorted, cut, changed or damaged is read rightly or refused in a sentence."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from cacl.errors import UserError
from cacl.labels.table import LabelHeader, LabelTable

N = 24
HEADER: dict[str, Any] = {
    "classifier": "x",
    "weights": "",
    "fingerprint": "f" * 64,
    "classes": 5,
    "preprocessing": {},
    "parameters": {},
}
INDEX = np.arange(N)
GOOD: dict[str, Any] = {"index": INDEX, "label": INDEX % 5, "confidence": np.full(N, 0.9, np.float32)}


def put(path, columns, **header):
    """Write a file as another program might: version 1, which has no checksum."""
    text = json.dumps({"format_version": 1, **HEADER, **header})
    pq.write_table(pa.table(columns).replace_schema_metadata({b"cacl": text.encode()}), path)
    return path


@pytest.fixture
def written(tmp_path):
    rows = np.random.default_rng(0).dirichlet(np.ones(5), N).astype(np.float32)
    LabelTable(INDEX * 3, rows.argmax(1), rows.max(1), LabelHeader(**HEADER), soft=rows).write(
        tmp_path / "t.parquet"
    )
    return tmp_path / "t.parquet"


def test_version_1_is_still_read(tmp_path):
    read = LabelTable.load(put(tmp_path / "t.parquet", GOOD), "f" * 64)
    np.testing.assert_array_equal(read.label, INDEX % 5)


def test_no_changed_bit_goes_unseen(written):
    """Every bit of the file, one at a time: what is read is what was written, or it is refused in a sentence."""
    whole, expected = written.read_bytes(), LabelTable.load(written)
    refused = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        written.write_bytes(damaged)
        try:
            read = LabelTable.load(written)
        except UserError as error:
            assert "t.parquet" in str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert read.fingerprint == expected.fingerprint and read.header == expected.header
    assert refused > len(whole) / 3, "most bytes are content, header and sums"


@pytest.mark.parametrize("order", [np.arange(N)[::-1], np.random.default_rng(1).permutation(N)])
def test_rows_in_another_order_are_the_same_table(written, order):
    expected, table = LabelTable.load(written), pq.read_table(written)
    pq.write_table(table.take(order), written)
    read = LabelTable.load(written)
    assert read.fingerprint == expected.fingerprint
    assert read.soft is not None and expected.soft is not None
    np.testing.assert_array_equal(read.soft, expected.soft)


CHANGES = {
    "cut": lambda table: table.slice(0, N - 1),
    "without rows": lambda table: table.slice(0, 0),
    "doubled": lambda table: pa.concat_tables([table, table.slice(0, 1)]),
    "a label changed": lambda table: table.set_column(1, "label", pc.subtract(4, table["label"])),
    "soft labels taken out": lambda table: table.drop_columns(["soft"]),
    "pandas": lambda table: pa.Table.from_pandas(table.to_pandas().sort_values("label")),
    "header of another": lambda table: table.replace_schema_metadata(
        {b"cacl": table.schema.metadata[b"cacl"].replace(b'"classes": 5', b'"classes": 6')}
    ),
    "no checksum": lambda table: table.replace_schema_metadata(
        {b"cacl": table.schema.metadata[b"cacl"].replace(b'"sha256"', b'"sha255"')}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_table_of_which_something_was_changed_is_refused(written, change):
    pq.write_table(change(pq.read_table(written)), written)
    with pytest.raises(UserError, match=r"t\.parquet: .*label again"):
        LabelTable.load(written)


def column(name, values):
    return {**GOOD, name: values}


def one(name, value, kind=None):
    values = GOOD[name].tolist()
    values[7] = value
    return {**GOOD, name: pa.array(values, kind) if kind else values}


WRONG = {
    "index negative": (column("index", INDEX - 5), "column index: -5 "),
    "index twice": (column("index", INDEX * 0), "column index: 0 .*23 such rows. .* twice"),
    "index too large": (one("index", 10**9), "column index: 1000000000 .*no clip's index"),
    "index at the end": (one("index", 2**63 - 1), "column index: 9223372036854775807"),
    "index beyond": (one("index", 2**63, pa.uint64()), "column index: .*must fit int64"),
    "index null": (one("index", None, pa.int64()), "column index: 1 cells are empty"),
    "index text": (column("index", [str(i) for i in INDEX]), "column index: must be int64, not string"),
    "index float": (column("index", INDEX * 1.0), "column index: must be int64, not double"),
    "label negative": (one("label", -7), "column label: -7 .clip 7,"),
    "label of no class": (one("label", 5), "column label: 5 .*below the header's 5"),
    "label too large": (one("label", 2**62), "column label: 4611686018427387904"),
    "label beyond": (one("label", 2**64 - 1, pa.uint64()), "column label: .*must fit int64"),
    "label null": (one("label", None, pa.int64()), "column label: 1 cells are empty"),
    "label text": (column("label", [str(i % 5) for i in INDEX]), "column label: must be int64, not string"),
    "label bool": (column("label", INDEX % 2 == 0), "column label: must be int64, not bool"),
    "confidence NaN": (one("confidence", float("nan")), "column confidence: nan .clip 7"),
    "confidence infinite": (one("confidence", float("inf")), "column confidence: inf"),
    "confidence negative": (one("confidence", -1.0), "column confidence: -1.0"),
    "confidence above 1": (one("confidence", 1e30), "column confidence: "),
    "confidence null": (one("confidence", None, pa.float32()), "column confidence: 1 cells"),
    "confidence text": (column("confidence", ["0.9"] * N), "column confidence: must be float, not string"),
    "a column too many": (column("evil\x1b", INDEX), "column evil.: unknown; take it out"),
    "pandas' index": (column("__index_level_0__", INDEX), "column __index_level_0__: unknown"),
    "no label": ({"index": INDEX, "confidence": GOOD["confidence"]}, "column label: missing"),
    "no confidence": ({"index": INDEX, "label": INDEX % 5}, "column confidence: missing"),
    "nothing": ({"x": []}, "column index: missing"),
    "soft of one number": (column("soft", GOOD["confidence"]), "column soft: must be lists of one length"),
    "soft of many lengths": (column("soft", [[1.0] * (i % 3) for i in INDEX]), "column soft: must be lists of one"),
    "soft NaN": (column("soft", pa.array([[float("nan"), 1.0]] * N, pa.list_(pa.float32(), 2))), "column soft: nan"),
    "soft null": (column("soft", pa.array([[None, 1.0]] * N, pa.list_(pa.float32(), 2))), "column soft: 24 cells"),
    "top of text": (column("top", pa.array([["a"]] * N, pa.list_(pa.string(), 1))), "column top: must be int64"),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_column_is_named_with_its_clip(tmp_path, columns, sentence):
    with pytest.raises(UserError, match=rf"t\.parquet: {sentence}") as caught:
        LabelTable.load(put(tmp_path / "t.parquet", columns))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


HEADERS = {
    "no mapping": "[]",
    "a number": "7",
    "no JSON": "{",
    "deep": "[" * 20000,
    "another version": json.dumps({**HEADER, "format_version": 3}),
    "version of text": json.dumps({**HEADER, "format_version": "1"}),
    "too much": json.dumps({**HEADER, "format_version": 1, "evil": 1}),
    "too little": json.dumps({"format_version": 1, "fingerprint": "f" * 64}),
    "classes of text": json.dumps({**HEADER, "format_version": 1, "classes": "5"}),
    "fingerprint of a list": json.dumps({**HEADER, "format_version": 1, "fingerprint": []}),
}


@pytest.mark.parametrize("text", HEADERS.values(), ids=HEADERS.keys())
def test_a_wrong_header_is_a_sentence(tmp_path, text):
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table(GOOD).replace_schema_metadata({b"cacl": text.encode()}), file)
    with pytest.raises(UserError, match=r"t\.parquet: (header|format_version|not a label table)"):
        LabelTable.load(file, "f" * 64)


def test_other_widths_of_numbers_are_the_same_table(tmp_path):
    columns = {
        "index": INDEX.astype(np.int32),
        "label": (INDEX % 5).astype(np.int8),
        "confidence": np.full(N, 0.5),
    }
    read = LabelTable.load(put(tmp_path / "t.parquet", columns))
    assert (read.index.dtype, read.label.dtype, read.confidence.dtype) == (np.int64, np.int64, np.float32)


def test_memory_is_that_of_the_rows_and_not_of_the_largest_index(tmp_path):
    """One row of index 999,999,999 took 12 GB: labels lay in a row as long as the largest index."""
    columns = one("index", 999_999_999)
    tracemalloc.start()
    table = LabelTable.load(put(tmp_path / "t.parquet", columns))
    asked = torch.tensor([0, 7, 999_999_999, 2**62, -1])
    clips = table.clips(asked, torch.ones(5, dtype=torch.bool))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert clips.label.tolist() == [0, -1, 2, -1, -1] == table.lookup(asked.numpy()).tolist()
    assert peak < 50 << 20
