"""What is seen beside train.jsonl: a bar on a terminal, lines in a log, TensorBoard, W&B without a network."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import torch

from cacl.clock import Clock
from cacl.runs.directory import Run
from cacl.training.logbook import Logbook
from cacl.training.sinks import SINKS
from tests.training.events import numbers_in

LINES = [
    {"step": 1, "loss": 2.0, "seconds": {"data": 0.5}},
    {"step": 2, "loss": 1.0, "seconds": {"data": 0.25}},
    {"step": 2, "validation": {"recall_at_1": 0.125}},
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    run.create({"model": {"dimension": 16}}, {})
    return run


def write(name: str, run: Run, lines: list[dict]) -> None:
    sink = SINKS[name](run.folder)
    for line in lines:
        sink.log(line)
    sink.close()


def test_tensorboard_has_every_number_under_its_path(run):
    write("tensorboard", run, LINES)
    found = numbers_in(run.folder / "tensorboard")
    assert found[("loss", 2)] == 1.0 and found[("seconds/data", 1)] == 0.5
    assert found[("validation/recall_at_1", 2)] == 0.125


def test_weights_and_biases_without_a_network_keeps_one_run_over_resumes(run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    write("wandb", run, LINES)
    write("wandb", run, [{"step": 3, "loss": 0.5}])
    files = sorted((run.folder / "wandb").glob("offline-run-*/run-*.wandb"))
    assert {file.stem for file in files} == {f"run-{(run.folder / 'wandb-id').read_text()}"}
    body = b"".join(file.read_bytes() for file in files)
    assert b"validation/recall_at_1" in body and b"seconds/data" in body and b"dimension" in body


BEGIN = """
import sys
from pathlib import Path
from cacl.errors import UserError
from cacl.training.sinks import SINKS
try:
    SINKS["wandb"](Path(sys.argv[1]))
except UserError as error:
    sys.exit(str(error))
"""


def test_weights_and_biases_without_a_key_is_a_sentence_with_the_way_out(run, tmp_path):
    bare = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN, str(run.folder)], env={**bare, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    sentence = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert sentence.startswith("training.log: wandb: ")
    assert "wandb login" in sentence and "WANDB_MODE=offline" in sentence


SHOW = """
import sys
import torch
from cacl.loss import LossTerms
from cacl.runs.directory import Run
from cacl.training.logbook import Logbook
from cacl.training.meter import Meter
from cacl.training.step import StepRecord
from cacl.world import World
meter, logbook = Meter(World(), 10), Logbook(Run(sys.argv[1]), (), 0, 40)
for step in range(1, 41):
    terms = LossTerms(torch.ones(4), torch.tensor(1.5), torch.tensor(1.0), {"valid": torch.tensor(4)})
    record = StepRecord(terms, torch.tensor(2.0), {})
    logbook.write_step(meter.read(meter.close_step(step, 0.1, record, torch.arange(4))).line)
logbook.close()
"""


def show(folder: Path, stderr: int, stdout: int | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SHOW, str(folder)], stdout=stdout, stderr=stderr)


def test_a_terminal_sees_a_bar(run):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = show(run.folder, stderr=theirs, stdout=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert process.wait() == 0, seen
    assert b"40/40" in seen and b"loss=1.5000" in seen and b"\r" in seen
    assert b"step 40/40" not in seen


def test_a_log_sees_lines_and_the_run_keeps_all(run):
    process = show(run.folder, stderr=subprocess.PIPE)
    seen = process.communicate()[1].decode().splitlines()
    assert process.returncode == 0, seen
    assert len(seen) == 20 and seen[-1].startswith("step 40/40 epoch 3 loss 1.5000") and "\r" not in seen[-1]
    assert all(line.endswith(" left") for line in seen[:-1]) and not seen[-1].endswith(" left")
    lines = [json.loads(line) for line in run.log_file.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 41))
    assert {"clips_per_second", "gradient_norm", "learning_rate", "memory_mib"} <= lines[0].keys()


def test_time_within_a_part_of_a_part_is_counted_once():
    clock, began = Clock(torch.device("cpu")), time.perf_counter()
    with clock("loss"):
        pass
    assert clock.take()() == {}, "nothing is counted before the start"
    clock.start()
    with clock("data", host=True):
        time.sleep(0.01)
        with clock("communication"):
            pass
    with clock("loss"):
        time.sleep(0.01)
        with clock("communication"):
            time.sleep(0.05)
        time.sleep(0.01)
    elapsed = time.perf_counter() - began
    seconds = clock.take()()
    assert seconds.keys() == {"data", "loss", "communication"}
    assert seconds["data"] >= 0.01 and seconds["loss"] >= 0.02 and seconds["communication"] >= 0.05
    assert sum(seconds.values()) <= elapsed
    assert clock.take()() == {}


def test_a_validation_is_logged_and_shown(tmp_path, capsys):
    logbook = Logbook(Run(tmp_path), (), first_step=0, last_step=8)
    logbook.write_validation(4, {"recall_at_1": 7 / 30, "clips": 240.0})
    logbook.close()
    assert Run(tmp_path).records() == [{"step": 4, "validation": {"recall_at_1": 7 / 30, "clips": 240.0}}]
    assert capsys.readouterr().err == "step 4/8 validation: recall_at_1 0.2333, clips 240\n"
