"""The rungs decide as Ray's own ASHA decides, and know after a kill what they knew before."""

from __future__ import annotations

import math
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from cacl.errors import UserError
from launch.sweeping.rungs import Rungs
from launch.sweeping.space import Asha

REPORTS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 70), st.floats(-1, 1)), min_size=1, max_size=60
)
"""(trial, step, score), in the order in which they come."""


@settings(deadline=None)
@given(REPORTS, st.sampled_from([2, 3, 4]), st.integers(1, 5), st.integers(5, 60))
def test_decisions_are_those_of_rays_asha(
    tmp_path_factory: pytest.TempPathFactory, reports, reduction, first, last
) -> None:
    ray = ASHAScheduler(
        time_attr="step", metric="score", mode="max", max_t=last, grace_period=first,
        reduction_factor=reduction, stop_last_trials=False,
    )  # fmt: skip
    ours = Rungs(Asha(first, last, reduction), tmp_path_factory.mktemp("rungs") / "rungs.json")
    theirs = sorted(int(step) for step, _ in ray._brackets[0]._rungs)
    if sorted(ours.scores) != theirs:  # a logarithm rounded down: Ray lacks the rung at the very end
        assert sorted(ours.scores)[:-1] == theirs and sorted(ours.scores)[-1] == last
        return
    controller = mock.Mock(spec=TuneController)
    trials = {name: mock.Mock(spec=Trial, trial_id=name) for name in "abcdefgh"}
    for trial in trials.values():
        ray.on_trial_add(controller, trial)
    for name, step, score in reports:
        decision = ray.on_trial_result(controller, trials[name], {"step": step, "score": score})
        assert ours.enter(name, step, score) == (decision == TrialScheduler.CONTINUE)


@settings(deadline=None)
@given(REPORTS, st.data())
def test_killed_at_any_report_and_read_again_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory, reports, data
) -> None:
    file = tmp_path_factory.mktemp("rungs") / "rungs.json"
    options = Asha(first_step=2, last_step=50, reduction=3)
    undisturbed = Rungs(options, file.with_name("other.json"))
    killed = Rungs(options, file)
    moment = data.draw(st.integers(0, len(reports) - 1))
    for number, report in enumerate(reports):
        if number == moment:
            killed.save()
            killed = Rungs(options, file)
        assert killed.enter(*report) == undisturbed.enter(*report)
    assert killed.scores == undisturbed.scores


def test_a_trial_is_counted_once_and_one_that_is_no_number_ends(tmp_path: Path) -> None:
    rungs = Rungs(Asha(first_step=2, last_step=8, reduction=2), tmp_path / "rungs.json")
    assert sorted(rungs.scores) == [2, 4, 8]
    assert rungs.enter("a", 1, 0.0), "below the first rung nothing is stopped"
    assert rungs.enter("a", 2, 0.5) and rungs.enter("a", 3, -1.0)
    assert not rungs.enter("b", 2, math.nan)
    assert rungs.enter("c", 2, 0.6), "what is no number is no rival"
    rungs.save()
    assert not Rungs(rungs.options, rungs.file).enter("d", 2, 0.1)


def test_rungs_of_another_format_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rungs.json"
    file.write_text('{"format_version": 0, "scores": {}}')
    with pytest.raises(UserError, match="its format_version is not 1"):
        Rungs(Asha(first_step=2, last_step=8, reduction=2), file)
