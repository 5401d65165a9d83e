"""Intervals that cover what they promise, and tests against the textbook's numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from cacl.errors import UserError
from cacl.evaluation import compare, results
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.protocols import PROTOCOLS
from cacl.evaluation.summary import compare as compare_results
from cacl.evaluation.summary import statistics
from launch.jobs.compare import compare as compare_runs
from launch.main import main


def bootstrap(values, resamples=compare.RESAMPLES, seed=0):
    return compare.mean_over_clips(values, resamples).interval(seed)


def test_the_interval_is_that_of_the_normal_distribution_for_many_clips():
    right = np.random.default_rng(0).random(2000) < 0.4
    estimate = bootstrap(right)
    error = norm.ppf(0.975) * np.sqrt(right.mean() * (1 - right.mean()) / len(right))
    assert estimate.value == right.mean()
    # 10,000 resamples fix an end of the interval to about 1 % of its width
    assert estimate.low == pytest.approx(right.mean() - error, abs=0.05 * error)
    assert estimate.high == pytest.approx(right.mean() + error, abs=0.05 * error)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        estimate = bootstrap(random.random(100) < 0.3, resamples=400, seed=trial)
        covered += estimate.low <= 0.3 <= estimate.high
    # binomial with p = 0.95 and 200 trials: below 178 once in a thousand; the percentile bootstrap is a bit narrow
    assert 176 <= covered <= 200


def test_pairing_removes_what_both_models_share():
    random = np.random.default_rng(2)
    easy = random.random(500)
    first, second = easy, easy + 0.01 + 0.01 * random.standard_normal(500)
    difference = compare.mean_over_clips(second).less(compare.mean_over_clips(first)).interval()
    assert difference.excludes_zero
    assert difference.value == pytest.approx(0.01, abs=0.002)
    apart = bootstrap(second).high - bootstrap(second).low
    assert difference.high - difference.low < apart / 10


def test_seeds_widen_the_interval():
    random = np.random.default_rng(3)
    clips = random.random(400) < 0.5
    luck = np.array([-0.1, 0.0, 0.1, 0.05, -0.05])[:, None]
    seeds = clips + luck
    wide, narrow = bootstrap(seeds), bootstrap(seeds - luck)
    assert wide.high - wide.low > 1.1 * (narrow.high - narrow.low)


def test_a_clip_without_a_value_in_one_seed_is_left_out_of_all():
    values = np.array([[1.0, np.nan, 0.0], [1.0, 1.0, 0.0]])
    assert bootstrap(values, resamples=50).value == 0.5


def plain_interval(values, resamples, seed=0):
    """The interval of the mean of `values` [R, N], drawn clip by clip and seed by seed."""
    random, means = np.random.default_rng(seed), []
    for start in range(0, resamples, 200):
        clips = random.integers(values.shape[1], size=(min(200, resamples - start), values.shape[1]))
        seeds = random.integers(len(values), size=(len(clips), len(values)))
        means += [values[rows][:, columns].mean() for rows, columns in zip(seeds, clips, strict=True)]
    return np.quantile(means, [0.025, 0.975])


@pytest.mark.parametrize(
    ("seeds", "clips", "resamples"), [(1, 7, 450), (3, 7, 450), (1, 2000, 250), (2, 900, 400)]
)
def test_resamples_are_drawn_clip_by_clip_and_seed_by_seed_whatever_the_blocks_they_are_made_in(
    seeds, clips, resamples
):
    values = np.random.default_rng(4).random((seeds, clips))
    found = bootstrap(values, resamples)
    # sums of as many numbers in another order
    assert (found.low, found.high) == pytest.approx(plain_interval(values, resamples), rel=1e-12)
    assert found.value == pytest.approx(values.mean(), rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(
    shapes=st.lists(
        st.tuples(st.sampled_from([1, 3]), st.sampled_from([5, 40]), st.sampled_from([50, 400])), max_size=6
    ),
    seed=st.integers(0, 9),
)
def test_intervals_of_many_numbers_are_each_ones_own(shapes, seed):
    random = np.random.default_rng(seed)
    numbers = {
        str(place): compare.mean_over_clips(random.random(shape[:2]), shape[2])
        for place, shape in enumerate(shapes)
    }
    numbers |= {
        f"{place} - {other}": numbers[str(place)].less(numbers[str(other)])
        for place in range(len(shapes))
        for other in range(place)
        if shapes[place] == shapes[other]
    }
    assert compare.intervals(numbers, seed) == {
        name: number.interval(seed) for name, number in numbers.items()
    }


def test_numbers_of_one_curve_in_two_models_are_each_curves_own(tmp_path):
    """What two numbers share is computed once for each resample, never kept for the next."""
    protocol = PROTOCOLS["vggss"]
    both = []
    for name, quality in (("weak", 0.3), ("strong", 0.6)):
        evaluated(tmp_path / name, quality, clips=40, seed=len(name))
        both.append(results.read_clips(tmp_path / name, "vggss")["model"])
    found = compare_results([both[0]], [both[1]], protocol)
    assert {"ap", "max_f1"} <= found.keys()
    for metric, one in found.items():
        alone = [statistics([clips], protocol)[metric] for clips in both]
        assert (one.first, one.second) == (alone[0].interval(), alone[1].interval())
        assert one.difference == alone[1].less(alone[0]).interval()


def test_mcnemar_is_the_exact_binomial_test():
    first = np.array([True] * 10 + [False] * 2 + [True] * 50)
    second = np.array([False] * 10 + [True] * 2 + [True] * 50)
    found = compare.mcnemar(first, second)
    assert (found.only_first, found.only_second) == (10, 2)
    assert found.p_value == pytest.approx(2 * sum((1, 12, 66)) / 2**12)
    assert compare.mcnemar(first, first).p_value == 1


def of_dogs(index, columns):
    """Results of clips that each show one dog."""
    ids, names = np.array([f"clip-{k}" for k in index]), np.array(["dog"] * len(index))
    return ClipResults(index, ids, names, np.ones(len(index), dtype=np.int64), columns)


def evaluated(folder, quality, data="same", seed=0, clips=120, first=0, options=None):
    """Write the evaluation of a run whose clips are right with probability `quality`."""
    random = np.random.default_rng(seed)
    index = first + np.arange(clips)
    right = np.random.default_rng(99).random(clips) < quality
    ciou = np.where(right, 0.6, 0.2) + 0.01 * random.random(clips)
    columns = {
        "area": np.full(clips, 900.0),
        "ciou_top50": ciou,
        "ciou_adaptive": ciou,
        "ciou_absolute": ciou,
        "ceiling_ciou_top50": np.ones(clips),
        "confidence": random.random(clips),
        "peak_in_box": right,
    }
    subject = results.Subject(PROTOCOLS["vggss"], data, "step-1", [], options or {})
    systems = {"model": of_dogs(index, columns)}
    results.write(folder, results.summarize(subject, systems), systems)
    return str(folder)


def test_compare_says_which_run_is_better(tmp_path, capsys):
    weak, strong = evaluated(tmp_path / "weak", 0.3), evaluated(tmp_path / "strong", 0.6)
    assert main(["compare", weak, strong]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "ciou: strong is better than weak by" in first
    assert "120 clips, one seed" in first
    assert "McNemar: right in" in first
    assert main(["compare", weak, weak, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]["ciou"]
    assert found["difference"] == {"value": 0, "low": 0, "high": 0}
    assert found["mcnemar"]["p_value"] == 1


def test_compare_over_seeds_and_its_complaints(tmp_path, capsys):
    for seed in range(3):
        evaluated(tmp_path / f"a-{seed}", 0.3, seed=seed)
        evaluated(tmp_path / f"b-{seed}", 0.6, seed=seed)
    names = [str(tmp_path / "a-{}"), str(tmp_path / "b-{}")]
    assert main(["compare", *names, "--seeds", "0", "1", "2"]) == 0
    assert "120 clips, 3 seeds" in capsys.readouterr().out
    assert main(["compare", *names]) == 2
    assert "write {} for the seed" in capsys.readouterr().err
    other = evaluated(tmp_path / "other", 0.6, data="another test set")
    assert main(["compare", str(tmp_path / "a-0"), other]) == 2
    assert "its data is another test set" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "nothing"), other]) == 2
    assert "nothing: not a run directory" in capsys.readouterr().err


def test_numbers_of_a_comparison_are_each_runs_own_and_the_difference_is_the_second_less_the_first(
    tmp_path, capsys
):
    weak, strong = evaluated(tmp_path / "weak", 0.3), evaluated(tmp_path / "strong", 0.6, seed=1)
    assert main(["compare", weak, strong, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["first"], found["second"], found["protocol"]) == (weak, strong, "vggss")
    one = found["metrics"]["ciou"]
    right = [
        results.read_clips(tmp_path / name, "vggss")["model"]["ciou_top50"] > 0.5
        for name in ("weak", "strong")
    ]
    assert (one["first"]["value"], one["second"]["value"]) == tuple(map(np.mean, right))
    assert one["difference"]["value"] == pytest.approx(right[1].mean() - right[0].mean())
    assert one["difference"]["low"] > 0.1, "the case tells which is better"
    assert one["mcnemar"]["only_first"] == (right[0] & ~right[1]).sum()
    assert one["mcnemar"]["only_second"] == (right[1] & ~right[0]).sum()


def test_runs_of_other_clips_are_not_compared(tmp_path, capsys):
    first, second = evaluated(tmp_path / "a", 0.3), evaluated(tmp_path / "b", 0.6, first=7)
    assert main(["compare", first, second]) == 2
    assert "b: has results for other clips than" in capsys.readouterr().err


def test_numbers_under_another_threshold_are_not_compared(tmp_path):
    """Promise 13; a record that does not say its rules yet is taken to have those of its version."""
    first, second = (Path(evaluated(tmp_path / name, 0.3)) for name in "ab")
    record, systems = results.read_record(second, "vggss"), results.read_clips(second, "vggss")
    results.write(
        second, {**record, "rules": record["rules"] | {"ciou_absolute": "at least 0.3 (fixed)"}}, systems
    )
    with pytest.raises(UserError, match=r"b: its rules is .*at least 0.3 .*, that of .*a is .*at least 0 "):
        compare_runs([first], [second])
    del record["rules"]
    results.write(second, record, systems)
    assert compare_runs([first], [second]).metrics["ciou"].difference.value == 0


def heard(folder, quality):
    """Write the evaluation of a run on stamps whose peak goes to the other sound with probability `quality`."""
    clips = 100
    right = np.random.default_rng(1).random(clips) < quality
    index = np.arange(clips)
    same = {name: np.full(clips, 0.6) for name in ("pixel_ap", "ciou", "ciou_top50", "ceiling_ciou_top50")}
    model = {**same, "area": np.full(clips, 9.0), "confidence": np.linspace(0, 1, clips)}
    systems = {
        "model": of_dogs(index, {**model, "peak_in_box": np.ones(clips, bool)}),
        "other_sound": of_dogs(index, {"peak_in_sounding_box": right, "peak_in_first_box": ~right}),
    }
    subject = results.Subject(PROTOCOLS["stamps"], "same", "step-1", [])
    results.write(folder, results.summarize(subject, systems), systems)
    return str(folder)


def test_the_control_is_compared_by_its_own_numbers_of_which_one_counts_mistakes(tmp_path, capsys):
    words = ["compare", heard(tmp_path / "deaf", 0.2), heard(tmp_path / "hears", 0.7)]
    assert main([*words, "--system", "other_sound"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("peak_in_sounding_box: hears is better than deaf by")
    assert lines[1].startswith("peak_in_first_box: hears is better than deaf by")
    assert main([*words, "--system", "nothing"]) == 2
    assert "--system nothing: not measured; there are model, other_sound" in capsys.readouterr().err


def test_fewer_silent_clips_that_are_taken_for_sounding_are_better():
    fewer = compare.Estimate(-0.1, -0.2, -0.05)
    text = compare.verdict("A", "B", "silent_false_positives", fewer, 250, 1)
    assert text.startswith(
        "silent_false_positives: B is better than A by 10.0 points (B − A: 95 % interval -20.0 to"
    )
    assert compare.verdict("A", "B", "ciou", fewer, 250, 1).startswith(
        "ciou: A is better than B by 10.0 points"
    )


def test_a_verdict_that_is_not_sure_says_so():
    unsure = compare.Estimate(0.01, -0.02, 0.04)
    text = compare.verdict("A", "B", "ciou", unsure, 250, 1)
    assert text == (
        "ciou: these clips cannot tell A and B apart (+1.0 points; 95 % interval -2.0 to +4.0, 250 clips, one seed)."
    )


def test_results_of_another_format_are_refused(tmp_path):
    run = tmp_path / "run"
    evaluated(run, 0.5)
    path = run / "metrics.json"
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 9'))
    with pytest.raises(UserError, match="format_version is 9"):
        results.read_record(run)
