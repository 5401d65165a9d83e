"""Where a process stands among the others, as torchrun and SLURM say it; how jobs that begin again are told."""

from __future__ import annotations

import os

import pytest
import torch.distributed as dist

from cacl.errors import UserError
from launch.jobs.environment import _slurm_rendezvous, describe, lost_contact, place, start_world
from launch.verbs.train import is_restart

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
SLURM = {
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_PROCID": "4",
    "SLURM_LOCALID": "2",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "9",
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_NODELIST": "node[7-9]",
    "SLURM_JOB_NODELIST": "node[1-9]",
}


@pytest.fixture
def environment(monkeypatch):
    """Set variables in an environment that knows neither torchrun nor SLURM."""
    for name in os.environ:
        if name.startswith(("SLURM_", "TORCHELASTIC_", "MASTER_")) or name in TORCHRUN:
            monkeypatch.delenv(name)
    return lambda values: [monkeypatch.setenv(name, value) for name, value in values.items()]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (0, 1, 0)),
        (TORCHRUN, (5, 8, 1)),
        (SLURM, (4, 6, 2)),
        (TORCHRUN | SLURM, (5, 8, 1)),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, (0, 1, 0)),
        ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "3", "SLURM_NTASKS": "9"}, (0, 1, 0)),
    ],
    ids=["alone", "torchrun", "slurm", "torchrun in slurm", "step of one task", "batch script"],
)
def test_rank_size_and_local_rank(environment, variables, expected):
    environment(variables)
    assert place() == expected
    assert describe()["world_size"] == expected[1]


def test_a_process_alone_joins_nobody(environment):
    world = start_world()
    assert (world.rank, world.size) == (0, 1) and not dist.is_initialized()


def test_a_slurm_step_meets_at_its_first_node_and_the_jobs_own_port(environment, tmp_path, monkeypatch):
    """With a `scontrol` that knows the step's nodes and not the job's."""
    program = tmp_path / "scontrol"
    program.write_text(
        '#!/bin/sh\n[ "$*" = "show hostnames node[7-9]" ] && printf "node7\\nnode8\\nnode9\\n"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    environment(SLURM)
    assert _slurm_rendezvous() == ("node7", str(20000 + 123456 % 20000))
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match=r"scontrol show hostnames node\[7-9\]: .*; set MASTER_ADDR and MASTER"
    ):
        _slurm_rendezvous()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"TORCHELASTIC_RESTART_COUNT": "0", "SLURM_RESTART_COUNT": ""}, False),
        ({"TORCHELASTIC_RESTART_COUNT": "1"}, True),
        ({"TORCHELASTIC_RESTART_COUNT": "0", "SLURM_RESTART_COUNT": "2"}, True),
    ],
)
def test_a_job_that_was_started_again_goes_on_unasked(environment, variables, expected):
    environment(variables)
    assert is_restart() is expected


def test_errors_of_another_rank_are_told_from_ones_own():
    assert lost_contact(dist.DistNetworkError("connection reset"))
    assert lost_contact(RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer"))
    assert lost_contact(RuntimeError("NCCL communicator was aborted on rank 1."))
    assert not lost_contact(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not lost_contact(ValueError("gloo"))
