"""`cacl submit` without a cluster: what it would send, and one sentence for what cannot be."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from cacl.errors import UserError
from launch.cluster import slurm
from launch.main import main

RECIPE = """
data: {train: shards/train, labels: table.parquet, test: shards/test, order: {name: lanes, lanes: 24}}
training: {global_batch_size: 48, micro_batch_size: 6}
optimizer: {name: adamw}
"""
PACKS = ["--pack", "generated --out shards/train", "--pack", "generated --out shards/test"]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe, in a folder of its own, on a machine without SLURM."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for program in ("bash", "env"):
        os.symlink(f"/usr/bin/{program}", tmp_path / program)
    for name in ("CACL_SITE", "SBATCH_PARTITION", "CACL_CPU_RANKS"):
        monkeypatch.delenv(name, raising=False)
    Path("tiny.yaml").write_text(RECIPE)
    return "tiny.yaml"


def commands(capsys) -> list[str]:
    """Return the lines of a dry run that bash runs."""
    return [line for line in capsys.readouterr().out.strip().splitlines() if not line.startswith("#")]


def test_train_prints_one_sbatch_that_names_recipe_run_and_overrides(recipe, capsys) -> None:
    words = f"submit train {recipe} --nodes 4 --time 8:00:00 --gpus-per-node 2 --dry-run".split()
    assert main([*words, "--optimizer.learning-rate", "1e-3"]) == 0
    export, folder, command = commands(capsys)
    assert folder == "mkdir -p runs/tiny/logs"
    assert export.startswith("export CACL_SITE=")
    assert "--nodes=4" in command and "--time=8:00:00" in command and "--gpus-per-node=2" in command
    assert command.endswith("/train.sbatch tiny.yaml runs/tiny --optimizer.learning-rate 1e-3)")
    assert not Path("runs").exists(), "a dry run writes nothing"


def options_of(line: str) -> set[str]:
    """Return the words of a printed command that begin with two hyphens."""
    return {word for word in line.rstrip(")").split() if word.startswith("--")}


def test_two_jobs_of_one_run_wait_for_each_other_and_say_which_run_it_is(recipe, capsys) -> None:
    """Submitted twice, the second goes on where the first ends; the queue knows a job's run by its comment."""
    for folder in ("runs/tiny", "runs/mine"):
        own = ["--run-dir", folder] if folder != "runs/tiny" else []
        assert main(["submit", "train", recipe, "--dry-run", *own]) == 0
        command = commands(capsys)[-1]
        name = Path(folder).name
        assert {
            "--dependency=singleton",
            f"--job-name=cacl-train-{name}",
            f"--comment={folder}",
        } <= options_of(command)
        assert f"--output={folder}/logs/cacl-train-{name}-%j.log" in options_of(command)
        assert command.endswith(f"/train.sbatch tiny.yaml {folder})")


def test_each_link_of_a_chain_has_the_machines_that_it_needs(recipe, capsys) -> None:
    """Packing needs no GPU; only the training needs all nodes and a limit; a part writes a log of its own."""
    words = [
        "--nodes",
        "4",
        "--gpus-per-node",
        "2",
        "--partition",
        "big",
        "--time",
        "8:00:00",
        "--parts",
        "3",
        "--dry-run",
    ]
    assert main(["submit", "chain", recipe, *words, *PACKS]) == 0
    lines = commands(capsys)[2:]
    jobs = {line.split("=", 1)[0]: options_of(line) for line in lines}
    assert all("--partition=big" in options for options in jobs.values())
    gpus = {key for key, options in jobs.items() if "--gpus-per-node=2" in options}
    assert gpus == {"label", "train", "evaluate"}
    nodes = {key: word for key in jobs for word in jobs[key] if word.startswith("--nodes=")}
    assert nodes == {"label": "--nodes=1", "train": "--nodes=4", "evaluate": "--nodes=1"}
    assert {key for key in jobs if "--time=8:00:00" in jobs[key]} == {"train"}
    assert "--output=runs/tiny/logs/cacl-pack-%A_%a.log" in jobs["pack_2"]
    assert "--dependency=singleton" not in jobs["train"], "it waits for the chain alone"
    assert lines[-1].endswith("/evaluate.sbatch --run runs/tiny)")
    assert lines[3].endswith("/merge.sbatch --out shards/test)")


def test_a_sweep_is_one_job_that_is_given_recipe_folder_and_space(recipe, capsys) -> None:
    Path(recipe).write_text(RECIPE.replace("test: shards/test", "validation: shards/held, test: shards/test"))
    words = ["submit", "sweep", recipe, "--space", "temperature", "--nodes", "2", "--dry-run"]
    assert main([*words, "--out", "runs/swept"]) == 0
    command = commands(capsys)[-1]
    wanted = {"--nodes=2", "--dependency=singleton", "--comment=runs/swept", "--job-name=cacl-sweep-swept"}
    assert wanted <= options_of(command)
    assert command.endswith("/sweep.sbatch tiny.yaml runs/swept --space temperature)")


def test_chain_ends_when_a_link_fails(recipe, capsys) -> None:
    assert main(["submit", "chain", recipe, "--parts", "3", *PACKS, "--dry-run"]) == 0
    lines = commands(capsys)[2:]
    jobs = {line.split("=", 1)[0]: line for line in lines}
    assert list(jobs) == ["pack_1", "merge_1", "pack_2", "merge_2", "label", "train", "evaluate"]
    before = {
        "merge_1": ["pack_1"],
        "label": ["merge_1"],
        "train": ["label"],
        "evaluate": ["train", "merge_2"],
    }
    for key, others in before.items():
        waits = "--dependency=afterok:" + ":".join(f"${{{other}}}" for other in others)
        assert waits in jobs[key] and "--kill-on-invalid-dep=yes" in jobs[key]
    assert "--array=1-3" in jobs["pack_1"]
    assert jobs["label"].endswith("/label.sbatch shards/train --out table.parquet)")


def test_a_dry_run_begins_with_a_table_of_its_jobs(recipe, capsys) -> None:
    words = ["submit", "chain", recipe, "--parts", "3", *PACKS, "--dry-run", "--nodes", "2"]
    assert main([*words, "--gpus-per-node", "2"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("#")]
    rows = [re.split(r"  +", line[2:]) for line in lines]
    assert rows[0] == ["job", "does", "on", "after"]
    assert rows[1] == ["pack_1", "pack generated --out shards/train", "3 jobs", "-"]
    assert rows[2] == ["merge_1", "merge --out shards/train", "1 node", "pack_1"]
    table = {row[0]: row for row in rows}
    assert table["train"][2:] == ["2 nodes, 2 GPUs a node", "label"]
    assert table["evaluate"][3] == "train, merge_2"


def test_a_chain_that_cuts_a_validation_split_merges_both_sides_before_it_trains(recipe, capsys) -> None:
    cut = "generated --out shards/train --validation shards/held --validation-share 0.1"
    words = ["submit", "chain", recipe, "--pack", cut, *PACKS[2:], "--data.validation", "shards/held"]
    assert main([*words, "--dry-run"]) == 0
    lines = commands(capsys)[2:]
    jobs = {line.split("=", 1)[0]: line for line in lines}
    assert jobs["pack_1"].endswith(f"/pack.sbatch {cut})")
    assert jobs["merge_1"].endswith("/merge.sbatch --out shards/train)")
    assert jobs["merge_1_validation"].endswith("/merge.sbatch --out shards/held)")
    for key, others in {
        "merge_1_validation": ["pack_1"],
        "label": ["merge_1"],
        "train": ["label", "merge_1_validation"],
        "evaluate": ["train", "merge_2"],
    }.items():
        waits = "--dependency=afterok:" + ":".join(f"${{{other}}}" for other in others)
        assert f"{waits} " in jobs[key] or f'{waits}"' in jobs[key], jobs[key]


def test_a_chain_without_a_label_table_labels_nothing(recipe, capsys) -> None:
    words = ["submit", "chain", recipe, *PACKS, "--dry-run", "--data.labels", "null"]
    assert main(words) == 0
    lines = commands(capsys)
    train = next(line for line in lines if line.startswith("train="))
    assert "afterok:${merge_1}" in train and not any(line.startswith("label=") for line in lines)
    assert main([*words, "--label=--soft"]) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "{recipe}", "--nodes", "0"], "--nodes 0: give at least one node"),
        (["train", "{recipe}", "--time", "soon"], "--time soon: not a time"),
        (["train", "{recipe}", "--gpus-per-node", "-1"], "give 0 or more"),
        (["train", "{recipe}"], "sinfo: not found; run this on a login node"),
        (["train", "none.yaml", "--dry-run"], "none.yaml: No such file"),
        (["train", "{recipe}", "--dry-run", "--nodez.x", "3"], "nodez: unknown key"),
        (
            ["train", "{recipe}", "--dry-run", "--nodes", "5"],
            "24 lanes cannot be dealt to 5 ranks|cannot be dealt",
        ),
        (
            ["train", "{recipe}", "--dry-run", "--nodes", "2", "--gpus-per-node", "8"],
            "cannot be dealt to 16 ranks",
        ),
        (
            ["train", "{recipe}", "--dry-run", "--training.global-batch-size", "50"],
            "not a multiple of the 24 lanes of data.order.lanes; use 72",
        ),
        (["train", "{recipe}", "--dry-run", "--training.micro-batch-size", "7"], "7 does not divide the 48"),
        (["train", "{recipe}", "--dry-run", "--site", "none.sh"], "none.sh: there is no such file"),
        (["chain", "{recipe}", "--dry-run", "--pack", "generated"], "with --out"),
        (
            ["chain", "{recipe}", "--dry-run", "--pack", "generated --out x"],
            "none of them has --out shards/train",
        ),
        (
            ["train", "{recipe}", "--dry-run", "--time", "12:00"],
            "--time 12:00: SLURM reads this as 12 minutes",
        ),
        (
            ["chain", "{recipe}", "--dry-run", *PACKS[:2], "--pack", "videos --root none --out shards/test"],
            "--root none: is not a folder",
        ),
        (
            ["chain", "{recipe}", "--dry-run", *PACKS, "--label=--classifier resnet18 --weights none.pth"],
            "--label: --weights none.pth: there is no such file",
        ),
        (
            [
                "chain",
                "{recipe}",
                "--dry-run",
                *PACKS,
                "--data.labels",
                "shards/train/labels/resnet18.parquet",
            ],
            "the labels would be those of efficientnet-lite0; give --label '--classifier resnet18 --weights FILE'",
        ),
        (
            ["chain", "{recipe}", "--dry-run", *PACKS[:2]],
            "none of them has --out shards/test, the recipe's data.test, and nothing is packed there",
        ),
        (
            ["chain", "{recipe}", "--dry-run", *PACKS, "--data.test", "null"],
            "data.test names no clips; set it",
        ),
        (["chain", "{recipe}", "--dry-run", *PACKS, "--parts", "0"], "--parts 0: give at least one part"),
        (
            ["chain", "{recipe}", "--dry-run", *PACKS, "--data.validation", "held"],
            "none of them has --validation held, the recipe's data.validation; add it, or train without one",
        ),
        (["status"], "squeue: not found"),
    ],
)
def test_bad_input_is_one_sentence(recipe, capsys, words, sentence) -> None:
    assert main(["submit", *[word.format(recipe=recipe) for word in words]]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and any(part in error for part in sentence.split("|")), error


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("1:30", 2), ("8:00:00", 480), ("1-0", 1440), ("2-12:30", 3630), ("0:00:01", 1)],
)
def test_times_are_read_as_slurm_reads_them(text: str, expected: int) -> None:
    assert slurm.minutes(text) == expected


@pytest.mark.parametrize(
    ("gres", "expected"),
    [("(null)", 0), ("gpu:8", 8), ("gpu:a100:4(S:0-1)", 4), ("gpu:a100:2,gpu:t4:1,nvme:2", 3)],
)
def test_gpus_are_counted_in_what_sinfo_prints(gres: str, expected: int) -> None:
    assert slurm.count_gpus(gres) == expected


def test_a_broken_site_file_is_named(tmp_path: Path) -> None:
    site = tmp_path / "site.sh"
    site.write_text("false\n")
    with pytest.raises(UserError, match=r"site\.sh: bash cannot read it"):
        slurm.site_environment(str(site))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([*PACKS[:2], "--pack", "genrated --out shards/test"], "cacl pack: argument SOURCE: invalid choice: 'genrated'"),
        ([*PACKS[:2], "--pack", "generated --clip 3 --out shards/test"], "unknown argument --clip; did you mean --clips?"),
        ([*PACKS, "--label=--clasifier resnet18"], "cacl label: unknown argument --clasifier; did you mean --classifier?"),
    ],
)  # fmt: skip
def test_the_words_of_every_link_are_read_before_anything_is_submitted(
    recipe, capsys, words, sentence
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["submit", "chain", recipe, "--dry-run", *words])
    error = capsys.readouterr().err
    assert end.value.code == 2 and sentence in error and error.count("\n") == 1
