"""Promises 6 and 8: one rank that is told to stop stops all after the same step, and the answer is read one late."""

from __future__ import annotations

import pytest
import torch

from cacl.training.stopping import StopFlag
from cacl.world import World
from tests.helpers.ranks import run_ranks


def answers(world: World, rank: int, step: int, steps: int = 5) -> tuple[list[int], list[int]]:
    """What each exchange returns, and what would be read at once, if `rank` alone is told to stop at `step` alone."""
    asked = iter(range(1, steps + 1))
    flag = StopFlag(lambda: next(asked) == step and world.rank == rank, world)
    assert not flag.read(), "nobody has been asked yet"
    late, at_once = [], []
    for _ in range(steps):
        late.append(flag.exchange())
        at_once.append(flag.read())
    return late, at_once


@pytest.mark.parametrize(("size", "rank"), [(1, 0), (2, 0), (2, 1)])
def test_all_ranks_have_the_answer_of_one_a_step_later_or_at_once_if_they_wait(size, rank):
    late, at_once = [[step == told for step in range(1, 6)] for told in (4, 3)]
    found = run_ranks(size, answers, rank, 3) if size > 1 else [answers(World(), rank, 3)]
    assert found == [(late, at_once)] * size


def test_no_exchange_reads_the_answer_that_it_has_just_asked_for():
    """The device has had a step's time to answer; an answer that is read at once has had none."""
    read = []

    class Answer(torch.Tensor):
        def __bool__(self) -> bool:
            read.append(float(self.as_subclass(torch.Tensor)))
            return super().__bool__()

    class Device(World):
        steps = 0.0

        def max(self, x: torch.Tensor) -> torch.Tensor:
            Device.steps += 1
            return torch.full((1,), Device.steps).as_subclass(Answer)

    flag = StopFlag(lambda: False, Device())
    for step in range(1, 4):
        flag.exchange()
        assert read == [float(earlier) for earlier in range(1, step)]
