"""Networks of the user's own that look and listen: a trained run, or a frozen tagger of sounds."""

from __future__ import annotations

from pathlib import Path

import torch

import cacl
from cacl.labels.tag import Tagger, load_tagger
from cacl.model.localizer import Localizer
from cacl.model.weights import sha256
from launch.jobs.clips import whole_view
from shards.store import Store


def load_localizer(run: str | Path, device: torch.device) -> tuple[Localizer, str]:
    """Return the model of a run directory or an exported file, and the sha256 of its weights."""
    model = cacl.load(run).model
    return model.to(device), sha256(model.state_dict())


def load_user_tagger(name: str, store: Store, device: torch.device) -> Tagger:
    """Return the user's tagger, FILE.py:FUNCTION or MODULE:FUNCTION, for the sounds of `store`."""
    view = whole_view(store)
    return load_tagger(name, view.sample_rate, view.samples, device)
