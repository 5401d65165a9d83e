"""Own clips have pictures to look at: a page without numbers where there are no boxes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import cacl
from cacl.annotation import Annotation
from cacl.runs.directory import Run
from launch.jobs.look import other_film
from launch.main import main
from tests.launch.tiny import write_recipe


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory) -> tuple[Path, list[str]]:
    """A run of two steps on generated clips, and what its training said."""
    folder = tmp_path_factory.mktemp("look")
    said: list[str] = []
    recipe = write_recipe(folder, data, data={"validation": str(data)}, training={"epochs": 1})
    cacl.train(recipe, folder / "run", max_steps=2, say=said.append)
    return folder / "run", said


def test_a_training_ends_with_the_command_that_shows_its_clips(trained, data):
    run, said = trained
    command = f"cacl report --run {run} --data {data}"
    assert said[-1] == f"finished; the run is in {run}; look at it: {command}"
    assert main(command.split()[1:]) == 0
    page = (run / "clips.html").read_text()
    assert not (run / "report.html").exists()
    clips = re.findall(r'<article class="clip">.*?</article>', page, re.DOTALL)
    assert len(clips) == 24 and all(clip.count("<audio") == 2 for clip in clips), "its own sound and another"
    assert "The model was trained on these clips" in page and "nothing is counted" in page.lower()
    assert "<rect" not in page and "inside" not in page, "boxes, if there are some, are not shown"
    assert {"Drawn at random", "Where the model is surest", "Where it is least sure"} <= set(
        re.findall("<h3>(.*)</h3>", page)
    )


def test_a_run_that_was_not_evaluated_says_both_ways_to_a_page(trained, capsys):
    run, _ = trained
    assert main(["report", "--run", str(run)]) == 2
    error = capsys.readouterr().err
    assert (
        f"run first: cacl evaluate --run {run}, or look at clips without boxes: cacl report --run {run}"
        in error
    )


def test_the_page_goes_where_it_is_told_and_beside_wants_numbers(trained, data, tmp_path, capsys):
    run, _ = trained
    out = tmp_path / "page.html"
    assert main(["report", "--run", str(run), "--data", str(data), "--clips", "4", "--out", str(out)]) == 0
    assert out.read_text().count("<article") == 4 and str(out) in capsys.readouterr().out
    assert main(["report", "--run", str(run), "--data", str(data), "--beside", str(run)]) == 2
    assert f"{run}/metrics.json: there is none" in capsys.readouterr().err
    assert main(["report", "--run", str(run), "--data", str(tmp_path)]) == 2
    assert "there is no manifest" in capsys.readouterr().err
    assert Run(run).is_used()


def test_the_other_sound_is_that_of_another_film():
    """Clips of one film sound alike: with one of them a map that does not listen would look right."""
    films = ["a", "a", "b", None, "a"]
    notes = [Annotation(f"clip{k}", k, film=film) for k, film in enumerate(films)]
    assert [other_film(notes, range(5), row) for row in range(5)] == [2, 2, 3, 4, 2]
    assert other_film(notes, [0, 1, 4], 1) == 1, "there is no other"
