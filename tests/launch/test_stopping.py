"""Promise 8: every signal that stops a job is obeyed, whenever it comes, and `requeue` says what to do next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cacl.runs.checkpoint import latest_valid, read_state
from cacl.runs.directory import Run
from launch.config import load_recipe
from launch.jobs.data import open_data
from launch.jobs.train import is_finished
from launch.ranks import run_ranks as start_ranks
from launch.stop_request import StopRequest
from tests.helpers.ranks import run_ranks
from tests.launch.tiny import train_rank, write_recipe
from tests.training.jobs import Job, processes_of, steps

faults = pytest.mark.faults


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, data) -> str:
    return str(
        write_recipe(
            tmp_path_factory.mktemp("recipe"),
            data,
            data={"validation": str(data)},
            training={"micro_batch_size": 6},
        )
    )


def lines(run: Path) -> list[tuple[int, object]]:
    """Steps with their losses, and validations, in the order of the log."""
    return [(line["step"], line.get("loss") or line["validation"]) for line in Run(run).records()]


@pytest.mark.parametrize("size", [2, pytest.param(1, marks=faults)])
def test_a_stop_at_a_checkpoint_s_step_loses_no_validation(tmp_path, recipe, size):
    """Not even at the last step, after which nothing else is left to do; so the best is the best of the same."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run_ranks(size, train_rank, recipe, str(whole), {"max_steps": 8})
    run_ranks(size, train_rank, recipe, str(stopped), {"max_steps": 4, "stop_at": 4})
    assert (stopped / "requeue").exists() and [step for step, _ in lines(stopped)] == [1, 2, 3, 4]
    for last in (4, 8):
        run_ranks(size, train_rank, recipe, str(stopped), {"max_steps": last, "resume": True})
        assert not (stopped / "requeue").exists()
        assert lines(stopped) == lines(whole)[: last + last // 4]
    measured = [figures for _, figures in lines(whole) if isinstance(figures, dict)]
    for run in (whole, stopped):
        assert [read_state(run / "checkpoints" / f"step-{k}")["validation"] for k in (4, 8)] == measured


@pytest.mark.parametrize(
    ("number", "wanted"), [(signal.SIGHUP, True), (signal.SIGUSR1, True), (signal.SIGINT, False)]
)
def test_all_ranks_save_on_any_signal_and_a_person_s_asks_for_no_other_start(
    tmp_path, recipe, number, wanted
):
    """It comes to the last rank alone, and the first one writes what follows from it."""
    run = tmp_path / "run"
    run_ranks(2, train_rank, recipe, str(run), {"max_steps": 12, "stop_at": 2, "signal": number})
    newest = latest_valid(run / "checkpoints")
    assert newest is not None and newest.name == f"step-{len(steps(run))}" and len(steps(run)) < 12
    assert (run / "requeue").exists() == wanted


def test_a_run_is_finished_with_its_last_checkpoint_and_validation(tmp_path, recipe):
    """What a launcher asks whose torchrun was told to stop when nothing was left to do."""
    run, read = Run(tmp_path / "run"), load_recipe(recipe, [])
    data = open_data(read, 1)
    assert not is_finished(run, data, 8)
    run_ranks(1, train_rank, recipe, str(run.folder), {"max_steps": 4})
    assert is_finished(run, data, 4) and not is_finished(run, data, 8)
    run_ranks(1, train_rank, recipe, str(run.folder), {"max_steps": 8, "stop_at": 8, "resume": True})
    assert not is_finished(run, data, 8), "its validation is owed"


def test_what_is_said_before_the_first_step_is_heard_before_it(tmp_path, recipe):
    run = tmp_path / "run"
    run_ranks(2, train_rank, recipe, str(run), {"max_steps": 12, "stop_at": 0})
    assert steps(run) == [] and latest_valid(run / "checkpoints") is None
    assert (run / "requeue").exists()


def test_a_launcher_that_was_told_before_it_started_ranks_starts_none():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        stop = StopRequest()
        os.kill(os.getpid(), signal.SIGTERM)
        began = time.monotonic()
        assert start_ranks(2, "train", ["no-such-recipe"], stop=stop) == 1
        assert time.monotonic() - began < 1, "torchrun alone takes longer to start"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_who_asks_that_a_signal_be_ignored_has_it_ignored():
    """nohup does so with SIGHUP, a shell that starts a job in the background with SIGINT."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop = StopRequest()
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_signal_to_a_process_that_is_ending_changes_no_exit_code(tmp_path, recipe):
    """Python gives up its handlers before it is gone; torchrun would call a finished job failed."""
    words = ["train", str(recipe), "--run-dir", str(tmp_path / "run"), "--max-steps", "1"]
    late = f"""if True:
        import os, sys
        from launch.main import main
        class Late:
            def __del__(self, kill=os.kill, pid=os.getpid()):
                kill(pid, {int(signal.SIGTERM)})
        late = Late()
        sys.exit(main({words!r}))
    """
    answer = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


# -- whole jobs ------------------------------------------------------------------------------------------------


@faults
@pytest.mark.parametrize("moment", ["launcher", "torchrun", "ranks", "validation"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT])
def test_a_signal_at_any_moment_of_the_start_is_obeyed(tmp_path, recipe, number, moment):
    run = tmp_path / "run"
    with Job(recipe, run, "--training.epochs", "400", "--data.workers", "1") as job:
        match moment:
            case "launcher":
                job.until(job.listens)
            case "torchrun":
                job.until(lambda: any("launch.ranks" in words for words in job.commands()))
            case "ranks":
                job.until(lambda: sum("launch.ranks" not in words for words in job.commands()) >= 3)
            case "validation":
                job.until(lambda: len(steps(run)) == 4)
        job.process.send_signal(number)
        began = time.monotonic()
        code = job.end(100)
        assert time.monotonic() - began < 60, job.text()
        assert "Traceback" not in job.text(), job.text()
    assert code == (130 if number == signal.SIGINT else 0), job.text()
    assert (run / "requeue").exists() == (number != signal.SIGINT)
    assert len(steps(run)) < 30
    assert not processes_of(run)


@faults
@pytest.mark.parametrize("whom", ["launcher", "torchrun"])
def test_a_signal_after_the_last_step_leaves_a_finished_job(tmp_path, recipe, whom):
    """torchrun ends as one that was told to stop, though its ranks have done all that there was to do."""
    run = tmp_path / "run"
    with Job(recipe, run, "--max-steps", "6", "--training.checkpoint-every", "6") as job:
        job.until(lambda: any("launch.ranks" in words for words in job.commands()))
        torchrun = job.torchrun()
        job.until(lambda: "validation: " in job.text())  # the checkpoint is written, ranks are ending
        os.kill(torchrun if whom == "torchrun" else job.process.pid, signal.SIGUSR1)
        assert job.end(60) == 0, job.text()
        assert "Traceback" not in job.text(), job.text()
    finished = (run / "checkpoints" / "step-6" / "hashes.json").exists()
    assert finished and not (run / "requeue").exists()


@faults
def test_a_rank_that_waits_for_one_that_never_comes_obeys_too(tmp_path, recipe):
    """It hangs within a library, where no handler of Python runs."""
    run = tmp_path / "run"
    environment = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    before = {name: os.environ.get(name) for name in [*environment, "MASTER_PORT"]}
    try:
        os.environ.update(environment | {"MASTER_PORT": "29417"})
        with Job(recipe, run, ranks=None) as job:
            time.sleep(15)
            job.process.send_signal(signal.SIGTERM)
            assert job.end(60) == 1, job.text()
            assert "told to stop before the training began" in job.text()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    assert (run / "requeue").exists()


@faults
def test_a_data_worker_that_is_killed_ends_every_rank_soon(tmp_path, recipe):
    run = tmp_path / "run"
    with Job(recipe, run, "--training.epochs", "400", "--data.workers", "1") as job:
        job.until_step(5)
        (worker, *_) = psutil.Process(job.rank(1)).children()
        worker.kill()
        began = time.monotonic()
        assert job.end(100) == 1, job.text()
        assert time.monotonic() - began < 60
        assert "was killed by SIGKILL" in job.text() and "it held the clips" in job.text()
        assert "Traceback" not in job.text(), job.text()
    assert not processes_of(run)
    assert subprocess.run(["ls", str(run / "heartbeat")], capture_output=True).stdout == b""


@faults
def test_a_data_worker_that_hangs_ends_a_job_of_one_rank_within_its_timeout(tmp_path, recipe):
    run = tmp_path / "run"
    words = ["--training.epochs", "400", "--data.workers", "1", "--training.distributed-timeout", "10"]
    with Job(recipe, run, *words, "--data.validation", "null", ranks=None) as job:
        job.until_step(5)
        (worker, *_) = psutil.Process(job.process.pid).children()
        worker.suspend()
        assert job.end(30) == 1, job.text()
        assert "no batch came up to the timeout of 10 s" in job.text()
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
