"""What the trainer asks of whatever holds the model and moves its gradients between ranks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from cacl.model.localizer import Localizer
from cacl.training.options import TrainingOptions
from cacl.types import Batch, Embeddings, to_device
from cacl.world import World

MODEL_FILE = "model.safetensors"
Precision = Literal["float32", "bfloat16"]


class Engine(ABC):
    """A model on this rank's device, its optimizer, and their way between ranks.

    Gradients are averaged over ranks; `LossTerms.loss` holds the factor that makes the average the
    gradient of the global loss.
    """

    module: Localizer
    """The bare model."""
    world: World
    precision: Precision
    has_parts = False
    """Whether a rank holds what no other does, which `save_parts` writes."""
    base_rates: list[float]
    """Learning rates of the parameter groups before the schedule's factor."""

    @abstractmethod
    def check(self, options: TrainingOptions) -> None:
        """Raise UserError if the engine cannot do what a recipe asks of the training."""

    def autocast(self) -> torch.autocast:
        """Return the context in which encoders compute at the engine's precision."""
        device = self.world.device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def prepare(self, images: Tensor, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """Do on the device what needs no gradient (see `Localizer.prepare`)."""
        device = self.world.device
        with self.autocast():
            return self.module.prepare(to_device(images, device), to_device(waveforms, device))

    @abstractmethod
    def forward(self, *inputs: Any) -> Embeddings:
        """Embed one prepared micro-batch, with a graph where gradients are enabled.

        `inputs` are those of `Localizer.forward`, in its order.
        """

    def embed_by(self, module: nn.Module, *inputs: Any) -> Embeddings:
        """Embed one prepared micro-batch by another model of the same form, at the same precision."""
        with self.autocast():
            return module(*inputs)

    def hear_by(self, module: nn.Module, waveforms: Tensor) -> Tensor:
        """Return the unit vectors [n, H, D] of sounds [n, T], by the model or one of its form.

        All ranks call it equally often (ZeRO 3).
        """
        with self.autocast():
            return cast(Localizer, module).hear(to_device(waveforms, self.world.device))

    @contextmanager
    def evaluating(self, module: nn.Module | None = None) -> Iterator[Callable[[Batch], Embeddings]]:
        """Give the model, or another of the same form, in eval mode, as a function of a batch.

        All ranks call it equally often (ZeRO 3).
        """
        measured = module or self.module
        modes = [(part, part.training) for part in measured.modules()]
        measured.eval()
        try:
            yield lambda batch: self.embed_by(measured, *self.prepare(batch.images, batch.waveforms))
        finally:
            for part, training in modes:
                part.training = training

    @abstractmethod
    def backward(self, scalar: Tensor) -> None:
        """Add the gradients of `scalar` to those of the step."""

    @abstractmethod
    def synchronizing(self, wanted: bool) -> AbstractContextManager[None]:
        """Around a micro-batch's forward and backward: if `wanted`, the step's sum is averaged over ranks."""

    @abstractmethod
    def update(self, learning_rate_factor: float) -> Tensor:
        """Take the optimizer's step and clear the gradients; return their norm before clipping, a 0-d tensor.

        If the norm is not finite nothing is changed, decided on the device, unless `check` refused that.
        """

    @abstractmethod
    def state_files(self) -> dict[str, dict[str, Tensor]]:
        """Return what this rank writes into a checkpoint: path in it → tensors.

        Every rank calls this at the same step. The tensors may be the live ones: copy what is to outlast the
        next update.
        """

    def save_parts(self, folder: Path) -> None:
        """Write what only this rank holds below `folder`, if `has_parts`. Every rank calls this."""
        raise AssertionError("an engine with parts writes them")

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Take up the state of a checkpoint folder. Every rank calls this."""
