"""Promises 6, 7 and 8: killed, hung, signalled, without room, or fed a clip that is not finite, a training ends in
the same model as if nothing had happened, or says in one sentence why it cannot go on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from cacl.errors import UserError
from cacl.loss import LossOptions, global_loss
from cacl.model.localizer import Localizer
from cacl.options import parse
from cacl.runs import checkpoint
from cacl.training.engines import DDP
from cacl.training.heartbeat import Beat, judge
from cacl.training.optimization import AdamW
from cacl.training.step import train_step
from cacl.world import World
from tests.helpers import disks
from tests.launch.tiny import cacl, write_recipe
from tests.training.jobs import Job, finish, steps
from tests.training.steps import LOSS, MICRO, MODEL, inputs

faults = pytest.mark.faults
TIMEOUT = 20.0
LAST = 18


def recipe_of(folder: Path, data: Path, **training: object) -> Path:
    values = {"checkpoint_every": 3, "epochs": 100, "distributed_timeout": TIMEOUT, "ema_decay": 0.9}
    return write_recipe(folder, data, training={**values, **training})


@pytest.fixture(scope="session")
def recipe(tmp_path_factory, data) -> Path:
    return recipe_of(tmp_path_factory.mktemp("recipe"), data)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, recipe) -> Path:
    """A run of LAST steps on two ranks that nothing happened to."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(recipe, run, "--max-steps", str(LAST))
    return run


def same(run: Path, other: Path) -> None:
    """Losses of every step and all weights are equal bit for bit."""
    assert steps(run) == steps(other)
    newest, expected = (
        checkpoint.latest_valid(run / "checkpoints"),
        checkpoint.latest_valid(other / "checkpoints"),
    )
    assert newest is not None and expected is not None and newest.name == expected.name
    for name in ("model.safetensors", "ema.safetensors", "engine/optimizer.safetensors"):
        assert (newest / name).read_bytes() == (expected / name).read_bytes(), name


# -- the heartbeat's judgement ---------------------------------------------------------------------------------


def beats(*places: tuple[int, str, int]) -> dict[int, Beat]:
    return {rank: Beat(rank, "node", 100 + rank, 1, *place) for rank, place in enumerate(places)}


def test_a_rank_whose_heartbeat_stands_still_is_named():
    before = beats((7, "computing", 40), (7, "computing", 40), (7, "computing", 40))
    now = beats((7, "computing", 43), (7, "computing", 40), (7, "computing", 44))
    hanging, sentence = judge(before, now, 3, 60.0)
    assert hanging == [1]
    assert "no heartbeat of rank 1 (host node, process 101, step 7, computing)" in sentence
    assert "60 s" in sentence and "--resume" in sentence


def test_a_rank_without_a_file_is_named():
    now = beats((7, "computing", 43))
    assert judge(now, beats((7, "computing", 46)), 2, 60.0)[0] == [1]


def test_a_rank_that_lives_and_is_behind_is_named():
    before = beats((7, "computing", 40), (7, "waiting for data", 40))
    now = beats((7, "computing", 43), (7, "waiting for data", 43))
    hanging, sentence = judge(before, now, 2, 60.0)
    assert (
        hanging == [1]
        and "rank 1" in sentence
        and "waiting for data" in sentence
        and "keeps the others" in sentence
    )


def test_who_waits_for_the_data_of_a_later_step_is_ahead_of_who_computes_an_earlier_one():
    before = beats((8, "waiting for data", 40), (7, "computing", 40), (8, "checkpoint", 40))
    now = beats((8, "waiting for data", 43), (7, "computing", 43), (8, "checkpoint", 43))
    assert judge(before, now, 3, 60.0)[0] == [1]


def test_where_all_live_and_stand_at_one_place_it_is_the_network():
    before, now = (
        beats((7, "computing", 1), (7, "computing", 1)),
        beats((7, "computing", 3), (7, "computing", 4)),
    )
    hanging, sentence = judge(before, now, 2, 60.0)
    assert hanging == [] and "the network between them" in sentence


def test_a_rank_that_is_alone_waits_for_its_data_and_for_nobody_else():
    now = beats((7, "waiting for data", 43))
    hanging, sentence = judge(now, now, 1, 60.0)
    assert hanging == [] and "no batch came up to the timeout of 60 s" in sentence


# -- what is not finite ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("micro", [MICRO, 1000], ids=["cached", "plain"])
def test_a_poisoned_clip_is_skipped_without_a_trace(micro):
    """Weights, optimizer and running statistics are bitwise those from before the step."""
    loss = parse(LossOptions, LOSS, "test")
    engine = DDP().build(Localizer(MODEL, loss.scalars(), seed=3).train(), AdamW(learning_rate=1e-2), World())
    images, spectrograms, clips = inputs()

    def step(number: int, audio: torch.Tensor) -> torch.Tensor:
        pieces = zip(images.float().split(micro), audio.split(micro), strict=True)
        record = train_step(
            engine,
            list(pieces),
            clips,
            lambda embeddings, own: global_loss(embeddings, own, loss, World()),
            seed=0,
            step=number,
            learning_rate_factor=1.0,
        )
        return record.gradient_norm

    step(0, spectrograms.float())
    before = {k: v.clone() for part in engine.state_files().values() for k, v in part.items()}
    poisoned = spectrograms.float().clone()
    poisoned[2] = float("nan")
    assert not torch.isfinite(step(1, poisoned))
    after = {k: v for part in engine.state_files().values() for k, v in part.items()}
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    assert torch.isfinite(step(2, spectrograms.float()))


@faults
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_loss_that_explodes_follows_the_policy_and_names_clips(tmp_path, data, policy):
    recipe = recipe_of(tmp_path, data, non_finite=policy)
    run = tmp_path / "run"
    answer = cacl(
        "train", str(recipe), "--run-dir", str(run), "--max-steps", "6", "--optimizer.learning-rate", "1e38"
    )
    assert "is not finite; clips [" in answer.stderr, answer.stderr
    assert answer.returncode == (1 if policy == "stop" else 0)
    newest = checkpoint.latest_valid(run / "checkpoints")
    if policy == "stop":
        assert answer.stderr.count("Traceback") == 0 and newest is None
    else:
        assert "the update was skipped" in answer.stderr and newest is not None


# -- no room ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        with disks.small_disk(folder, 4):
            yield folder
    except PermissionError as error:
        pytest.skip(str(error))


def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_it_stays(small_disk):
    files = {"model.safetensors": {"weight": torch.zeros(400_000)}}
    writer = checkpoint.Writer(small_disk, keep=5)
    for step in (1, 2):
        writer.begin(step)
        writer.save(step, files, {"identity": {}})
    writer.wait()
    writer.begin(3)
    writer.save(3, files, {"identity": {}})
    with pytest.raises(UserError, match=r"could not be written.*make room.*--resume"):
        writer.wait()
    newest = checkpoint.latest_valid(small_disk)
    assert newest is not None and newest.name == "step-2"
    assert not list(small_disk.glob("writing-*"))


@faults
def test_a_run_whose_disk_is_full_ends_and_goes_on_once_there_is_room(small_disk, recipe, undisturbed):
    run = small_disk / "run"
    ballast = small_disk / "ballast"
    with Job(recipe, run, "--max-steps", str(LAST)) as job:
        job.until_step(4)
        os.kill(job.rank(0), signal.SIGSTOP)  # for the moment that it takes to fill the disk
        disks.fill(ballast)
        os.kill(job.rank(0), signal.SIGCONT)
        code = job.end()
    assert code == 1
    assert checkpoint.latest_valid(run / "checkpoints") is not None
    ballast.unlink()
    finish(recipe, run, "--max-steps", str(LAST))
    same(run, undisturbed)


@faults
def test_a_folder_that_turns_read_only_ends_the_run_in_a_sentence(tmp_path, recipe, undisturbed):
    run = tmp_path / "run"
    with Job(recipe, run, "--max-steps", str(LAST)) as job:
        job.until_step(4)
        os.kill(job.rank(0), signal.SIGSTOP)
        if subprocess.run(["mount", "--bind", str(run), str(run)], capture_output=True).returncode:
            pytest.skip("a read-only mount needs root")
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", str(run)], check=True)
            os.kill(job.rank(0), signal.SIGCONT)
            assert job.end() == 1
        finally:
            subprocess.run(["umount", "-l", str(run)], check=True)
        assert "make room or mend the folder, then go on with --resume" in job.text(), job.text()
    finish(recipe, run, "--max-steps", str(LAST))
    same(run, undisturbed)


# -- death and hanging -----------------------------------------------------------------------------------------


@faults
def test_a_killed_rank_costs_the_steps_since_the_last_checkpoint(tmp_path, recipe, undisturbed):
    run = tmp_path / "run"
    with Job(recipe, run, "--max-steps", str(LAST), "--max-restarts", "1") as job:
        job.until_step(5)
        os.kill(job.rank(1), signal.SIGKILL)
        assert job.end() == 0, job.text()
        assert "training from step " in job.text()
        assert "lost contact with another rank" in job.text() or "Signal 9" in job.text()
    same(run, undisturbed)


@faults
@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_rank_is_named_and_the_job_ends_within_its_timeout(tmp_path, recipe, undisturbed, rank):
    run = tmp_path / "run"
    with Job(recipe, run, "--max-steps", str(LAST)) as job:
        job.until_step(4)
        os.kill(job.rank(rank), signal.SIGSTOP)
        began = time.monotonic()
        assert job.end() != 0
        # torchrun looks at its ranks only so often, and takes a moment to end.
        assert time.monotonic() - began < TIMEOUT + 15
        assert f"no heartbeat of rank {rank} (" in job.text(), job.text()
    finish(recipe, run, "--max-steps", str(LAST))
    same(run, undisturbed)


@faults
def test_a_job_killed_while_it_writes_checkpoints_goes_on(tmp_path, recipe, undisturbed):
    run, chance = tmp_path / "run", random.Random(7)
    for _ in range(4):
        with Job(
            recipe, run, "--resume", "--training.checkpoint-every", "1", "--max-steps", str(LAST)
        ) as job:
            job.until(lambda: (run / "heartbeat" / "rank-1.json").exists())
            job.until(lambda: bool(list((run / "checkpoints").glob("writing-*"))))
            time.sleep(chance.uniform(0, 0.03))
            job.kill()
    finish(recipe, run, "--max-steps", str(LAST))
    same(run, undisturbed)
    assert not list((run / "checkpoints").glob("writing-*"))


@faults
def test_ranks_whose_launcher_was_killed_checkpoint_and_stop(tmp_path, recipe, undisturbed):
    run = tmp_path / "run"
    with Job(recipe, run) as job:
        job.until_step(3)
        ranks = [job.rank(0), job.rank(1)]
        os.kill(job.torchrun(), signal.SIGKILL)
        end = time.monotonic() + 60
        while any(Path(f"/proc/{pid}").exists() for pid in ranks) and time.monotonic() < end:
            time.sleep(0.1)
        assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
    assert (run / "requeue").exists()
    newest = checkpoint.latest_valid(run / "checkpoints")
    assert newest is not None and checkpoint.read_state(newest)["step"] == len(steps(run))


# -- signals ---------------------------------------------------------------------------------------------------

TARGETS = {
    "USR1 to cacl train": (lambda job: job.process.pid, signal.SIGUSR1),
    "USR1 to torchrun": (lambda job: job.torchrun(), signal.SIGUSR1),
    "USR1 to one rank": (lambda job: job.rank(1), signal.SIGUSR1),
    "TERM to torchrun": (lambda job: job.torchrun(), signal.SIGTERM),
    "TERM to one rank": (lambda job: job.rank(0), signal.SIGTERM),
}


@faults
@pytest.mark.parametrize(("target", "number"), TARGETS.values(), ids=TARGETS.keys())
def test_a_signal_to_any_process_stops_all_ranks_at_one_step(tmp_path, recipe, undisturbed, target, number):
    run = tmp_path / "run"
    with Job(recipe, run, "--max-steps", "400") as job:
        job.until_step(4)
        os.kill(target(job), number)
        assert job.end() == 0, job.text()
    assert (run / "requeue").exists()
    newest = checkpoint.latest_valid(run / "checkpoints")
    assert newest is not None and checkpoint.read_state(newest)["step"] == len(steps(run))
    count = min(len(steps(run)), LAST)
    assert steps(run)[:count] == steps(undisturbed)[:count]


@faults
def test_two_signals_are_one(tmp_path, recipe):
    run = tmp_path / "run"
    with Job(recipe, run, "--max-steps", "400") as job:
        job.until_step(3)
        job.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        job.process.send_signal(signal.SIGTERM)
        assert job.end() == 0, job.text()
    newest = checkpoint.latest_valid(run / "checkpoints")
    assert (run / "requeue").exists() and newest is not None


@faults
@pytest.mark.parametrize("delay", [1.5, 3.0, 5.0, 8.0])
def test_a_signal_before_the_first_step_asks_for_another_start(tmp_path, recipe, undisturbed, delay):
    run = tmp_path / "run"
    with Job(recipe, run, "--max-steps", str(LAST)) as job:
        job.until(job.listens)
        time.sleep(delay)
        job.process.send_signal(signal.SIGTERM)
        assert job.end() == 0, job.text()
        assert "Traceback" not in job.text(), job.text()
    assert (run / "requeue").exists() or len(steps(run)) == LAST
    finish(recipe, run, "--max-steps", str(LAST))
    same(run, undisturbed)


# -- DeepSpeed, and the soak -----------------------------------------------------------------------------------


@faults
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_deepspeed_stops_and_goes_on_bit_for_bit_on_as_many_ranks(tmp_path, data, zero):
    engine = ["--engine.name", "deepspeed", "--engine.zero", str(zero), "--max-steps", "8"]
    recipe = recipe_of(tmp_path, data, ema_decay=None)
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish(recipe, whole, *engine)
    with Job(recipe, run, *engine[:-1], "400") as job:
        job.until_step(2)
        job.process.send_signal(signal.SIGTERM)
        assert job.end() == 0, job.text()
    finish(recipe, run, *engine[:-1], str(max(8, len(steps(run)) + 1)))
    assert steps(run)[:8] == steps(whole)
    refused = cacl("train", str(recipe), "--run-dir", str(run), "--resume", *engine[:-1], "400")
    assert refused.returncode == 2, refused.stderr
    assert "was written by 2 rank(s) of DeepSpeed, and this job has 1" in refused.stderr


@faults
@pytest.mark.timeout(1800)
def test_hundreds_of_steps_under_random_kills_end_as_if_nothing_had_happened(tmp_path, data):
    last, chance = 300, random.Random(11)
    recipe = recipe_of(tmp_path, data, checkpoint_every=7)
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish(recipe, whole, "--max-steps", str(last))
    kills = 0
    while len(steps(run)) < last and kills < 12:
        with Job(recipe, run, "--resume", "--max-steps", str(last), "--max-restarts", "1") as job:
            goal = min(last - 1, len(steps(run)) + chance.randint(10, 40))
            job.until_step(goal)
            match chance.choice(["rank", "job", "signal"]):
                case "rank":
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                        os.kill(job.rank(chance.randrange(2)), signal.SIGKILL)
                    time.sleep(chance.uniform(0, 8))
                    job.kill()
                case "job":
                    job.kill()
                case "signal":
                    job.process.send_signal(chance.choice([signal.SIGTERM, signal.SIGUSR1]))
                    job.end()
        kills += 1
    finish(recipe, run, "--max-steps", str(last))
    assert kills >= 5
    same(run, whole)
