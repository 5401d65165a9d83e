"""The study of mixing: made scenes and real films in one training, beside each alone.

    make reproduce-mixing        # wants CACL_REAL_DIR and CACL_LISTS_DIR
    python -m benchmarks.mixing_study --films FOLDER --tests FOLDER --boxes vggss.json

Fixed before any result was seen: rows, steps, metric, seeds and the test draws, each measured once a
training. Rows differ in the training clips alone: `scenes` (the level `varied` of the other studies),
`films` (every three seconds of real films of VGG-Sound), and `mixed`, both at 3 to 1. Batches have 80 clips
and trainings 650 steps; positives are own clips, so that no labels favor one of the sets. The metric is
`peak_in_box` on the test scenes of `varied` (draw 3) and on the films of VGG-SS that are there, none of which
is a training film. Intervals resample seeds and clips. One trial (seed 9, 240 scenes) showed that it runs
and that films have 93 clips, from which batch and steps follow: 25 and 26 batches, 26 and 25 epochs.

What is done already is not done again. The result is written, whatever its sign, to docs/mixing.json and
docs/mixing.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.miniature import data
from benchmarks.miniature.analysis import (
    Rows,
    environment,
    replace_section,
    show,
    show_difference,
    table,
)
from benchmarks.miniature.plan import name_of, setting, study_parser
from benchmarks.miniature.training import Setting, run_all, trained_seconds, warm_up
from cacl.evaluation.protocols import get_protocol
from shards.store import open_store

METHOD, METRIC = "miniature", "peak_in_box"
TRAINING_SEED, TEST_SEED = 0, 3
BATCH, STEPS = 80, 650
PARTS = {"scenes": 3.0, "films": 1.0}
"""The two data sets, and their shares of the mixture."""
ROWS = {"scenes": "scenes alone", "films": "films alone", "mixed": "both, 3 to 1"}
TESTS = {"scenes": "test scenes", "vggss": "films of VGG-SS"}
"""The protocols, and what their clips are."""
EVERY = "3"
"""Seconds of a film that make a clip."""


@dataclass(frozen=True)
class Study:
    """What is asked on the command line."""

    folder: Path
    seeds: Sequence[int]
    films: Path
    tests: Path
    boxes: Path
    clips: int
    test_clips: int

    def rows(self) -> Rows:
        """Return the runs."""
        return Rows(self.folder, self.seeds)

    def train(self, part: str) -> Path:
        """Return where a data set's clips lie."""
        return self.folder / ("varied" if part == "scenes" else part) / "train"


def main() -> None:
    """Run the study, or what is left of it, and write what it found."""
    real, lists = (Path(os.environ.get(name, "")) for name in ("CACL_REAL_DIR", "CACL_LISTS_DIR"))
    parser = study_parser(__doc__)
    parser.add_argument("--films", type=Path, default=real / "vggsound", help="of training")
    parser.add_argument("--tests", type=Path, default=real / "vggss", help="films with boxes")
    parser.add_argument("--boxes", type=Path, default=lists / "vggss.json", help="their boxes")
    given = parser.parse_args()
    study = Study(
        given.folder, given.seeds, given.films, given.tests, given.boxes, given.clips, given.test_clips
    )
    pack(study)
    settings = plan(study)
    warm_up(settings, study.folder)
    run_all(settings, study.folder)
    record = {
        "metric": METRIC,
        "seeds": study.seeds,
        "clips": count_clips(study),
        "environment": environment(study.rows(), row_name("mixed")),
        "tests": {protocol: of_test(study, protocol) for protocol in TESTS},
        "training_seconds": sum(trained_seconds(one, study.folder) for one in settings),
    }
    (given.docs / "mixing.json").write_text(json.dumps(record, indent=1) + "\n")
    replace_section(given.docs / "mixing.md", "study", page(record))


def pack(study: Study) -> None:
    """Pack both data sets and both tests; of a test's list what is at hand."""
    data.pack_varied_test(study.folder, data.MADE_OF, study.test_clips, TEST_SEED)
    data.pack_scenes(study.folder, "varied", data.MADE_OF, study.clips, TRAINING_SEED)
    data.pack_once(
        study.train("films"), "videos", ["--root", str(study.films), "--every", EVERY, "--seconds", EVERY]
    )
    # Of the list's 5,158 clips nearly all are not at hand.
    words = ["--root", str(study.tests), "--boxes", str(study.boxes), "--max-rejected", "1"]
    data.pack_once(study.folder / data.TESTS["vggss"], "vggss", words)


def count_clips(study: Study) -> dict[str, int]:
    """Return how many clips each part and each test has."""
    places = {part: study.train(part) for part in PARTS}
    places |= {f"test {protocol}": study.folder / data.TESTS[protocol] for protocol in TESTS}
    return {name: len(open_store(place).indices) for name, place in places.items()}


def plan(study: Study) -> list[Setting]:
    """Return every training."""
    return [of_row(study, row, seed) for row in ROWS for seed in study.seeds]


def of_row(study: Study, row: str, seed: int) -> Setting:
    """Return a training on one data set or on both."""
    parts = list(PARTS) if row == "mixed" else [row]
    batches = sum(len(open_store(study.train(part)).indices) for part in parts) // BATCH
    training = {"global_batch_size": BATCH, "micro_batch_size": BATCH, "epochs": round(STEPS / batches)}
    found = setting(
        study.folder, row_level(row), METHOD, None, seed, "mixing", training=training, protocols=tuple(TESTS)
    )
    weights = PARTS if row == "mixed" else dict.fromkeys(parts)
    train = [{"path": str(study.train(part)), "weight": weights[part]} for part in parts]
    order = {"name": "lanes", "lanes": 10}
    recipe = {**found.recipe, "data": {**found.recipe["data"], "train": train, "order": order}}
    return Setting(found.row, recipe, found.protocols)


def row_level(row: str) -> str:
    """Return the folder of a row's runs."""
    return "varied" if row == "scenes" else row


def row_name(row: str) -> str:
    """Return where a row's runs lie."""
    return name_of(row_level(row), METHOD, None, "mixing")


def of_test(study: Study, protocol: str) -> dict[str, Any]:
    """Return every row's metric, and what the mixture adds to each part alone."""
    rows, rules = study.rows(), get_protocol(protocol)
    return {
        "metric": {row: rows.estimate(row_name(row), rules, METRIC) for row in ROWS},
        "by_seed": {row: rows.by_seed(row_name(row), rules, METRIC) for row in ROWS},
        "mixed_less": {
            part: rows.difference(row_name(part), row_name("mixed"), rules, METRIC) for part in PARTS
        },
    }


def page(record: Mapping[str, Any]) -> str:
    """Return the section of docs/mixing.md."""
    seeds, clips, made, tests = (record[key] for key in ("seeds", "clips", "environment", "tests"))
    heard = [f"{title} ({clips[f'test {protocol}']})" for protocol, title in TESTS.items()]
    head = (
        f"`{METRIC}` in percent with 95 % intervals over {len(seeds)} seeds and the test clips; trained on "
        f"{clips['scenes']:,} scenes and {clips['films']} clips of films. By `make reproduce-mixing` at "
        f"commit {made['commit']} ({made['platform']}, 2 processor cores, "
        f"torch {made['versions']['torch']}); all trainings took {record['training_seconds'] / 60:.0f} "
        "minutes of one core each. Analysis and settings were committed before the run."
    )
    cells = [
        [title, *(show(tests[protocol]["metric"][row]) for protocol in TESTS)] for row, title in ROWS.items()
    ]
    gains = [
        [
            f"both less {ROWS[part]}",
            *(show_difference(tests[protocol]["mixed_less"][part]) for protocol in TESTS),
        ]
        for part in PARTS
    ]
    return "\n\n".join(
        [
            head,
            table(["trained on", *heard], cells),
            "In points, paired over seeds and clips (bold: 0 is left out):",
            table(["", *heard], gains),
        ]
    )


if __name__ == "__main__":
    main()
