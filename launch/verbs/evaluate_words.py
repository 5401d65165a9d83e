"""Which words of `cacl evaluate` go together, and those that a signature stands for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Literal

from cacl.errors import UserError, shorten
from launch.verbs.arguments import check_packed, check_run, share

FOR_PREDICTIONS = ("boxes", "threshold")
FOR_RUNS = (
    "data", "weights", "object_guidance", "object_weights", "validation", "negatives", "labels",
    "tags", "nproc_per_node",
)  # fmt: skip
OF_TRAINED = ("weights", "object_guidance", "object_weights", "validation", "tags", "nproc_per_node")
"""The arguments that there are for a trained model alone."""
SIGNED = {
    "protocol": None, "upsampling": None, "without_quirks": "", "object_guidance": None, "alpha": "0.4",
    "weights": None, "checkpoint": "latest", "negatives": None, "repetitions": 10, "seed": 0,
}  # fmt: skip
"""The arguments that a signature tells, and what they are when they are not given."""
OF_PREDICTIONS = ("protocol", "upsampling", "without_quirks")
OF_MODELS = (*OF_PREDICTIONS, "negatives", "repetitions", "seed")
"""Those of them that there are for what others predict, and for a model without training."""


def check_words(arguments: argparse.Namespace) -> None:
    """Raise UserError, before anything is loaded, for what does not go together or is not there."""
    read_alpha(arguments.alpha)
    if arguments.predictions is not None:
        refuse(arguments, FOR_RUNS, "goes with --run; --predictions are measured as they are")
        require(arguments, ("boxes", "out"), "--predictions needs --boxes FILE and --out DIR")
    elif arguments.protocol != "retrieval":
        of_others = FOR_PREDICTIONS if arguments.model else (*FOR_PREDICTIONS, "out")
        refuse(arguments, of_others, "goes with --predictions; a run has its own test clips")
    if arguments.model:
        refuse(arguments, OF_TRAINED, f"goes with --run; {arguments.model} is not trained")
        require(arguments, ("data", "out"), "--model needs --data DIR and --out DIR")
    if arguments.run:
        check_run(arguments.run)
    if arguments.data:
        check_packed(arguments.data)


def follow_signature(arguments: argparse.Namespace) -> None:
    """Set the options that a signature tells. Raises UserError where one is given beside it."""
    from cacl.evaluation.signature import Signature

    told = Signature.parse(arguments.signature).options()
    for name, plain in SIGNED.items():
        if getattr(arguments, name) != plain:
            raise UserError(f"--{name.replace('_', '-')}: stands in --signature already; give one of them")
    told["without_quirks"] = ",".join(told["without_quirks"])
    if not arguments.run:  # the others are a run's own
        known = OF_MODELS if arguments.model else OF_PREDICTIONS
        told = {name: value for name, value in told.items() if name in known}
    for name, value in told.items():
        setattr(arguments, name, value)


def refuse(arguments: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Raise UserError, which ends with `why`, where one of these arguments is given."""
    for name in names:
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name.replace('_', '-')}: {why}")


def require(arguments: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Raise UserError, which ends with `why`, where one of these arguments is missing."""
    for name in names:
        if getattr(arguments, name) is None:
            raise UserError(f"--{name}: missing; {why}")


def read_alpha(text: str) -> float | Literal["choose"]:
    """Return an alpha. Raises UserError if it is neither a number nor `choose`."""
    if text == "choose":
        return "choose"
    try:
        return share(text)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--alpha {shorten(text)}: give a number in 0..1, or choose") from error
