"""What is measured next to a trained model: the untrained one, mere objects, and both maps mixed (OGL)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from cacl.evaluation import refinement
from cacl.evaluation.protocols import Protocol
from cacl.evaluation.refinement import ALPHAS, MIXINGS, mix_maps, once_a_batch
from cacl.evaluation.systems import Maps, maps_of, system_of
from cacl.model.image import EfficientNetLite0, ResNet18
from cacl.runs.load import open_model
from launch.jobs.measuring import AnnotatedClips, Measurement

Alpha = float | Literal["choose"]
Mixing = Literal["min-max", "fixed-range"]


@dataclass(frozen=True)
class Guidance:
    """How objects take part: whether their maps are mixed with the model's, as whom, and with what weight."""

    mixing: Mixing | None = None
    weights: str | None = None
    """The file of ResNet-18's weights; None is EfficientNet-Lite0."""
    alpha: Alpha = 0.4
    """The weight of the sound's map, or that it is chosen."""
    validation: AnnotatedClips | None = None
    """The clips on which alpha is chosen, where it is: never test clips."""

    @property
    def wanted(self) -> bool:
        """Say whether objects have been asked for: then they must be had."""
        return self.mixing is not None or self.weights is not None

    def options(self) -> dict[str, str]:
        """Return what tells these results from those of a plain evaluation, for their name."""
        options: dict[str, str] = {"objects": ResNet18().name} if self.weights else {}
        if self.mixing:
            options |= {"guidance": self.mixing, "alpha": str(self.alpha)}
            if self.validation:
                options["validation"] = self.validation.store.fingerprint[:8]
        return options


def trained_and_untrained(
    run: str | Path,
    weights: Literal["model", "ema"],
    checkpoint: str,
    device: torch.device,
) -> dict[str, Maps]:
    """Return the maps of the run's model and of the same architecture with no step taken."""
    model, _ = open_model(run, weights, checkpoint)
    untrained, _ = open_model(run, "untrained")
    return {"model": once_a_batch(maps_of(model.to(device))), "untrained": maps_of(untrained.to(device))}


def object_maps(weights: str | None, device: torch.device) -> tuple[Maps, str]:
    """Return the maps of where any object is, and the network's name. Raises UserError without weights."""
    options = ResNet18(weights=weights, frozen=True) if weights else EfficientNetLite0(stride=32)
    return once_a_batch(refinement.object_maps(options.build().to(device))), options.name


def mix_objects(
    guidance: Guidance, work: Measurement, audio: Maps, objects: Maps, protocol: Protocol
) -> tuple[Maps, dict[str, Any]]:
    """Return the mixed maps, and what the record says of the mixing."""
    assert guidance.mixing is not None
    mixing, alpha = MIXINGS[guidance.mixing], guidance.alpha
    record: dict[str, Any] = {"mixing": guidance.mixing}
    if alpha == "choose":
        assert guidance.validation is not None
        store = guidance.validation.store
        trials = {a: mix_maps(audio, objects, mixing(a), protocol) for a in ALPHAS}
        alpha = _choose_alpha(trials, replace(work, clips=guidance.validation), protocol)
        record |= {"chosen_on": len(store.indices), "validation": store.fingerprint}
    return mix_maps(audio, objects, mixing(alpha), protocol), {**record, "alpha": alpha}


def _choose_alpha(trials: Mapping[float, Maps], work: Measurement, protocol: Protocol) -> float:
    """Return the alpha whose maps are the best on the clips of `work`, on every rank."""
    names = {alpha: f"alpha-{alpha}" for alpha in trials}
    systems = {names[alpha]: system_of(trials[alpha]) for alpha in trials}
    found = work.measure(systems, protocol, work.clips.store.indices)
    best = None
    if work.world.is_main:
        results = {alpha: found[name] for alpha, name in names.items()}
        best = refinement.choose_alpha(results, protocol.ranked_by)
    alpha: float = work.world.broadcast_object(best)
    return alpha
