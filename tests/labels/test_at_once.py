"""Jobs that do the same work in the same folder at once: each result is right, and none stumbles over another."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
import torch

from cacl.files import locked
from cacl.resumable import UNIT, Arrays, kept, resumable_map
from cacl.types import Batch
from cacl.world import World

INDICES = np.arange(4 * UNIT, dtype=np.int64)
FORK = multiprocessing.get_context("fork")


def batches(indices: np.ndarray) -> Iterator[Batch]:
    for start in range(0, len(indices), UNIT):
        index = torch.from_numpy(indices[start : start + UNIT])
        yield Batch(index, index, index, torch.ones(len(index), dtype=torch.bool))


def job(folder: Path, factor: int, wait: Callable[[int], object] = lambda unit: None) -> None:
    """Multiply every index; `wait(number of the unit)` comes before each unit. An error is exit code 1."""

    def work(batch: Batch) -> Arrays:
        wait(int(batch.index[0]) // UNIT)
        return {"product": batch.index.numpy() * factor}

    with kept(folder, World()):
        arrays = resumable_map(INDICES, batches, work, folder, {"factor": factor}, World())
        assert arrays is not None
        np.testing.assert_array_equal(arrays["product"], INDICES * factor)


def pause_at(begun: Event, go_on: Event, unit: int) -> None:
    if unit == 2:
        begun.set()
        assert go_on.wait(60)


@pytest.mark.parametrize("factor", [3, 5], ids=["the same", "another"])
def test_a_job_that_ends_leaves_what_another_one_needs(tmp_path: Path, factor: int) -> None:
    """The first is in its midst when the second, of the same or another identity, begins and ends."""
    begun, go_on = FORK.Event(), FORK.Event()
    folder = tmp_path / "parts"
    first = FORK.Process(target=job, args=(folder, 3, partial(pause_at, begun, go_on)))
    first.start()
    assert begun.wait(60)
    second = FORK.Process(target=job, args=(folder, factor))
    second.start()
    second.join()
    go_on.set()
    first.join()
    assert (first.exitcode, second.exitcode) == (0, 0)
    assert list(tmp_path.iterdir()) == [], "the last one leaves nothing"


def test_many_jobs_at_once(tmp_path: Path) -> None:
    children = [
        FORK.Process(target=job, args=(tmp_path / "parts", 3, lambda unit: time.sleep(0.003)))
        for _ in range(8)
    ]
    for child in children:
        child.start()
        time.sleep(0.01)
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 8
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_dies_leaves_its_units(tmp_path: Path) -> None:
    def dies(unit: int) -> None:
        if unit == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job(tmp_path / "parts", 3, dies)
    assert len(list((tmp_path / "parts").rglob("unit-*.npz"))) == 2
    seen: list[int] = []
    job(tmp_path / "parts", 3, seen.append)
    assert seen == [2, 3]


def count(path: Path) -> None:
    for _ in range(50):
        with locked(path.with_suffix(".lock")):
            path.write_text(str(int(path.read_text()) + 1))
            path.with_suffix(".lock").unlink()


def test_a_lock_that_its_holder_removes_still_excludes(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    children = [FORK.Process(target=count, args=(tmp_path / "count",)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert (tmp_path / "count").read_text() == "200"
