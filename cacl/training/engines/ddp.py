"""Distributed data parallel: every rank holds the whole model and optimizer; one process needs none."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cacl.model.localizer import Localizer
from cacl.options import Options
from cacl.runs import checkpoint
from cacl.training.engines.base import MODEL_FILE, Engine, Precision
from cacl.training.optimization import OptimizerOptions
from cacl.training.options import TrainingOptions
from cacl.types import Embeddings
from cacl.world import World

OPTIMIZER_FILE = "engine/optimizer.safetensors"
_NAMES = ("forward_sync_buffers", "broadcast_buffers")
_SYNC_BUFFERS = next(name for name in _NAMES if name in signature(DistributedDataParallel).parameters)
"""What the newest torch, and those before it, call DDP's exchange of buffers in every forward."""


@dataclass(frozen=True)
class DDP(Options):
    """PyTorch's DistributedDataParallel."""

    name: Literal["ddp"] = "ddp"

    def build(
        self,
        model: Localizer,
        optimizer: OptimizerOptions,
        world: World,
        precision: Precision = "float32",
        clip_gradient_norm: float | None = None,
    ) -> DDPEngine:
        """Move `model` to this rank's device and wrap it."""
        return DDPEngine(model, optimizer, world, precision, clip_gradient_norm)


class DDPEngine(Engine):
    """See `Engine`. The optimizer is fused, so that it can skip a step on the device."""

    def __init__(
        self,
        model: Localizer,
        optimizer: OptimizerOptions,
        world: World,
        precision: Precision,
        clip_gradient_norm: float | None,
    ) -> None:
        self.module = model.to(world.device)
        self.world = world
        self.precision = precision
        self.clip_gradient_norm = clip_gradient_norm
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = optimizer.build(model.named_parameters())
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.wrapped: nn.Module = self.module
        if world.size > 1:
            # A 1×1 kernel may be laid out in two ways that are one; DDP says so at the first step.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            # find_unused_parameters keeps the buckets as they are: rebuilt after the first step, they would
            # add gradients in another order after a resume than before it.
            sync_buffers: Any = {_SYNC_BUFFERS: False}
            self.wrapped = DistributedDataParallel(
                self.module,
                device_ids=[world.device] if world.device.type == "cuda" else None,
                process_group=world.group,
                **sync_buffers,
                find_unused_parameters=True,
            )

    def check(self, options: TrainingOptions) -> None:
        """Nothing that a recipe can ask is beyond this engine."""

    def forward(self, *inputs: Any) -> Embeddings:
        return self.embed_by(self.wrapped, *inputs)

    def backward(self, scalar: Tensor) -> None:
        scalar.backward()

    def synchronizing(self, wanted: bool) -> contextlib.AbstractContextManager[None]:
        if wanted or not isinstance(self.wrapped, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.wrapped.no_sync()

    def update(self, learning_rate_factor: float) -> Tensor:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        received = 2 * sum(g.nbytes for g in gradients) * (self.world.size - 1) // self.world.size
        self.world.count("gradients", received)  # DDP exchanges them by itself, within the backward
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.clip_gradient_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip_gradient_norm, norm)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * learning_rate_factor
        self.optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def state_files(self) -> dict[str, dict[str, Tensor]]:
        if not self.world.is_main:
            return {}
        return {
            MODEL_FILE: self.module.state_dict(),
            OPTIMIZER_FILE: checkpoint.optimizer_tensors(self.optimizer),
        }

    def load(self, folder: Path) -> None:
        self.module.load_state_dict(checkpoint.read_tensors(folder / MODEL_FILE))
        checkpoint.load_optimizer_tensors(self.optimizer, checkpoint.read_tensors(folder / OPTIMIZER_FILE))
