"""Promises 1 and 2: labels speak of indices only, carry their data set's fingerprint and refuse another."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cacl.errors import UserError
from cacl.labels.table import LabelHeader, LabelTable

HEADER = LabelHeader(classifier="test", weights="ab", fingerprint="f" * 64, classes=7, parameters={"seed": 3})


def table(index, soft=False, top=False, header=HEADER):
    n = len(index)
    rng = np.random.default_rng(n)
    rows = rng.dirichlet(np.ones(7), n).astype(np.float32)
    return LabelTable(
        index=np.array(index, np.int64),
        label=rows.argmax(1),
        confidence=rows.max(1) if n else np.zeros(0, np.float32),
        header=header,
        soft=rows if soft else None,
        top=np.argsort(-rows, 1)[:, :3] if top else None,
        top_probability=-np.sort(-rows, 1)[:, :3] if top else None,
    )


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("index", [[], [0], [3, 4, 900], list(range(0, 50, 3))])
def test_what_is_written_is_read(tmp_path, index, soft):
    written = table(index, soft=soft, top=True)
    written.write(tmp_path / "labels" / "t.parquet")
    read = LabelTable.load(tmp_path / "labels" / "t.parquet", HEADER.fingerprint)
    assert read.header == written.header
    for name in ("index", "label", "confidence", "soft", "top", "top_probability"):
        expected, found = getattr(written, name), getattr(read, name)
        assert (expected is None) == (found is None)
        if expected is not None:
            np.testing.assert_array_equal(found, expected)
            assert found.shape == expected.shape and found.dtype == expected.dtype
    assert [file.name for file in (tmp_path / "labels").iterdir()] == ["t.parquet"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 60), unique=True, min_size=1), st.lists(st.integers(0, 80), min_size=1))
def test_clips_are_joined_by_index_and_unknown_ones_are_a_class_of_their_own(index, asked):
    labels = table(sorted(index), soft=True)
    valid = torch.tensor([i % 5 != 0 for i in asked])
    clips = labels.clips(torch.tensor(asked), valid)
    rows = {int(i): row for row, i in enumerate(labels.index)}
    for place, i in enumerate(asked):
        row = rows.get(i)
        assert clips.label[place] == (labels.label[row] if row is not None else -1)
        assert clips.confidence[place] == (labels.confidence[row] if row is not None else 0)
        expected = labels.soft[row] if row is not None else np.zeros(7)
        np.testing.assert_array_equal(clips.soft[place].numpy(), expected)
    assert torch.equal(clips.valid, valid) and clips.index.tolist() == asked
    assert labels.lookup(np.array(asked)).tolist() == clips.label.tolist()
    assert clips.label.dtype == torch.int64 and clips.confidence.dtype == torch.float32


def test_another_data_set_is_refused(tmp_path):
    table([1, 2]).write(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"t\.parquet: fingerprint: .*ffffffffffff.*000000000000"):
        LabelTable.load(tmp_path / "t.parquet", "0" * 64)


def test_an_unknown_format_is_one_sentence(tmp_path):
    file = tmp_path / "t.parquet"
    table([1, 2]).write(file)
    content = pq.read_table(file)
    header = {**json.loads(content.schema.metadata[b"cacl"]), "format_version": 99}
    pq.write_table(content.replace_schema_metadata({b"cacl": json.dumps(header).encode()}), file)
    with pytest.raises(UserError, match=r"format_version: 99 is not known"):
        LabelTable.load(file)


def test_files_that_are_no_table_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such label table"):
        LabelTable.load(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(UserError, match=r"text\.parquet: not a label table"):
        LabelTable.load(tmp_path / "text.parquet")
    (tmp_path / "empty.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty\.parquet: not a label table"):
        LabelTable.load(tmp_path / "empty.parquet")
    pq.write_table(pa.table({"index": [1]}), tmp_path / "other.parquet")
    with pytest.raises(UserError, match="lacks cacl's header"):
        LabelTable.load(tmp_path / "other.parquet")


def test_rows_must_be_sorted_and_of_one_length():
    with pytest.raises(ValueError, match="sorted"):
        table([2, 1])
    with pytest.raises(ValueError, match="expected 2 rows of confidence, received 1"):
        replace(table([1, 2]), confidence=np.ones(1, np.float32))


def test_the_fingerprint_is_that_of_content_and_header(tmp_path):
    labels = table([1, 5, 9], soft=True)
    labels.write(tmp_path / "t.parquet")
    assert LabelTable.load(tmp_path / "t.parquet").fingerprint == labels.fingerprint
    others = [
        replace(labels, label=labels.label + 1),
        replace(labels, confidence=labels.confidence / 2),
        replace(labels, soft=None),
        replace(labels, index=labels.index + 1),
        replace(labels, header=replace(HEADER, weights="cd")),
    ]
    assert len({labels.fingerprint, *(other.fingerprint for other in others)}) == 6
