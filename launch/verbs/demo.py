"""The whole way on real photographs and sounds: pack, label, train on two ranks, evaluate, look.

    cacl demo

Every step is printed as a command to repeat; what is finished already is not done again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from cacl.errors import UserError

RECIPE = "demo"
RUN = Path("runs/demo")
SPLITS = ("train", "validation", "test")
SCENES = ["--objects", "stamps", "--sounds", "stamps", "--clutter", "4"]
OBJECTS = {"train": ["--most", "2"], "validation": ["--most", "2"], "test": ["--fewest", "2", "--most", "2"]}
"""How many objects a frame has: in the test always two, so that the other one's sound can be played."""
DRAWN = {
    "train": ["--split", "train"],
    "validation": ["--split", "train", "--seed", "1", "--clips", "240"],
    "test": ["--split", "test"],
}
"""The same of drawn shapes; clips of another seed are other clips of the same kind."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""


def main(arguments: argparse.Namespace) -> int:
    """Run each step as a command that the reader can repeat; what is finished already is not redone."""
    from launch.jobs.demo import is_evaluated

    start = time.monotonic()
    data = pack()
    step(["label", f"{data}/train"])
    paths = {split: f"{data}/{split}" for split in SPLITS}
    paths["labels"] = f"{data}/train/labels/efficientnet-lite0.parquet"
    others = [word for key, path in paths.items() for word in (f"--data.{key}", path)]
    overrides = [] if data == "data/scenes" else [*others, "--data.protocol", "stamps"]
    step(["train", RECIPE, "--nproc-per-node", "2", "--run-dir", str(RUN), "--resume", *overrides])
    if is_evaluated(RUN, f"{data}/test"):
        print(f"\n{RUN}: its newest checkpoint has been evaluated on {data}/test already")
    else:
        step(["evaluate", "--run", str(RUN)])
    step(["report", "--run", str(RUN)])
    print(f"\n{table(json.loads((RUN / 'metrics.json').read_text()))}")
    print(f"\nThe demo took {(time.monotonic() - start) / 60:.1f} minutes. Open this in a browser:")
    print(f"  {(RUN / 'report.html').resolve()}")
    return 0


def pack() -> str:
    """Pack scenes, or drawn shapes where Debian's packages cannot be had; return their folder."""
    unavailable = 3
    for split in SPLITS:
        words = [*SCENES, "--split", split, *OBJECTS[split], "--out", f"data/scenes/{split}"]
        code = step(["pack", "scenes", *words], allowed=unavailable)
        if code == unavailable:
            print("The photographs and recordings cannot be had here; the demo goes on with drawn shapes.")
            for part, words in DRAWN.items():
                step(["pack", "generated", *words, "--out", f"data/generated/{part}"])
            return "data/generated"
    return "data/scenes"


def step(words: list[str], allowed: int = 0) -> int:
    """Run one verb in a process of its own and return its exit code: 0, or the one that is allowed."""
    print(f"\n$ cacl {shlex.join(words)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "launch.main", *words], check=False).returncode
    if code not in (0, allowed):
        raise UserError(
            f"the step `cacl {shlex.join(words)}` failed; its message stands above", exit_code=code
        )
    return code


def table(metrics: dict) -> str:
    """Return the demo's figures as a few lines of text."""
    names = ["peak_in_box", "pixel_ap", "ciou", "auc_top50"]
    rows = [("model", "trained model"), ("untrained", "untrained model"), ("centered_box", "centered box")]
    lines = [f"{metrics['protocol']}, {metrics['n']} test clips"]
    lines.append(" " * 18 + "".join(f"{name:>13}" for name in names))
    for key, title in rows:
        cells = [f"{metrics[key][name]:13.3f}" if name in metrics[key] else f"{'-':>13}" for name in names]
        lines.append(f"{title:<18}" + "".join(cells))
    other = metrics["other_sound"]
    lines.append(
        f"with the other object's sound, the peak is in its box in {other['peak_in_sounding_box']:.1%} of "
        f"clips, in the first object's in {other['peak_in_first_box']:.1%}"
    )
    return "\n".join(lines)
