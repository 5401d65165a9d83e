"""What the report draws: the peak and whether it lies in a box, tables of two runs, shares of sounding clips."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.protocols import PROTOCOLS
from cacl.evaluation.sentences import sentence
from cacl.viewing import charts, report
from cacl.viewing.gallery import Example, View, render_example


def test_a_peak_is_drawn_where_the_map_is_highest_and_hits_the_box_it_lies_in():
    scores = torch.zeros(8, 8)
    scores[1, 6] = 1.0  # row 1, column 6: right and up
    boxes = [[0.75, 0.125, 0.875, 0.25]], [[0.125, 0.75, 0.25, 0.875]], [[-0.5, 0.0, 0.75, 1.5]]
    views = [View("v", scores, torch.zeros(80), one) for one in boxes]
    example = Example("a", "dog", torch.zeros(3, 8, 8, dtype=torch.uint8), views)
    found = render_example(example, 16000)["views"]
    assert [view["peak"] for view in found] == [(100 * 6.5 / 8, 100 * 1.5 / 8)] * 3
    assert [view["hit"] for view in found] == [True, False, False]
    assert found[0]["boxes"] == [(75, 12.5, 12.5, 12.5)]
    assert found[2]["boxes"] == [(0, 0, 75, 100)], "what lies outside the frame is not drawn"


def measured(name, shift):
    record = {
        "protocol": "stamps",
        "model": {"ciou": 0.5 + shift, "pixel_ap": 0.25 + shift},
        "untrained": {"ciou": 0.125, "pixel_ap": None},
        "intervals": {"ciou": [0.4 + shift, 0.6 + shift]},
        "ceiling": {"ciou": 0.875},
    }
    return report.Evaluation(name, record, {})


def test_the_table_has_each_runs_own_numbers_and_intervals():
    table = report._table(measured("first", 0.0), report.Rival(measured("second", 0.25), []))
    assert table["titles"] == [
        "trained model", "95 % interval", "second", "second, 95 % interval", "untrained model", "ceiling",
    ]  # fmt: skip
    assert table["rows"] == [
        ("ciou", sentence("ciou"), ["0.500", "0.400 – 0.600", "0.750", "0.650 – 0.850", "0.125", "0.875"]),
        ("pixel_ap", sentence("pixel_ap"), ["0.250", "–", "0.500", "–", "–", "–"]),
    ]
    assert table["beyond"] == []


def test_numbers_that_no_map_can_reach_are_no_failure():
    evaluation = measured("first", 0.0)
    evaluation.record["ceiling"]["ciou"] = 0.0
    table = report._table(evaluation, None)
    assert [name for name, *_ in table["rows"]] == ["pixel_ap"] and table["beyond"] == ["ciou"]


def results_of(boxes, **columns):
    index = np.arange(len(boxes))
    arrays = {name: np.array(values) for name, values in columns.items()}
    return ClipResults(index, index.astype(str), np.full(len(boxes), "dog"), np.array(boxes), arrays)


def test_shares_are_of_sounding_clips():
    results = results_of(boxes=[1, 0, 2, 1], ciou=[0.3, 0.9, 0.5, 0.8])
    found = dict(report._success(results, "ciou"))
    assert [found[k] for k in (0.0, 0.3, 0.5, 0.52, 0.8, 0.9)] == pytest.approx(
        [1, 1, 2 / 3, 1 / 3, 1 / 3, 0]
    )


def points_of(svg):
    return [
        [tuple(map(float, point.split(","))) for point in line.split()]
        for line in re.findall(r'<polyline points="([^"]*)"', svg)
    ]


LINES = st.lists(st.tuples(st.integers(0, 30), st.floats(-1, 1, width=16)), min_size=1, max_size=200).map(
    lambda points: np.array(sorted(points, key=lambda point: point[0]), dtype=float)
)


@given(points=LINES, columns=st.integers(1, 40), falls=st.booleans())
def test_a_thinned_line_keeps_the_ends_and_the_extremes_of_every_column(points, columns, falls):
    points = points[::-1] if falls else points
    found = charts.thinned(points, columns)
    assert len(found) <= 4 * columns
    if len(points) <= 4 * columns:
        assert found is points
        return
    places = iter(points.tolist())
    assert all(point in places for point in found.tolist()), "points of the line, in its order"
    low, high = points[:, 0].min(), points[:, 0].max()
    for column in range(columns):
        parts = []
        for line in (points, found):
            share = (line[:, 0] - low) / max(high - low, 1e-300)
            parts.append(line[np.minimum((share * columns).astype(int), columns - 1) == column])
        every, kept = parts
        assert len(every) == 0 or (
            kept[0].tolist() == every[0].tolist()
            and kept[-1].tolist() == every[-1].tolist()
            and (kept[:, 1].min(), kept[:, 1].max()) == (every[:, 1].min(), every[:, 1].max())
        )


def test_one_step_that_stands_out_of_very_many_is_drawn_and_the_page_says_that_others_are_not():
    losses = np.column_stack([np.arange(1.0, 100_001), np.ones(100_000)])
    losses[77_777, 1] = 50.0
    chart = report.training_chart(losses)
    each_step, _ = points_of(chart)
    assert min(y for _, y in each_step) == charts.TOP and len(each_step) <= 4 * charts.COLUMNS
    assert "Of 100,000 points of a line" in chart
    assert "points of a line" not in report.training_chart(losses[:1000])
    assert "Nothing was recorded" in report.training_chart(np.empty((0, 2)))


def test_lines_of_a_protocol_are_those_of_the_column_that_judges():
    """Stamps are judged by `ciou`, not by the field's `ciou_top50`, and have no ceiling in that chart."""
    results = results_of(
        boxes=[1] * 4, ciou=[1.0, 1.0, 1.0, 0.0], ciou_top50=np.zeros(4), ceiling_ciou_top50=np.ones(4)
    )
    one = report.Evaluation("run", {}, {"model": results})
    for protocol, lines in (("stamps", 1), ("vggss", 2)):
        svg = report._success_chart({"trained model": results}, one, PROTOCOLS[protocol])
        found = points_of(svg)
        assert len(found) == lines
        heights = {y for _, y in found[0][1:]}
        assert len(heights) == 1, "from the second threshold on the share does not change"
    top, bottom = found[1][0][1], heights.pop()
    (stamps,) = points_of(report._success_chart({"m": results}, one, PROTOCOLS["stamps"]))
    assert stamps[1][1] == pytest.approx(bottom + 0.75 * (top - bottom), abs=0.1)
