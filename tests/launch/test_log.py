"""A log of any length is read and cut as the plain computation over all its lines would do it."""

from __future__ import annotations

import json
import tracemalloc
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacl.runs import log

LINES = st.one_of(
    st.builds(lambda step, loss: {"step": step, "loss": loss}, st.integers(0, 9), st.integers(0, 3)),
    st.builds(lambda step: {"step": step, "validation": {"recall_at_1": step / 10}}, st.integers(0, 9)),
    st.builds(lambda step, size: {"step": step, "remark": "x" * size}, st.integers(0, 9), st.integers(0, 99)),
).map(lambda record: json.dumps(record).encode())
DAMAGED = st.sampled_from([b"{", b"7", b"\xff", b'{"step": 1}', b'{"step": 2, "validation": 3}'])
CONTENTS = st.tuples(
    st.lists(st.one_of(LINES, DAMAGED, st.just(b""))), st.sampled_from([b"", b"\n", b'\n{"st'])
)


def write(file, content):
    lines, end = content
    file.write_bytes(b"\n".join(lines) + end)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "train.jsonl"


def whole(file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return log.read(file)


@given(content=CONTENTS, step=st.integers(-1, 9))
def test_a_cut_log_has_the_whole_lines_up_to_the_step_and_nothing_else(file, content, step):
    write(file, content)
    kept = [record for record in whole(file) if record["step"] <= step]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.truncate(file, step)
    assert file.read_bytes() == b"".join(json.dumps(record).encode() + b"\n" for record in kept)


@given(content=CONTENTS, key=st.sampled_from(["loss", "validation", "remark", "step"]))
def test_from_the_end_come_the_same_lines_as_from_the_beginning(file, content, key):
    write(file, content)
    assert list(log.newest_first(file, key)) == [record for record in whole(file) if key in record][::-1]


@pytest.mark.parametrize("length", [10, log._BLOCK - 40, log._BLOCK, 3 * log._BLOCK])
def test_lines_longer_than_a_block_are_read_from_the_end(file, length):
    records = [{"step": step, "remark": str(step) * (length + step)} for step in range(5)]
    file.write_bytes(b"".join(json.dumps(record).encode() + b"\n" for record in records))
    assert list(log.newest_first(file, "remark")) == records[::-1]


def test_a_log_that_is_not_there_has_no_lines(tmp_path):
    absent = tmp_path / "train.jsonl"
    assert not [*log.stream(absent), *log.newest_first(absent, "loss"), *log.Follower(absent).look()]
    log.truncate(absent, 3)
    assert not absent.exists()


DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("take steps"), st.integers(1, 4)),
        st.tuples(st.just("resume at"), st.integers(0, 12)),
        st.tuples(st.just("write a half"), st.just(0)),
        st.tuples(st.just("look"), st.just(0)),
    ),
    max_size=30,
)


@given(deeds=DEEDS, are_lines_alike=st.booleans())
def test_who_follows_a_log_learns_of_each_new_step_as_if_all_were_read_at_each_look(
    file, deeds, are_lines_alike
):
    file.write_bytes(b"")
    follower, step, torn = log.Follower(file), 0, b""
    followed: list[int] = []
    read: list[int] = []
    for number, (deed, value) in enumerate([*deeds, ("look", 0)]):
        if deed == "take steps":
            with file.open("ab") as stream:
                stream.write(torn)
                for _ in range(value):
                    step += 1
                    stream.write(line(step, number * (not are_lines_alike)))
            torn = b""
        elif deed == "write a half" and not torn:
            step += 1
            text = line(step, number * (not are_lines_alike))
            with file.open("ab") as stream:
                stream.write(text[:9])
            torn = text[9:]
        elif deed == "resume at":
            log.truncate(file, value)
            step, torn = min(step - bool(torn), value), b""
        elif deed == "look":
            for seen, found in ((followed, follower.look()), (read, log.stream(file))):
                for record in found:
                    if record["step"] > (seen[-1] if seen else 0):
                        seen.append(record["step"])
    assert followed == read


def line(step, value):
    return json.dumps({"step": step, "loss": value}).encode() + b"\n"


def test_memory_is_that_of_a_line_whatever_the_log_has(file):
    file.write_bytes(b"".join(line(step, 1.5) for step in range(50_000)))
    readers = [
        lambda: sum(1 for _ in log.stream(file)),
        lambda: sum(1 for _ in log.newest_first(file, "loss")),
        lambda: sum(1 for _ in log.Follower(file).look()),
        lambda: log.truncate(file, 40_000),
    ]
    size = file.stat().st_size
    for reader in readers:
        tracemalloc.start()
        reader()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < size / 3  # a list of all records takes ten times the file
