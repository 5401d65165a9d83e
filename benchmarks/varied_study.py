"""The study of instances: what class awareness does where a class is more than one picture and one recording.

    make reproduce-varied
    python -m benchmarks.varied_study [--clips 240 --test-clips 24 --seeds 0]     # a trial

Fixed before any result was seen: levels, arms, metric, recipe, seeds and the test draw, which is measured
once a training. Recipe (launch/recipes/miniature.yaml), clips and epochs are those of the other studies; a
trial on draws 10 (training) and 11 (test) with one seed showed no reason for others. The metric is
`peak_in_box`: the share of test clips whose map's peak lies in the box of the object that is heard. Intervals
resample seeds and clips.

1. Level `varied`: scenes of classes that have two originals or more, both of pictures and of recordings. Test
clips show and play originals that no training clip has. Arms are labels: none (own clip alone), image labels
(ImageNet, whole frame), fused, true. On `varied-1` and `varied-3` training uses at most one and three
originals of each class; all else is the same.

2. Kinds of error: true labels of which a share is wrong, either at random (another class by chance) or as
`other` (the class of a silent object in the same frame), the same clips in both; on `varied` and on the level
`two-object` of stamps.

What is done already is not done again. The result is written, whatever its sign, to docs/varied.json,
docs/class-awareness.md and docs/labels.md.
"""

from __future__ import annotations

import json
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
from benchmarks.miniature.training import Setting, run_all, trained_seconds, unique, warm_up
from cacl.evaluation.protocols import Protocol, get_protocol

METHOD, METRIC = "miniature", "peak_in_box"
ARMS = {"none": None, "image": data.STRONG, "fused": "fused", "true": "true"}
TITLES = {
    "none": "none (own clip)",
    "image": "image labels",
    "fused": "fused, unsupervised",
    "true": "true classes (ceiling)",
}
LEVELS = {"varied-1": 1, "varied-3": 3, "varied": 0}
"""Most originals of a class in training; 0: all."""
KINDS, SHARES = ("random", "other"), (0.4, 0.8)
ERROR_LEVELS = {"varied": "scenes", "two-object": "stamps"}
"""Levels of the study of errors and the protocols that measure them."""
TRAINING_SEED, TEST_SEED = 0, 3
"""Of the draws of clips; 3 is of this study alone."""


@dataclass(frozen=True)
class Study:
    """What is asked on the command line."""

    folder: Path
    seeds: Sequence[int]
    made_of: Sequence[str]
    """Words that name the collections."""
    source: str
    """Of the level `two-object`."""
    clips: int
    test_clips: int

    def rows(self) -> Rows:
        """Return the runs."""
        return Rows(self.folder, self.seeds)


def main() -> None:
    """Run the study, or what is left of it, and write what it found."""
    parser = study_parser(__doc__)
    parser.add_argument("--objects", nargs="+", default=["varied"], help="default: varied")
    parser.add_argument("--sounds", nargs="+", default=["varied"], help="default: varied")
    parser.add_argument("--backgrounds", nargs="+", default=["varied"], help="default: varied")
    given = parser.parse_args()
    made_of = ["--objects", *given.objects, "--sounds", *given.sounds, "--backgrounds", *given.backgrounds]
    study = Study(given.folder, given.seeds, made_of, given.source, given.clips, given.test_clips)
    pack(study)
    settings = plan(study)
    warm_up(settings, study.folder)
    run_all(settings, study.folder)
    record = {
        "metric": METRIC,
        "seeds": study.seeds,
        "clips": {"training": study.clips, "test": study.test_clips},
        "environment": environment(study.rows(), name_of("varied", METHOD, None)),
        "levels": {level: of_level(study, level) for level in LEVELS},
        "errors": {level: of_errors(study, level) for level in ERROR_LEVELS},
        "training_seconds": sum(trained_seconds(setting, study.folder) for setting in unique(settings)),
    }
    (given.docs / "varied.json").write_text(json.dumps(record, indent=1) + "\n")
    replace_section(given.docs / "class-awareness.md", "varied", levels_page(record))
    replace_section(given.docs / "labels.md", "errors", errors_page(record))


def pack(study: Study) -> None:
    """Pack every level and both test draws, and make their tables."""
    data.pack_varied_test(study.folder, study.made_of, study.test_clips, TEST_SEED)
    data.pack_test(study.folder, study.source, study.test_clips, TEST_SEED)
    for level, originals in LEVELS.items():
        data.pack_varied(study.folder, level, study.made_of, study.clips, TRAINING_SEED, originals)
    data.pack_level(study.folder, study.source, "two-object", study.clips, TRAINING_SEED, ("true",))


def plan(study: Study) -> list[Setting]:
    """Return every training."""
    rows = [(level, labels, "scenes") for level in LEVELS for labels in ARMS.values()]
    for level, protocol in ERROR_LEVELS.items():
        rows += [(level, labels, protocol) for labels in (None, "true")]
        for kind in KINDS:
            for share in SHARES:
                name = data.write_wrong(study.folder / level / "train", kind, share, TRAINING_SEED)
                rows.append((level, name, protocol))
    return [
        setting(study.folder, level, METHOD, labels, seed, protocols=(protocol,))
        for level, labels, protocol in rows
        for seed in study.seeds
    ]


def of_level(study: Study, level: str) -> dict[str, Any]:
    """Return each arm's metric, what its labels are worth, and what class awareness adds to own clips."""
    rows, protocol, train = study.rows(), get_protocol("scenes"), study.folder / level / "train"
    names = {arm: name_of(level, METHOD, labels) for arm, labels in ARMS.items()}
    return {
        "metric": {arm: rows.estimate(name, protocol, METRIC) for arm, name in names.items()},
        "by_seed": {arm: rows.by_seed(name, protocol, METRIC) for arm, name in names.items()},
        "less_none": {
            arm: rows.difference(names["none"], name, protocol, METRIC)
            for arm, name in names.items()
            if arm != "none"
        },
        "pair_precision": {
            arm: data.quality(train, labels)["pair_precision"] for arm, labels in ARMS.items() if labels
        },
    }


def of_errors(study: Study, level: str) -> dict[str, Any]:
    """Return the metric at each share of wrong labels of both kinds, and how the kinds differ."""
    rows, protocol = study.rows(), get_protocol(ERROR_LEVELS[level])
    found: dict[str, Any] = {
        arm: rows.estimate(name_of(level, METHOD, ARMS[arm]), protocol, METRIC) for arm in ("none", "true")
    }
    found["shares"] = {f"{share:.0%}": _at_share(rows, study, level, share, protocol) for share in SHARES}
    return found


def _at_share(rows: Rows, study: Study, level: str, share: float, protocol: Protocol) -> dict[str, Any]:
    tables = {kind: f"{kind}-{round(100 * share)}" for kind in KINDS}
    names = {kind: name_of(level, METHOD, name) for kind, name in tables.items()}
    return {
        "metric": {kind: rows.estimate(name, protocol, METRIC) for kind, name in names.items()},
        "pair_precision": {
            kind: data.quality(study.folder / level / "train", name)["pair_precision"]
            for kind, name in tables.items()
        },
        "other_less_random": rows.difference(names["random"], names["other"], protocol, METRIC),
    }


def made_by(record: Mapping[str, Any]) -> str:
    """Say what was run where."""
    seeds, clips, made = record["seeds"], record["clips"], record["environment"]
    return (
        f"`{METRIC}` in percent with 95 % intervals over {len(seeds)} seeds and {clips['test']} test clips; "
        f"{clips['training']:,} training clips a level. By `make reproduce-varied` at commit "
        f"{made['commit']} ({made['platform']}, 2 processor cores, torch {made['versions']['torch']}); all "
        f"trainings took {record['training_seconds'] / 60:.0f} minutes of one core each. Analysis and "
        "settings were committed before the run."
    )


def levels_page(record: Mapping[str, Any]) -> str:
    """Return the section of docs/class-awareness.md."""
    levels = record["levels"]
    head = ["at most one", "at most three", "all there are"]
    cells = {arm: [show(level["metric"][arm]) for level in levels.values()] for arm in ARMS}
    gains = {
        arm: [show_difference(one["less_none"][arm]) for one in levels.values()] for arm in ARMS if ARMS[arm]
    }
    worth = {arm: [f"{one['pair_precision'][arm]:.2f}" for one in levels.values()] for arm in gains}
    return "\n\n".join(
        [
            made_by(record),
            table(["labels", *head], [[TITLES[arm], *row] for arm, row in cells.items()]),
            "Less own clips, in points, paired over seeds and clips (bold: 0 is left out):",
            table(["labels", *head], [[TITLES[arm], *row] for arm, row in gains.items()]),
            "Precision of same-label pairs:",
            table(["labels", *head], [[TITLES[arm], *row] for arm, row in worth.items()]),
        ]
    )


def errors_page(record: Mapping[str, Any]) -> str:
    """Return the section of docs/labels.md."""
    parts = [made_by(record)]
    for level, found in record["errors"].items():
        parts.append(f"Level `{level}`: own clips {show(found['none'])}, true classes {show(found['true'])}:")
        lines = [
            [
                share,
                *(f"{show(one['metric'][kind])} ({one['pair_precision'][kind]:.2f})" for kind in KINDS),
                show_difference(one["other_less_random"]),
            ]
            for share, one in found["shares"].items()
        ]
        head = [
            "share",
            "at random (pair precision)",
            "the other visible object (pair precision)",
            "other less random",
        ]
        parts.append(table(head, lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
