"""`cacl submit` without a cluster: what it would send, and one sentence for what cannot be."""

from __future__ import annotations

import os
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


def test_train_prints_one_sbatch_that_names_recipe_run_and_overrides(recipe, capsys) -> None:
    words = f"submit train {recipe} --nodes 4 --time 8:00:00 --gpus-per-node 2 --dry-run".split()
    assert main([*words, "--optimizer.learning-rate", "1e-3"]) == 0
    export, folder, command = capsys.readouterr().out.strip().splitlines()
    assert folder == "mkdir -p runs/tiny/logs"
    assert export.startswith("export CACL_SITE=")
    assert "--nodes=4" in command and "--time=8:00:00" in command and "--gpus-per-node=2" in command
    assert command.endswith("/train.sbatch tiny.yaml runs/tiny --optimizer.learning-rate 1e-3)")
    assert not Path("runs").exists(), "a dry run writes nothing"


def test_chain_ends_when_a_link_fails(recipe, capsys) -> None:
    assert main(["submit", "chain", recipe, "--parts", "3", *PACKS, "--dry-run"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()[2:]
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


def test_a_chain_without_a_label_table_labels_nothing(recipe, capsys) -> None:
    words = ["submit", "chain", recipe, *PACKS, "--dry-run", "--data.labels", "null"]
    assert main(words) == 0
    lines = capsys.readouterr().out.strip().splitlines()
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
        (["train", "{recipe}", "--dry-run", "--nodez", "3"], "nodez: unknown key"),
        (
            ["train", "{recipe}", "--dry-run", "--nodes", "5"],
            "24 lanes cannot be dealt to 5 ranks|cannot be dealt",
        ),
        (["train", "{recipe}", "--dry-run", "--training.global-batch-size", "50"], "use 48 or 72"),
        (["train", "{recipe}", "--dry-run", "--training.micro-batch-size", "7"], "7 does not divide the 48"),
        (["train", "{recipe}", "--dry-run", "--site", "none.sh"], "none.sh: there is no such file"),
        (["chain", "{recipe}", "--dry-run", "--pack", "generated"], "with --out"),
        (
            ["chain", "{recipe}", "--dry-run", "--pack", "generated --out x"],
            "none of them has --out shards/train",
        ),
        (["chain", "{recipe}", "--dry-run", *PACKS, "--parts", "0"], "--parts 0: give at least one part"),
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
