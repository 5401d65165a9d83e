"""Several ranks on this machine: torchrun, with signals passed on to it.

    python -m launch.ranks --nproc-per-node 2 -m launch.main train launch/recipes/demo.yaml

is torchrun with the same arguments, which ends as the rank did that failed first: with its exit code, and
without a traceback of torchrun's own under what that rank has said.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType

from cacl.errors import UserError
from cacl.processes import GO_ON, STOPPING, end_with_parent, held_signals
from launch.stop_request import StopRequest, is_ignored

NAMES_SAID = "CACL_NAMES_SAID"
"""In the environment of ranks whose launcher has read the same files, and warned of older names in them."""
TORCHRUN = "CACL_TORCHRUN"
"""In the environment of ranks: the process that started them, with which they end."""
TOLD = 128 + signal.SIGTERM
"""Exit code of torchrun when it was told to stop, whatever its ranks have made of it."""
GRACE_SECONDS = 110
"""How long ranks that were told to stop may finish their step and write; then torchrun kills them."""


def check_number(nproc_per_node: int) -> None:
    """Raise UserError unless so many ranks can be started from here."""
    if "RANK" in os.environ:
        raise UserError("--nproc-per-node: this process is a rank already (torchrun gives the number)")
    if nproc_per_node < 1:
        raise UserError(f"--nproc-per-node {nproc_per_node}: give at least 1")


def run_ranks(
    nproc_per_node: int,
    verb: str,
    words: list[str],
    max_restarts: int = 0,
    stop: StopRequest | None = None,
) -> int:
    """Run `cacl verb words` as so many ranks and return the exit code after the last has ended.

    It is 0, or that of the rank that failed first: 2 for bad input, 1 where a signal has ended it; below 0
    where one has ended torchrun itself.

    The first of STOPPING to this process goes on to torchrun, which hands it to every rank, and is noted in
    `stop`, as is one that somebody sent to torchrun. One that `stop` has noted before is obeyed: nothing is
    started. torchrun is in a process group of its own, so that what a terminal sends to all processes comes
    to it from here alone, and once.
    """
    command = [
        sys.executable, "-m", "launch.ranks",
        "--nproc-per-node", str(nproc_per_node), "--max-restarts", str(max_restarts),
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--local-addr", "localhost",
        "-m", "launch.main", verb, *words,
    ]  # fmt: skip
    threads = max(1, len(os.sched_getaffinity(0)) // nproc_per_node)
    # torchrun would keep its store over restarts, and a new rank could read there the address of a dead one.
    own = {"OMP_NUM_THREADS": str(threads), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", NAMES_SAID: "1"}
    environment = {**own, **os.environ}
    passed_on: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not passed_on:  # a second one would make torchrun leave its ranks alone
            process.send_signal(signal.SIGUSR2 if number == signal.SIGINT else number)
        passed_on.append(number)
        if stop is not None:
            stop.note(number)

    heard = [number for number in STOPPING if not is_ignored(number)]
    with held_signals():  # none comes between the start and the handler; torchrun is born with them held back
        if stop is not None and stop.word != GO_ON:
            return 1
        process = subprocess.Popen(command, env=environment, preexec_fn=end_with_parent, process_group=0)
        before = {number: signal.signal(number, pass_on) for number in heard}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code != TOLD:
        return code
    if stop is not None:
        stop.note(signal.SIGTERM)
    return 1


def end_with_torchrun() -> None:
    """Have this rank told to stop when the torchrun that started it is gone; end at once if it is already."""
    if parent := os.environ.get(TORCHRUN):
        end_with_parent()
        if os.getppid() != int(parent):
            sys.exit(1)


def torchrun() -> int:
    """Be torchrun, with the arguments of this process, and return the exit code.

    Until it listens to signals itself, which is before it starts a rank, one ends it without a word.
    """
    os.environ[TORCHRUN] = str(os.getpid())
    heard = [number for number in STOPPING if not is_ignored(number)]
    for number in heard:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    from torch.distributed.elastic.multiprocessing.api import PContext, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, main

    if "--shutdown-timeout" in get_args_parser().format_help():
        signals = ",".join([*(number.name for number in heard), "SIGQUIT"])
        sys.argv[1:1] = ["--signals-to-handle", signals, "--shutdown-timeout", str(GRACE_SECONDS)]
    else:  # torch 2.9: SIGUSR1 would end torchrun itself, and ranks had 30 s
        signal.signal(signal.SIGUSR1, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        PContext.close.__defaults__ = (None, GRACE_SECONDS)
    try:
        main()
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        return first.exitcode if first.exitcode > 0 else 1
    except SignalException:  # the ranks have ended
        return TOLD
    for number in heard:  # an ending Python would die of it
        signal.signal(number, signal.SIG_IGN)
    return 0


if __name__ == "__main__":
    sys.exit(torchrun())
