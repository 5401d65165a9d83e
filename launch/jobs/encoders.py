"""Networks that the user names, to look and listen: a trained run, or a frozen tagger of sounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

import cacl
from cacl.errors import UserError
from cacl.labels.tag import Tagger, adapt_tagger, load_tagger
from cacl.model.localizer import Localizer
from cacl.model.taggers import build_tagger, is_known
from cacl.model.weights import sha256
from launch.jobs.clips import whole_view
from shards.store import Store


def load_localizer(run: str | Path, device: torch.device) -> tuple[Localizer, str]:
    """Return the model of a run directory or an exported file, and the sha256 of its weights."""
    model = cacl.load(run).model
    return model.to(device), sha256(model.state_dict())


@dataclass(frozen=True)
class AskedTagger:
    """A tagger as it is asked for."""

    name: str
    """One that cacl knows by name, or a function of the user's: FILE.py:FUNCTION or MODULE:FUNCTION."""
    weights: str | None = None
    """Its file, where its name is not one and `CACL_MODELS` does not hold it."""
    sample_rate: int | None = None
    """Hz that it hears, where neither cacl nor its file knows that."""
    accept_rate: bool = False
    """Take sounds that are stored at a lower rate than it hears."""


def load_asked_tagger(asked: AskedTagger, store: Store, device: torch.device) -> Tagger:
    """Return a tagger for the sounds of `store`.

    Raises UserError for one that cannot be had, and where the sounds are not for it: of too low a rate, or
    too long.
    """
    view = whole_view(store)
    if is_known(asked.name):
        network = build_tagger(asked.name, asked.weights, asked.sample_rate).to(device)
        network.check_length(view.duration)
        return adapt_tagger(network, view.sample_rate, store.files.location, asked.accept_rate)
    if asked.weights or asked.sample_rate or asked.accept_rate:
        raise UserError(
            f"--tagger {asked.name}: a function loads its own weights and is told the stored rate; leave "
            "out its weights, --tagger-rate and --accept-rate"
        )
    return load_tagger(asked.name, view.sample_rate, view.samples, device)
