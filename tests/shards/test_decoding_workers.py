"""Promises 8 and 12: a data worker that dies, hangs on or fails ends the loader with one sentence, and leaves nobody."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cacl.errors import UserError
from shards.decoders.augmentation import Augmentation
from shards.decoders.clip import DecodeSpec, Request
from shards.decoders.torch import TorchDecoder
from tests.shards.tiny import TinyStore, tiny_store

pytestmark = [
    pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
SPEC = DecodeSpec(Augmentation(size=32, short_side=40, duration=0.2, sample_rate=1000))


class Deadly(TinyStore):
    """Reading clip 13 kills the process, 14 finds the disk broken, 15 is a bug, and 16 takes very long."""

    def read(self, index: int):
        if index == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 14:
            raise OSError(5, "Input/output error", "shard-000002.tar")
        if index == 15:
            raise ZeroDivisionError("by a bug")
        if index == 16:
            time.sleep(600)
        return super().read(index)


def deadly(indices: list[int], size: int = 3, workers: int = 2):
    requests = [Request(np.array(indices[k : k + size]), (0, 0)) for k in range(0, len(indices), size)]
    return TorchDecoder().stream(Deadly(tiny_store().clips), requests, SPEC, workers)


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    before = set(multiprocessing.active_children())
    yield
    assert set(multiprocessing.active_children()) <= before


def test_a_worker_that_dies_is_one_sentence_that_names_its_clips():
    with pytest.raises(UserError) as caught:
        list(deadly([0, 1, 2, 3, 4, 5, 12, 13, 11]))
    said = str(caught.value)
    assert "was killed by SIGKILL while it read clip 13 (tiny/shard-000001.tar: 000000013)" in said
    assert "it held the clips 12, 13, 11" in said and "--resume" in said and "\n" not in said
    assert caught.value.exit_code == 1


def test_a_death_is_noticed_though_another_worker_s_batch_is_due():
    """The first worker reads for ten minutes; the second dies at once."""
    began = time.monotonic()
    with pytest.raises(UserError, match="killed by SIGKILL while it read clip 13"):
        list(deadly([16, 0, 1, 13, 2, 3]))
    assert time.monotonic() - began < 20


def test_a_worker_that_has_nothing_to_do_may_die():
    others = set(multiprocessing.active_children())
    stream = deadly([0, 1, 2], workers=2)
    next(stream)
    for child in set(multiprocessing.active_children()) - others:
        child.kill()
        child.join()
    assert list(stream) == []


@pytest.mark.parametrize(
    ("clip", "error", "message"),
    [
        (14, UserError, "shard-000002.tar: Input/output error; mend the storage"),
        (15, RuntimeError, "by a bug"),
    ],
)
def test_what_a_worker_raises_ends_the_loader_and_its_other_workers(clip, error, message):
    with pytest.raises(error, match=message):
        list(deadly([0, 1, 2, clip, 3, 4, 5, 6, 7]))


def test_batches_outlive_their_workers_and_equal_those_of_one_process():
    """Their memory is their own: nobody writes over it, and it goes with the last tensor."""
    indices = list(range(11))
    several, alone = list(deadly(indices)), list(deadly(indices, workers=0))
    for one, other in zip(several, alone, strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.waveforms, other.waveforms)
        assert torch.equal(one.index, other.index) and torch.equal(one.valid, other.valid)
    several[0].images.zero_()
    assert several[1].images.any()


PROGRAM = """
import sys
sys.path[:0] = {path!r}
from tests.shards.test_decoding_workers import deadly
stream = deadly(list(range(12)))
next(stream)
raise ValueError("an error that nobody has foreseen")
"""


def test_a_process_that_leaves_its_loader_open_ends_though_tmpdir_is_too_long_for_sockets(tmp_path):
    """Python waits at its end for children, which ignore the signal that it sends them."""
    place = tmp_path / ("x" * 120)
    place.mkdir()
    began = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(path=[str(Path(__file__).parents[2])])],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"TMPDIR": str(place)},
    )
    assert answer.returncode == 1 and "nobody has foreseen" in answer.stderr
    assert time.monotonic() - began < 40


@pytest.mark.faults
def test_a_small_shared_memory_is_no_hindrance(tmp_path):
    """Docker gives /dev/shm 64 MB: here it has none at all."""
    words = ["unshare", "-r", "-m", "sh", "-c", 'mount -t tmpfs -o size=4k tmpfs /dev/shm && exec "$@"', "-"]
    if subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("a small tmpfs mount needs root")
    program = PROGRAM.replace("raise ValueError", "assert len(list(stream)) == 3; raise ValueError")
    answer = subprocess.run(
        [*words, sys.executable, "-c", program.format(path=[str(Path(__file__).parents[2])])],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 1 and "nobody has foreseen" in answer.stderr, answer.stderr


STUCK = """if True:
    import mmap, os, sys, time
    from pathlib import Path
    import numpy as np
    from shards.decoders import workers
    from tests.shards.test_decoding_workers import SPEC, Request, TorchDecoder, tiny_store

    births = mmap.mmap(-1, 8)
    def stick():
        births[0] += 1
        if births[0] in (1, 3):
            time.sleep(600)  # as on a lock that another thread held
    os.register_at_fork(after_in_child=stick)
    workers._BIRTH_SECONDS = 1.0
    requests = [Request(np.array([k]), (0, 0)) for k in range(8)]
    print([int(batch.index[0]) for batch in TorchDecoder().stream(tiny_store(), requests, SPEC, 2)])
    print(births[0])
"""


def test_a_worker_that_never_comes_to_life_is_started_again():
    """A fork of a process with threads may wait for ever for a lock that one of them held."""
    answer = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=60, check=True
    )
    assert answer.stdout.split("\n")[:2] == [str(list(range(8))), "4"], answer.stderr
