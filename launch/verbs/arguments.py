"""Arguments that several verbs read from the command line, and their types."""

from __future__ import annotations

import argparse
import math
import os
import re
from pathlib import Path
from typing import Any

from cacl.errors import brief
from cacl.runs.directory import CHECKPOINT, Run


def add_verb(verbs: Any, name: str, does: str, example: str, **more: Any) -> argparse.ArgumentParser:
    """Declare a sub-verb, what it does in one line, and a command that does it; return its parser.

    `verbs` is what `add_subparsers` returned, `more` goes to its `add_parser`.
    """
    sentence = f"{does[0].upper()}{does[1:]}.\n\n    {example}"
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=does, description=sentence, **more)
    return parser


def add_weights_argument(parser: argparse.ArgumentParser) -> None:
    """Declare which of a run's weights are used."""
    parser.add_argument(
        "--weights", choices=["model", "ema"], help="default: those that the recipe has measured"
    )


def add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which of a run's weights are used, and of which checkpoint."""
    add_weights_argument(parser)
    parser.add_argument(
        "--checkpoint",
        type=_checkpoint,
        default="latest",
        metavar="latest|best|step-N",
        help="best: by retrieval on data.validation (default: latest)",
    )


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Declare that figures are printed for programs."""
    parser.add_argument(
        "--json", action="store_true", help="print JSON in place of sentences, and nothing else"
    )


def add_draw_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the sounds that nothing in view makes are drawn."""
    parser.add_argument(
        "--repetitions", type=int, default=10, metavar="K", help="how often each is drawn (default: 10)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn (default: 0)")
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="pseudo-labels that say what is off-screen, for clips without classes",
    )


def add_tagger_arguments(parser: argparse.ArgumentParser, use: str) -> None:
    """Declare a frozen tagger of sounds; `use` says what it is for."""
    parser.add_argument(
        "--tagger",
        metavar="NAME",
        help=f"{use}: mn04, yamnet, onnx:FILE, tflite:FILE, transformers:FOLDER, or a function of yours, "
        "FILE.py:FUNCTION (docs/labels.md)",
    )
    parser.add_argument(
        "--tagger-rate",
        type=positive,
        metavar="HZ",
        help="the rate that an ONNX or TFLite file hears, where it does not say so",
    )
    parser.add_argument(
        "--accept-rate",
        action="store_true",
        help="hear sounds that are stored at a lower rate than the tagger's (its cost: docs/labels.md)",
    )


def check_run(run: str, *, or_file: bool = False) -> None:
    """Raise UserError, before anything is loaded, where this is no run directory, nor an exported file."""
    if not (or_file and Path(run).is_file()):
        Run(run).check()


def check_packed(location: str) -> None:
    """Raise UserError, before anything is loaded, where a folder holds no packed shards."""
    from shards import manifest

    if "://" not in location:
        manifest.load(Path(location))


def positive(text: str) -> int:
    """Read a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def count(text: str) -> int:
    """Read a whole number of 0 or more, below 2^31."""
    if not text.isdecimal() or len(text) > 10 or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{brief(text)} is not a whole number of 0 or more, below 2^31")
    return int(text)


def nonnegative(text: str) -> float:
    """Read a finite number of 0 or more, such as seconds."""
    number = _decimal(text)
    if number is None or number < 0:
        raise argparse.ArgumentTypeError(f"{brief(text)} is not a number of 0 or more, such as 2.5")
    return number


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    number = _decimal(text)
    if number is None or not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{brief(text)} is not a share from 0 to 1, such as 0.05")
    return number


def _checkpoint(text: str) -> str:
    """Read which checkpoint is meant."""
    if not re.fullmatch(CHECKPOINT, text):
        raise argparse.ArgumentTypeError(f"{brief(text)} is none of latest, best, step-N (such as step-100)")
    return text


def _decimal(text: str) -> float | None:
    """Return a finite number as people write it; None for anything else, `nan`, `inf` and `1_0` too."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def count_cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0))
