"""Frozen sound taggers as sources of labels: cacl's by name, and functions of the user's.

They give classes where they predict some, else vectors to cluster.

Axes: `n` clips, `T` samples, `D` numbers of a vector, `K` classes.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from cacl.errors import UserError, shorten
from cacl.files import regular
from cacl.labels.classify import predictions
from cacl.model.taggers.base import SoundTagger
from cacl.model.taggers.rates import at_rate
from cacl.model.weights import sha256
from cacl.resumable import Arrays, require_finite
from cacl.types import Batch


@dataclass(frozen=True)
class Tagger:
    """What maps waveforms [n, T] in -1..1 to vectors [n, D]: class probabilities, or an embedding."""

    name: str
    """As it was given: mn04, ./FILE.py:FUNCTION, MODULE:FUNCTION; of a file its own name, without folders."""
    weights: str
    """sha256 of its weights, "" for a function of the user's that is no `torch.nn.Module`."""
    function: Callable[[Tensor], Any]
    """What was built, or as the user wrote it."""
    width: int
    """Numbers of a vector."""
    embed: Callable[[Tensor], Any] | None = None
    """Vectors to cluster, where they are others than those of `function`."""
    classes: tuple[str, ...] = ()
    """Their names, where they are known."""
    sample_rate: int | None = None
    """Hz that it hears; None where it hears what is stored."""

    def __call__(self, waveforms: Tensor) -> Tensor:
        """Return vectors [n, D], float32. Raises UserError for anything else."""
        return _hear(self.name, self.function, waveforms).float()

    def embedding(self, waveforms: Tensor) -> Tensor:
        """Return vectors to cluster, [n, D'] float32. Raises UserError for anything else."""
        return _hear(self.name, self.embed or self.function, waveforms).float()


def adapt_tagger(network: SoundTagger, rate: int, data: str, accept_rate: bool = False) -> Tagger:
    """Return a tagger that cacl knows by name for sounds that `data` stores at `rate` Hz.

    Its embedding is the network's; of one that has none, its probabilities. Raises UserError where the rate
    is too low (see `at_rate`).
    """
    heard = at_rate(network, rate, data, accept_rate)

    def embed(waveforms: Tensor) -> Tensor:
        probabilities, embeddings = heard.hear(waveforms)
        return probabilities if embeddings is None else embeddings

    kind, colon, place = network.name.partition(":")
    name = f"{kind}{colon}{Path(place).name}"
    return Tagger(
        name, network.weights, heard, len(network.classes), embed, network.classes, network.sample_rate
    )


def load_tagger(name: str, rate: int, samples: int, device: torch.device) -> Tagger:
    """Return the tagger "./file.py:function" or "module:function"; `function(rate)` is called once.

    The rate is in Hz. A `torch.nn.Module` is put to evaluation and on `device`. It is tried on `samples` of
    silence. A module must be installed: what lies in the current folder is run only if its file is named.
    Raises UserError where it cannot be imported or makes no vectors.
    """
    module, _, function = name.rpartition(":")
    try:
        make = getattr(_import(module), function)
    except Exception as error:  # a module may raise anything
        raise UserError(
            f"--tagger {name}: expected ./FILE.py:FUNCTION, or MODULE:FUNCTION of an installed module "
            f"({shorten(error)})"
        ) from error
    with _blamed(name, f"called with {rate} (Hz)"):
        hears, weights = make(rate), ""
    if not callable(hears):
        raise UserError(f"--tagger {name}: gives {type(hears).__name__}, which cannot be called on waveforms")
    if isinstance(hears, nn.Module):
        hears, weights = hears.to(device).eval(), sha256(hears.state_dict())
    silence = torch.zeros(1, samples, device=device)
    return Tagger(name, weights, hears, _hear(name, hears, silence).shape[1])


def _import(module: str) -> ModuleType:
    """Import an installed module, or run a file whose name ends in .py; it may import its neighbors."""
    if not module.endswith(".py"):
        return importlib.import_module(module)
    path = regular(Path(module).resolve(strict=True), "name the file itself")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # the file ends in .py
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@contextlib.contextmanager
def _blamed(name: str, call: str) -> Iterator[None]:
    """Let what a user's function raises be one sentence, with the place."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename}, line {place.lineno}"
        raise UserError(
            f"--tagger {name}: {call} it raised {type(error).__name__}: {shorten(error)} ({where})"
        ) from error


def _hear(name: str, function: Callable[[Tensor], Any], waveforms: Tensor) -> Tensor:
    with torch.no_grad(), _blamed(name, f"called with waveforms {list(waveforms.shape)}"):
        vectors = function(waveforms)
    if not isinstance(vectors, Tensor) or vectors.ndim != 2 or len(vectors) != len(waveforms):
        made = f"a tensor {list(vectors.shape)}" if isinstance(vectors, Tensor) else type(vectors).__name__
        raise UserError(
            f"--tagger {name}: makes {made} of waveforms {list(waveforms.shape)}; expected a tensor "
            f"[{len(waveforms)}, D]: class probabilities, or an embedding"
        )
    return vectors


@dataclass(frozen=True)
class ClassifyAudio:
    """Work for `resumable_map`: labels of the sounds of a batch, and every class's probability."""

    tagger: Tagger
    soft: bool = False

    def __call__(self, batch: Batch) -> Arrays:
        """Return "label", "confidence", "top", "top_probability", "probability", and "soft" where asked.

        "probability" [n, K] is what the tagger gives, as float16; rows of "soft" [n, K] sum to 1.
        Classes of one clip need not exclude each other, as in AudioSet. Raises UserError where what the
        tagger gives is not finite or not in 0..1.
        """
        probability = self.tagger(batch.waveforms)
        require_finite({"sound": probability.cpu().numpy()}, batch, f"the tagger {self.tagger.name}")
        low, high = float(probability.min()), float(probability.max())
        if low < 0 or high > 1 + 1e-4:
            raise UserError(
                f"--tagger {self.tagger.name}: gives {low:.3g} to {high:.3g}, and class probabilities lie in "
                "0..1; cluster an embedding instead, with: cacl labels cluster DIR --of sound --tagger"
            )
        arrays = predictions(probability, soft=False)
        arrays["probability"] = probability.half().cpu().numpy()
        if self.soft:
            total = probability.sum(1, keepdim=True).clamp(min=1e-12)
            arrays["soft"] = (probability / total).cpu().numpy()
        return arrays
