"""What is measured beside a trained model: the untrained one, mere objects, and both maps mixed (OGL)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cacl.errors import UserError
from launch.measuring import Work

if TYPE_CHECKING:
    import argparse

    import numpy as np

    from cacl.evaluation.predict import Maps
    from cacl.evaluation.protocols import Protocol

_RESERVED_EVERY = 10
"""Every so many test clips are reserved for the choice of alpha where no validation clips are given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of object guidance."""
    parser.add_argument(
        "--object-guidance",
        choices=["min-max", "fixed-range"],
        help="measure also maps mixed with where any object is, as EZ-VSL or as SLAVC mix them",
    )
    parser.add_argument(
        "--object-weights", metavar="FILE", help="ResNet-18's ImageNet weights (default: EfficientNet-Lite0)"
    )
    parser.add_argument(
        "--alpha", default="0.4", metavar="A", help="weight of the sound's map, or: choose (default: 0.4)"
    )
    parser.add_argument(
        "--validation",
        metavar="DIR",
        help="packed annotated clips on which alpha is chosen (default: every tenth test clip, which is then "
        "left out of all numbers)",
    )


def trained_and_untrained(arguments: argparse.Namespace, work: Work) -> dict[str, Maps]:
    """Return the maps of the run's model and of the same architecture with no step taken."""
    from cacl.evaluation.predict import maps_of
    from cacl.runs.load import open_model

    return {
        name: maps_of(open_model(arguments.run, which, arguments.checkpoint)[0].to(work.world.device))
        for name, which in {"model": arguments.weights, "untrained": "untrained"}.items()
    }


def object_maps(arguments: argparse.Namespace, work: Work) -> tuple[Maps, str]:
    """Return the maps of where any object is, and the network's name. Raises UserError without weights."""
    from cacl.evaluation import refinement as object_guidance
    from cacl.model.image import EfficientNetLite0, ResNet18

    weights = arguments.object_weights
    options = ResNet18(weights=weights, frozen=True) if weights else EfficientNetLite0(stride=32)
    return object_guidance.object_maps(options.build().to(work.world.device)), options.name


def mixed(
    arguments: argparse.Namespace, work: Work, sound: Maps, objects: Maps, protocol: Protocol
) -> tuple[Maps, np.ndarray, dict[str, Any]]:
    """Return the mixed maps, the clips to measure on, and what the record says of the mixing.

    With `--alpha choose` the clips of the choice are no part of any number.
    """
    from cacl.evaluation.refinement import MIXINGS, guided

    mixing = MIXINGS[arguments.object_guidance]
    record: dict[str, Any] = {"mixing": arguments.object_guidance}
    indices = work.store.indices
    if arguments.alpha == "choose":
        trials = {a / 10: guided(sound, objects, mixing(a / 10), protocol) for a in range(11)}
        if arguments.validation:
            validation = _validation(arguments.validation, work)
            alpha = _best(trials, validation, validation.store.indices, protocol)
            record |= {"chosen_on": len(validation.store.indices), "validation": validation.store.fingerprint}
        else:
            reserved = indices[::_RESERVED_EVERY]
            alpha = _best(trials, work, reserved, protocol)
            record |= {"chosen_on": len(reserved), "reserved": reserved.tolist()}
            indices = indices[[k for k in range(len(indices)) if k % _RESERVED_EVERY]]
    else:
        alpha = number(arguments.alpha)
    return guided(sound, objects, mixing(alpha), protocol), indices, {**record, "alpha": alpha}


def number(text: str) -> float:
    """Return an alpha. Raises UserError unless it is in 0..1."""
    try:
        alpha = float(text)
    except ValueError:
        alpha = -1.0
    if not 0 <= alpha <= 1:
        raise UserError(f"--alpha {text}: give a number in 0..1, or choose")
    return alpha


def _best(trials: dict[float, Maps], work: Work, indices: np.ndarray, protocol: Protocol) -> float:
    """Return the alpha whose maps are the best on `indices`, on every rank."""
    import numpy as np

    from cacl.evaluation.refinement import best_alpha

    found = work.measure({f"alpha-{alpha}": maps for alpha, maps in trials.items()}, protocol, indices)
    quality = {
        alpha: float(np.nanmean(found[f"alpha-{alpha}"][protocol.ranked_by])) for alpha in trials if found
    }
    chosen: float = work.world.broadcast_object(best_alpha(quality) if quality else None)
    return chosen


def _validation(location: str, work: Work) -> Work:
    """Return the same work on validation clips. Raises UserError where they are the test clips."""
    from shards.store import open_store

    store = open_store(location)
    if store.fingerprint == work.store.fingerprint:
        raise UserError(
            f"--validation {location}: holds the test clips; alpha must be chosen on others, or leave the "
            "option out to reserve every tenth"
        )
    return replace(work, store=store, identity={**work.identity, "data": store.fingerprint})
