"""The loss alone: an `nn.Module` for a training loop of one's own.

Axes: `n` clips on this rank, `N` of all ranks, `H` heads, `P` places of a map, `D` channels, `K` soft
classes.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cacl.errors import UserError
from cacl.loss.batch import wide
from cacl.loss.distributed import global_loss
from cacl.loss.kernel import Kernel
from cacl.loss.options import Direction, LossOptions, ObjectiveOptions
from cacl.loss.precision import Precision, shortfall
from cacl.options import Options, parse, plain
from cacl.types import ClipLabels, Embeddings
from cacl.world import World

Part = str | Mapping[str, Any] | Options
"""A choice: its name, a mapping as in a recipe, or an instance of the choice's dataclass."""

_NAME = "AudioVisualContrast"
_DEVIATION = {torch.float32: 1e-3, torch.float64: 1e-3}
"""How far from 1 a length may be, by rounding; 1e-2 in half precision."""


class AudioVisualContrast(nn.Module):
    """Contrast places of images with sounds, exactly over all ranks.

    The loss of a clip is an `objective` of the similarities of its image (or sound) with all sounds (or
    images), of which `positives` says which belong together. docs/loss.md has the formulas; the parts are
    named and checked as in a recipe. SupCon's average, for example, is chosen by the mapping
    `{"name": "supcon", "average": "in"}`, or by `cacl.loss.objectives.SupCon(average="in")`.

    Where `torch.distributed` is initialized, every rank calls the module with its own clips, and clips are
    contrasted with those of all ranks. The value is the mean over the clips of all ranks, equal on every
    rank; the gradient is exact once gradients are *averaged* over ranks, as DDP does. Learned scalars (the
    temperature, SigLIP's bias) are parameters of the module, for the optimizer; their gradients are averaged
    already, inside of DDP or not. `world` names other processes than those of the default group.

    `normalize=False` takes vectors as they are, and checks that they have unit length.

    Raises UserError for parts that do not exist or do not fit each other, and for an objective that learns a
    head inside the model (sspl).

    >>> contrast = AudioVisualContrast(similarity="max", positives="same-class", temperature=0.1)
    >>> image = torch.eye(3)[:, None].repeat(1, 49, 1).requires_grad_()  # [n, P, D]
    >>> audio = torch.eye(3)  # [n, D]
    >>> loss = contrast(image, audio, labels=torch.tensor([4, 4, 7]))
    >>> loss.backward()
    >>> round(loss.item(), 4), image.grad.shape
    (0.0001, torch.Size([3, 49, 3]))
    """

    def __init__(
        self,
        similarity: Part = "max",
        positives: Part = "same-class",
        objective: Part = "infonce",
        temperature: float = LossOptions.temperature,
        *,
        direction: Direction = LossOptions.direction,
        learn_temperature: bool = LossOptions.learn_temperature,
        minimum_temperature: float = LossOptions.minimum_temperature,
        regularizers: Part | Sequence[Part] = LossOptions.regularizers,
        memory_mib: float | None = LossOptions.memory_mib,
        kernel: Kernel = LossOptions.kernel,
        scores: Precision = LossOptions.scores,
        normalize: bool = True,
        world: World | None = None,
    ) -> None:
        super().__init__()
        more = [regularizers] if isinstance(regularizers, str | Mapping | Options) else regularizers
        values = {
            "similarity": _plain(similarity),
            "positives": _plain(positives),
            "objective": _plain(objective),
            "temperature": temperature,
            "direction": direction,
            "learn_temperature": learn_temperature,
            "minimum_temperature": minimum_temperature,
            "regularizers": [_plain(part) for part in more],
            "memory_mib": memory_mib,
            "kernel": kernel,
            "scores": scores,
        }
        chosen = parse(_Chosen, {"objective": values["objective"]}, _NAME).objective
        if chosen.head(1) is not None:
            raise UserError(
                f"{_NAME}: objective {chosen.name} learns a head inside the model; train it from a recipe "
                "(cacl.train), or choose another objective"
            )
        self.options = parse(LossOptions, values, _NAME)
        self.normalize = normalize
        self.world = world
        first = {name: nn.Parameter(torch.tensor(value)) for name, value in self.options.scalars().items()}
        self.scalars = nn.ParameterDict(first)
        self._said: set[str] = set()

    def forward(
        self,
        image: Tensor,
        audio: Tensor,
        labels: Tensor | None = None,
        confidence: Tensor | None = None,
        *,
        soft: Tensor | None = None,
        valid: Tensor | None = None,
        step: int | Tensor = 0,
    ) -> Tensor:
        """Return the loss, 0-d, float32 (float64 if the vectors are).

        `image` [n, P, D], or [n, H, P, D] with heads, holds a vector for each place; `audio` is [n, D] or
        [n, H, D]. `labels` [n] are integers, below 0 where unknown; a clip without a label is a class of its
        own, and so is every clip without `labels`, of which positives that read labels warn once.
        `confidence` [n] in 0..1 is 1 by default. `soft` [n, K] are the distributions that `soft-overlap`
        reads, `valid` [n] bool says which clips count (default: all), and `step` is the training step, for
        curricula.

        Ranks may hold unequal numbers of clips, or none. They tell each other how many before the vectors
        are exchanged, and the largest label is read: both wait for the host. `cacl.loss.global_loss` is told
        the numbers and waits for nothing.

        Raises UserError, on every rank, if what a rank gives does not fit.
        """
        given = _Given(image, audio, labels, confidence, soft, valid)
        world = self.world or World.current(image.device)
        shares = _exchange(world, given, self._refusal(given))
        if labels is None and self.options.positives.needs_labels:
            self._warn_once(
                f"positives {self.options.positives.name} got no labels, so that every clip is a class of "
                "its own; give labels, or choose own-clip"
            )
        self._warn_once(shortfall(self.options.scores, image.device))
        with torch.autocast(image.device.type, enabled=False):
            image, audio = wide(image), wide(audio)
            if self.normalize:
                image, audio = functional.normalize(image, dim=-1), functional.normalize(audio, dim=-1)
            if image.ndim == 3:
                image, audio = image.unsqueeze(1), audio.unsqueeze(1)
            clips = given.clips(first=sum(shares[: world.rank]), dtype=audio.dtype)
            embeddings = Embeddings(image, audio, self._bounded_scalars(world))
            terms = global_loss(embeddings, clips, self.options, world, step, shares)
        return terms.mean + (terms.loss - terms.loss.detach())

    def extra_repr(self) -> str:
        """Return the choices, for `print`."""
        options = self.options
        parts = (options.similarity, options.positives, options.objective, *options.regularizers)
        names = " × ".join(part.name for part in parts)
        return f"{names}, temperature={options.temperature}, direction={options.direction}"

    def _warn_once(self, sentence: str) -> None:
        """Warn the caller of `forward` of what was not said before, if anything."""
        if sentence and sentence not in self._said:
            self._said.add(sentence)
            warnings.warn(f"{_NAME}: {sentence}", stacklevel=5)

    def _refusal(self, given: _Given) -> str:
        """Return what is wrong with a call, "" if nothing is."""
        try:
            given.check()
            self.options.check_heads(given.heads)
            largest = -1 if given.labels is None or not len(given.labels) else int(given.labels.max())
            self.options.positives.check_labels(largest, given.soft is not None)
            if not self.normalize:
                _check_lengths("image", given.image)
                _check_lengths("audio", given.audio)
        except UserError as error:
            return str(error)
        return ""

    def _bounded_scalars(self, world: World) -> dict[str, Tensor]:
        """Put learned scalars back within their bounds, and return copies."""
        self.options.clamp_(dict(self.scalars.items()))
        return {name: world.with_mean_gradient(wide(value)) for name, value in self.scalars.items()}


@dataclass(frozen=True)
class _Chosen(Options):
    objective: ObjectiveOptions


@dataclass(frozen=True)
class _Given:
    """What a rank calls the module with."""

    image: Tensor
    audio: Tensor
    labels: Tensor | None
    confidence: Tensor | None
    soft: Tensor | None
    valid: Tensor | None

    @property
    def heads(self) -> int:
        """H, 1 without an axis for it."""
        return self.image.shape[1] if self.image.ndim == 4 else 1

    @property
    def common(self) -> dict[str, Any]:
        """What all ranks must have in common."""
        soft = None if self.soft is None else self.soft.shape[-1]
        precision = wide(self.audio[:0]).dtype
        return {"heads": self.heads, "D": self.audio.shape[-1], "K": soft, "precision": str(precision)}

    def check(self) -> None:
        """Raise UserError, with expected and received, unless all fit together."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name, value in values.items():
            if value is not None and not isinstance(value, Tensor):
                raise UserError(f"{name} is a {type(value).__name__}, expected a tensor")
        image = self.image
        if image.ndim not in (3, 4) or 0 in image.shape[1:]:
            raise UserError(f"image has shape {tuple(image.shape)}, expected [n, P, D], or [n, H, P, D]")
        n, *heads, _, channels = image.shape
        expected: dict[str, tuple[int, ...]]
        expected = {name: (n,) for name in ("labels", "confidence", "valid")}
        expected |= {"audio": (n, *heads, channels)}
        expected |= {} if self.soft is None else {"soft": (n, *self.soft.shape[1:2])}
        for name, shape in expected.items():
            if values[name] is not None and tuple(values[name].shape) != shape:
                map_hint = "; give a map [n, D, h, w] as map.flatten(2).transpose(1, 2)" if heads else ""
                raise UserError(
                    f"{name} has shape {tuple(values[name].shape)}, expected {shape} to fit image "
                    f"{tuple(image.shape)}{map_hint if name == 'audio' else ''}"
                )
        if self.audio.device != image.device:
            raise UserError(f"audio is on {self.audio.device}, image on {image.device}; move one of them")
        for name in ("image", "audio", "confidence", "soft"):
            if values[name] is not None and not values[name].is_floating_point():
                raise UserError(f"{name} has dtype {values[name].dtype}, expected a floating one")
        if self.labels is not None and (self.labels.is_floating_point() or self.labels.dtype == torch.bool):
            raise UserError(f"labels has dtype {self.labels.dtype}, expected integers; give [n, K] as soft=")
        if self.valid is not None and self.valid.dtype != torch.bool:
            raise UserError(f"valid has dtype {self.valid.dtype}, expected bool")

    def clips(self, first: int, dtype: torch.dtype) -> ClipLabels:
        """Return what is known of the clips, numbered from `first` on."""
        n, device = len(self.image), self.image.device
        unknown, one = torch.full((n,), -1, device=device), torch.ones(n, device=device)
        return ClipLabels(
            index=torch.arange(first, first + n, device=device),
            label=unknown if self.labels is None else self.labels.to(device).long(),
            confidence=one if self.confidence is None else self.confidence.to(device, dtype),
            valid=one.bool() if self.valid is None else self.valid.to(device),
            soft=None if self.soft is None else self.soft.to(device, dtype),
        )


def _exchange(world: World, given: _Given, refusal: str) -> tuple[int, ...]:
    """Return how many clips each rank holds.

    Raises UserError on all ranks if what one of them gives does not fit.
    """
    said = world.gather_objects((refusal, None if refusal else (len(given.image), given.common)))
    for rank, (wrong, _) in enumerate(said):
        if wrong:
            raise UserError(f"{_NAME}: {f'rank {rank}: ' if world.size > 1 else ''}{wrong}")
    (_, common), *others = (fact for _, fact in said)
    for rank, (_, other) in enumerate(others, 1):
        for name in (name for name in common if common[name] != other[name]):
            raise UserError(
                f"{_NAME}: {name} is {common[name]} on rank 0 and {other[name]} on rank {rank}; make it equal"
            )
    return tuple(n for _, (n, _) in said)


def _check_lengths(name: str, vectors: Tensor) -> None:
    """Raise UserError unless vectors [..., D] have unit length."""
    lengths = torch.linalg.vector_norm(wide(vectors.detach()), dim=-1)
    largest = float((lengths - 1).abs().max()) if lengths.numel() else 0.0
    allowed = _DEVIATION.get(vectors.dtype, 1e-2)
    if not largest <= allowed:  # NaN is refused too
        raise UserError(
            f"{name} has vectors whose length differs from 1 by up to {largest:.3g}, more than {allowed:g}; "
            "normalize them along D, or leave out normalize=False"
        )


def _plain(part: Part) -> Any:
    """Return a choice as a mapping, as a recipe would have it."""
    return {"name": part} if isinstance(part, str) else plain(part)
