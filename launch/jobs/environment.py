"""Where this process stands among the others: from torchrun, from SLURM, or alone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from cacl.errors import UserError

if TYPE_CHECKING:
    from cacl.world import World

# torch's C++ side would warn at every start that find_unused_parameters found none (see DDPEngine).
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def start_world(timeout: float = 600.0) -> Any:
    """Join the other processes, if there are any, and return this one's `cacl.world.World`.

    torchrun says RANK and WORLD_SIZE; a SLURM step of several tasks says SLURM_PROCID and
    SLURM_STEP_NUM_TASKS, and its first node's name is where they meet. A GPU is used where there is one.
    `timeout` is in seconds: how long a collective waits for a rank.
    """
    import torch
    import torch.distributed as dist

    from cacl.world import World, backend_of

    rank, size, local_rank = place()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local_rank % torch.cuda.device_count()) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if size > 1:
        if "MASTER_ADDR" not in os.environ:
            os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = _slurm_rendezvous()
        dist.init_process_group(
            backend_of(device),
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout),
        )
    return World(rank, size, device)


@contextmanager
def joined_world(timeout: float, world: World | None = None) -> Iterator[World]:
    """Give `world`, or the processes that are joined already, or join the others for a while."""
    import torch
    import torch.distributed as dist

    from cacl.world import World

    if world is not None:
        yield world
    elif dist.is_available() and dist.is_initialized():
        gpu = torch.cuda.current_device() if torch.cuda.is_available() else None
        yield World.current(torch.device("cpu") if gpu is None else torch.device("cuda", gpu))
    else:
        try:
            yield start_world(timeout)
        finally:
            stop_world()


def stop_world() -> None:
    """Leave the other processes."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def lost_contact(error: BaseException) -> bool:
    """Say whether a collective failed because another process died, hangs or cannot be reached."""
    import torch.distributed as dist

    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(name in text for name in ("gloo", "nccl"))


def place() -> tuple[int, int, int]:
    """Return (rank, world size, local rank) as torchrun or SLURM say, (0, 1, 0) where neither does."""
    e = os.environ
    if "RANK" in e and "WORLD_SIZE" in e:
        return int(e["RANK"]), int(e["WORLD_SIZE"]), int(e.get("LOCAL_RANK", 0))
    if "SLURM_STEP_ID" in e and int(e.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return int(e["SLURM_PROCID"]), int(e["SLURM_STEP_NUM_TASKS"]), int(e["SLURM_LOCALID"])
    return 0, 1, 0


def _slurm_rendezvous() -> tuple[str, str]:
    """Return the first host of the step and a port that is the job's own."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ["SLURM_JOB_NODELIST"]
    try:
        names = subprocess.run(
            ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"scontrol show hostnames {nodes}: {error}; set MASTER_ADDR and MASTER_PORT"
        ) from error
    return names[0], str(20000 + int(os.environ["SLURM_JOB_ID"]) % 20000)


def describe() -> dict[str, Any]:
    """Return what a result depends on beside recipe and data: versions, machine, threads."""
    import torch

    packages = ["cacl", "torch", "torchvision", "torchaudio", "numpy", "webdataset", "deepspeed", "timm"]
    return {
        "versions": {name: found for name in packages if (found := _version(name))},
        "python": sys.version.split()[0],
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())],
        "world_size": place()[1],
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the git commit of the checkout that this code runs from, None for an installed package."""
    here = os.path.dirname(os.path.abspath(__file__))
    command = ["git", "-C", here, "describe", "--always", "--dirty"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return answer.stdout.strip() or None
