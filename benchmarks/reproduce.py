"""The paper's three tables in miniature: the field's losses on one trainer, on stamps.

    make reproduce
    python -m benchmarks.reproduce [--source generated --clips 200 --test-clips 40 --seeds 0]     # a trial

Rows are losses and not trainings: of a method's recipe in launch/recipes/ a row takes the loss, heads, image
dropout and how the moving average makes targets; the rest is launch/recipes/miniature.yaml for all. Fixed
before any result was seen: the rows, what each is compared with and which one thing differs, the levels, the
metrics, five seeds, and one test draw that is measured once a training. Training clips show two objects of
one size (`two-object`), and so do test clips, one of them silent. Table 1 measures on these, Table 2 on their
Extended form. Table 3 changes the labels. Temperature and global batch are swept for own clips alone and for
class awareness, both with `max`. Intervals resample seeds and clips.

What is done already is not done again, and trainings that the study of labels has made are shared. Results
go, whatever their sign, to docs/results.json, docs/results.md and plots beside them; with `--no-sweep` the
sweep stays what docs/results.json holds of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot

from benchmarks.miniature import data
from benchmarks.miniature.analysis import Rows, environment, errorbars, show, show_difference, table
from benchmarks.miniature.losses import EXTENDED, LEVEL, OWN_CLIP, PROTOCOL, ROWS, SLAVC, Row
from benchmarks.miniature.plan import name_of, setting, study_parser
from benchmarks.miniature.training import Setting, run_all, trained_seconds, unique, warm_up
from cacl.evaluation.results import read_record

LABELS = {
    "none": None,
    "weak image labels": data.WEAK,
    "strong image labels": data.STRONG,
    "clusters of sound": "sound",
    "fused, unsupervised": "fused",
    "true classes (ceiling)": "true",
}
SWEPT = (OWN_CLIP, next(row for row in ROWS if row.beside is OWN_CLIP))
TEMPERATURES, BATCHES = (0.03, 0.07, 0.2), (48, 120, 240)
MAIN = "peak_in_box"
METRICS = ("peak_in_box", "pixel_ap", "ciou", "auc")
EXTENDED_METRICS = ("ap", "max_f1", "silent_false_positives")
"""Of all clips, sounding and not: a sounding clip is right where the peak lies in the box."""
TRAINING_SEED, TEST_SEED = 0, 2
"""Of the draws of clips; those of the study of labels."""
TESTS = {name: data.TESTS[name] for name in ("stamps", "extended-stamps")}


def main() -> None:
    """Run what is left of the trainings, and write what they found."""
    parser = study_parser(__doc__)
    parser.add_argument(
        "--no-sweep", action="store_true", help="keep what docs/results.json holds of temperature × batch"
    )
    arguments = parser.parse_args()
    folder = arguments.folder
    data.pack_test(folder, arguments.source, arguments.test_clips, TEST_SEED)
    data.pack_level(folder, arguments.source, LEVEL, arguments.clips, TRAINING_SEED)
    settings = plan(folder, arguments.seeds)
    swept_rows = () if arguments.no_sweep else SWEPT
    settings += sweep(folder, swept_rows, arguments.seeds)
    warm_up(settings, folder)
    run_all(settings, folder)
    baselines = measure_baselines(folder, SLAVC.name(), arguments.seeds[0])
    rows = Rows(folder, arguments.seeds)
    kept = read_sweep(arguments.docs) if arguments.no_sweep else {}
    record = {
        "seeds": arguments.seeds,
        "clips": {"training": arguments.clips, "test": arguments.test_clips},
        "environment": environment(rows, SLAVC.name()),
        "baselines": baselines,
        "losses": of_losses(rows),
        "labels": of_labels(rows),
        "sweep": kept.get("sweep") or {row.title: of_sweep(rows, row) for row in swept_rows},
        "sweep_gain": kept.get("sweep_gain") or (of_sweep_gain(rows) if swept_rows else []),
        "sweep_environment": kept.get("sweep_environment") or environment(rows, SLAVC.name()),
        "rows": sorted({setting.row for setting in settings}),
        "training_seconds": sum(trained_seconds(setting, folder) for setting in unique(settings)),
    }
    (arguments.docs / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    if record["sweep"]:
        plot_sweep(record["sweep"], arguments.docs / "results-sweep.svg")
    plot_labels(record["labels"], arguments.docs / "results-labels.svg")
    (arguments.docs / "results.md").write_text(page(record))


def plan(folder: Path, seeds: list[int]) -> list[Setting]:
    """Return every training of the tables."""
    settings = [row.setting(folder, seed) for row in ROWS for seed in seeds]
    settings += [
        setting(folder, LEVEL, "miniature", labels, seed) for labels in LABELS.values() for seed in seeds
    ]
    return settings


def sweep(folder: Path, rows: tuple[Row, ...], seeds: list[int]) -> list[Setting]:
    """Return every training of the sweep."""
    return [
        swept(folder, row, temperature, batch, seed)
        for row in rows
        for temperature in TEMPERATURES
        for batch in BATCHES
        for seed in seeds
    ]


def swept(folder: Path, row: Row, temperature: float, batch: int, seed: int) -> Setting:
    """Return a training of the sweep: the same epochs and learning rate at every batch size."""
    training = {"global_batch_size": batch, "micro_batch_size": min(batch, 120)}
    loss, tag = {"temperature": temperature}, sweep_tag(temperature, batch)
    return setting(folder, LEVEL, row.method, row.labels, seed, tag, loss, training)


def sweep_tag(temperature: float, batch: int) -> str:
    """Return what tells a run of the sweep from others of its row."""
    return f"t{temperature}-b{batch}"


def measure_baselines(folder: Path, row: str, seed: int) -> dict[str, Any]:
    """Return what stands beside every model: centered box, untrained model, objects alone, the ceiling.

    `cacl evaluate` measures them on one run, on the frames themselves; that run's own numbers come along as
    `model`, to be compared with those from cached features.
    """
    run = folder / "baselines" / row / str(seed)
    if not (run / "metrics.json").exists():
        trained = folder / "runs" / row / str(seed)
        run.mkdir(parents=True, exist_ok=True)
        for name in ("recipe.yaml", "checkpoints"):
            if not (run / name).exists():
                (run / name).symlink_to((trained / name).resolve())
        for name, clips in TESTS.items():
            words = ["--data", str(folder / clips), "--protocol", name, "--object-guidance", "min-max"]
            data.cacl("evaluate", "--run", str(run), *words)
    found = {protocol: read_record(run, protocol) for protocol in TESTS}
    names = ("centered_box", "untrained", "objects", "guided", "model")
    return {protocol: {name: record.get(name) for name in names} for protocol, record in found.items()}


def read_sweep(docs: Path) -> dict[str, Any]:
    """Return what docs/results.json holds of the sweep, {} where there is none."""
    path = docs / "results.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    kept = {key: record[key] for key in ("sweep", "sweep_gain") if record.get(key)}
    return kept and {**kept, "sweep_environment": record.get("sweep_environment", record["environment"])}


def of_losses(rows: Rows) -> dict[str, Any]:
    """Return every row's numbers, and its difference in the main one to the row that it is compared with."""
    found: dict[str, Any] = {}
    for row in ROWS:
        name = row.name()
        numbers = {metric: rows.estimate(name, PROTOCOL, metric) for metric in METRICS}
        numbers |= {
            f"extended {metric}": rows.estimate(name, EXTENDED, metric) for metric in EXTENDED_METRICS
        }
        found[row.title] = {
            "numbers": numbers,
            "beside": row.beside and row.beside.title,
            "differs_in": row.differs_in[0],
            "difference": row.beside and rows.difference(row.beside.name(), name, PROTOCOL, MAIN),
            "control": control(rows, name),
        }
    return found


def control(rows: Rows, row: str) -> dict[str, float]:
    """Return the control with the other object's sound, a mean over seeds."""
    records = [json.loads((run / "metrics.json").read_text()) for run in rows.runs(row)]
    found = [record["evaluations"][PROTOCOL.name]["other_sound"] for record in records]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def of_labels(rows: Rows) -> dict[str, Any]:
    """Return the main number for every kind of label, its difference to none, and the labels' quality."""
    names = {title: name_of(LEVEL, "miniature", labels) for title, labels in LABELS.items()}
    train = rows.folder / LEVEL / "train"
    return {
        title: {
            "metric": rows.estimate(names[title], PROTOCOL, MAIN),
            "minus_none": rows.difference(names["none"], names[title], PROTOCOL, MAIN),
            "pair_precision": data.quality(train, labels)["pair_precision"] if labels else None,
        }
        for title, labels in LABELS.items()
    }


def of_sweep(rows: Rows, row: Row) -> list[dict[str, Any]]:
    """Return the main number of every temperature and batch."""
    return over_settings(lambda tag: rows.estimate(row.name(tag), PROTOCOL, MAIN))


def of_sweep_gain(rows: Rows) -> list[dict[str, Any]]:
    """Return what class awareness adds to own clips at every temperature and batch."""
    first, second = SWEPT
    return over_settings(lambda tag: rows.difference(first.name(tag), second.name(tag), PROTOCOL, MAIN))


def over_settings(measure: Callable[[str], dict[str, float]]) -> list[dict[str, Any]]:
    """Return `measure` of the tag of every temperature and batch."""
    return [
        {
            "temperature": temperature,
            "global_batch_size": batch,
            "metric": measure(sweep_tag(temperature, batch)),
        }
        for temperature in TEMPERATURES
        for batch in BATCHES
    ]


def page(record: dict[str, Any]) -> str:
    """Return docs/results.md."""
    made, seeds, clips = record["environment"], record["seeds"], record["clips"]
    parts = [
        "# The paper's tables in miniature",
        "Written by `make reproduce` (`benchmarks/reproduce.py`); rows, levels, metrics and settings were "
        "committed before the run. What it means: [does class awareness help?](class-awareness.md)",
        f"Commit {made['commit']}; {made['platform']}, 2 processor cores, one a training; torch "
        f"{made['versions']['torch']}; {len(record['rows'])} rows, {record['training_seconds'] / 60:.0f} "
        f"minutes of training. Stamps, level `{LEVEL}`: {clips['training']:,} training clips, "
        f"{clips['test']} test clips (twice as many in the Extended form). Means over {len(seeds)} seeds in "
        "percent, with 95 % intervals that resample seeds and clips. Every frame holds a silent object of "
        "another class; "
        "`other sound` plays that object's sound: the peak in its box / still in the first object's box.",
    ]
    parts += [
        "## Table 1: losses",
        losses_table(record["losses"]),
        "Rows are losses and not the trainings that are published under their names: of a method's recipe a "
        "row takes the loss, heads, image dropout and how the moving average makes targets. What a row adds "
        "to another that differs in one thing, in points of `peak_in_box`, paired over seeds and clips; bold "
        "where 0 is left out:",
        differences_table(record["losses"]),
        "## Table 2: the Extended form",
        extended_table(record["losses"]),
        "Every frame again in silence or with the sound of an absent object. A sounding clip is right where "
        "the peak lies in the box; F1 is the highest over all thresholds of confidence, false positives are "
        "silent clips taken for sounding at that threshold.",
        "## Beside every model",
        baselines_table(record["baselines"]),
        "## Table 3: which labels",
        labels_table(record["labels"]),
        "![peak_in_box against the precision of same-label pairs](results-labels.svg)",
        "## Temperature and global batch",
    ]
    if record["sweep"]:
        parts += [
            "The same epochs and learning rate everywhere, so a larger batch takes fewer steps. Run at "
            f"commit {record['sweep_environment']['commit']}; the cells at 0.07 and 120 are rows of Table 1, "
            "which if its commit is another one were run a second time.",
            *[sweep_table(name, found, show) for name, found in record["sweep"].items()],
            "What class awareness adds, in points, paired over seeds and clips; bold where 0 is left out:",
            sweep_table("gain", record["sweep_gain"], show_difference),
            "![peak_in_box over temperature and global batch](results-sweep.svg)",
        ]
    else:
        parts.append("Not run (`--no-sweep`); `make reproduce` adds it to what is done.")
    return "\n\n".join(parts) + "\n"


def losses_table(found: dict[str, Any]) -> str:
    """Return Table 1."""
    lines = []
    for title, row in found.items():
        one = row["control"]
        other = f"{100 * one['peak_in_sounding_box']:.1f} / {100 * one['peak_in_first_box']:.1f}"
        lines.append([title, *(show(row["numbers"][name]) for name in METRICS), other])
    return table(["loss", *METRICS, "other sound"], lines)


def differences_table(found: dict[str, Any]) -> str:
    """Return what each row adds to the one that it is compared with."""
    lines = [
        [title, row["beside"], row["differs_in"], show_difference(row["difference"])]
        for title, row in found.items()
        if row["beside"]
    ]
    return table(["loss", "beside", "differs in", f"{MAIN}, points"], lines)


def extended_table(found: dict[str, Any]) -> str:
    """Return Table 2."""
    cells = {
        title: [show(row["numbers"][f"extended {name}"]) for name in EXTENDED_METRICS]
        for title, row in found.items()
    }
    return table(["loss", *EXTENDED_METRICS], [[title, *row] for title, row in cells.items()])


def baselines_table(found: dict[str, Any]) -> str:
    """Return the baselines, measured on the frames by `cacl evaluate` on one run of the first row."""
    titles = {
        "centered_box": "centered box",
        "untrained": "untrained model",
        "objects": "objects alone (OGL)",
        "model": f"{SLAVC.title}, first seed",
        "guided": "the same with objects (OGL, min-max, α 0.4)",
    }
    lines = []
    for key, title in titles.items():
        numbers = found[PROTOCOL.name][key]
        cells = (numbers.get(metric) for metric in METRICS)
        lines.append([title, *("-" if cell is None else f"{100 * cell:.1f}" for cell in cells)])
    return table(["", *METRICS], lines)


def labels_table(found: dict[str, Any]) -> str:
    """Return Table 3."""
    lines = []
    for title, one in found.items():
        precision = one["pair_precision"]
        lines.append(
            [
                title,
                "-" if precision is None else f"{precision:.2f}",
                show(one["metric"]),
                "" if precision is None else show_difference(one["minus_none"]),
            ]
        )
    return table(["labels", "pair precision", MAIN, "less none"], lines)


def sweep_table(name: str, found: list[dict[str, Any]], cell: Callable[[dict[str, float]], str]) -> str:
    """Return temperatures against batches."""
    lines = []
    for temperature in TEMPERATURES:
        row = [one for one in found if one["temperature"] == temperature]
        lines.append([str(temperature), *(cell(one["metric"]) for one in row)])
    return table([f"{name}: temperature", *(f"batch {batch}" for batch in BATCHES)], lines)


def plot_labels(found: dict[str, Any], path: Path) -> None:
    """Draw the main number against the precision of the labels' pairs."""
    figure, axes = pyplot.subplots(figsize=(6.4, 4.2))
    axes.axhline(found["none"]["metric"]["value"], color="gray", linestyle=":", label="own clip alone")
    for title, one in found.items():
        if one["pair_precision"] is not None:
            errorbars(axes, [one["pair_precision"]], [one["metric"]], fmt="o", label=title)
    axes.set(xlabel="precision of same-label pairs", ylabel=MAIN, title=f"level {LEVEL}")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def plot_sweep(found: dict[str, Any], path: Path) -> None:
    """Draw the main number over temperature, a line a batch."""
    figure, panels = pyplot.subplots(1, len(found), figsize=(9.6, 3.6), sharey=True)
    for axes, (name, rows) in zip(panels, found.items(), strict=True):
        for batch in BATCHES:
            row = [one for one in rows if one["global_batch_size"] == batch]
            x = [one["temperature"] for one in row]
            errorbars(axes, x, [one["metric"] for one in row], fmt="o-", label=f"batch {batch}")
        axes.set(xlabel="temperature", xscale="log", title=name)
        axes.set_xticks(TEMPERATURES, [str(value) for value in TEMPERATURES])
        axes.minorticks_off()
    panels[0].set_ylabel(MAIN)
    panels[-1].legend(fontsize=8, loc="lower right")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
