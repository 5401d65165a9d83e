"""DeepSpeed's ZeRO 0 to 3: optimizer state, gradients and parameters are spread over the ranks.

deepspeed is imported only where such an engine is built.
"""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from cacl.errors import UserError
from cacl.extras import named_extras
from cacl.model.localizer import Localizer
from cacl.options import Options
from cacl.runs import checkpoint
from cacl.training.engines.base import MODEL_FILE, Engine, Precision
from cacl.training.optimization import OptimizerOptions
from cacl.training.options import TrainingOptions
from cacl.types import Embeddings
from cacl.world import World, backend_of

ENGINE_FOLDER = "engine"
_TAG = "zero"


@dataclass(frozen=True)
class DeepSpeed(Options):
    """Microsoft's DeepSpeed."""

    name: Literal["deepspeed"] = "deepspeed"
    zero: Literal[0, 1, 2, 3] = 2
    """What is spread over ranks: 1 the optimizer's state, 2 gradients too, 3 parameters too."""
    config: str | None = None
    """A JSON file of DeepSpeed's own, merged over what the recipe says; a contradiction is refused."""

    def build(
        self,
        model: Localizer,
        optimizer: OptimizerOptions,
        world: World,
        precision: Precision = "float32",
        clip_gradient_norm: float | None = None,
    ) -> DeepSpeedEngine:
        """Move `model` to this rank's device and hand it to DeepSpeed."""
        derived: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "managed_gradient_accumulation": False,
            "gradient_clipping": clip_gradient_norm or 0.0,
            "bf16": {"enabled": False},
            "torch_autocast": {"enabled": precision == "bfloat16", "dtype": "bfloat16"},
            "zero_optimization": {"stage": self.zero},
            "zero_allow_untested_optimizer": True,
        }
        config = merge(derived, read_config(self.config), self.config or "")
        config.setdefault("steps_per_print", None)
        config["zero_optimization"].setdefault("overlap_comm", False)
        return DeepSpeedEngine(model, optimizer, world, config)


def read_config(path: str | None) -> dict[str, Any]:
    """Read the user's JSON. Raises UserError."""
    if path is None:
        return {}
    try:
        values = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"engine.config: {path}: {error}; give a JSON file in DeepSpeed's form") from error
    if not isinstance(values, dict):
        raise UserError(f"engine.config: {path}: a mapping is expected")
    return values


def merge(derived: dict[str, Any], own: dict[str, Any], path: str, prefix: str = "") -> dict[str, Any]:
    """Return `derived` with the user's values added. Raises UserError where they contradict the recipe."""
    for key in ("optimizer", "scheduler", "fp16", "train_batch_size", "amp"):
        if not prefix and key in own:
            raise UserError(f"engine.config: {path}: {key} is the recipe's to say; remove it there")
    result = dict(derived)
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(derived.get(key), dict):
            result[key] = merge(derived[key], value, path, f"{prefix}{key}.")
        elif key in derived and derived[key] != value:
            raise UserError(
                f"engine.config: {path}: {prefix}{key} is {value!r}, the recipe makes it {derived[key]!r}; "
                "set it in one place"
            )
        else:
            result[key] = value
    return result


class DeepSpeedEngine(Engine):
    """See `Engine`. A step whose gradient is not finite is found out one step late and cannot be undone."""

    has_parts = True

    def __init__(
        self, model: Localizer, optimizer: OptimizerOptions, world: World, config: dict[str, Any]
    ) -> None:
        os.environ.setdefault("DS_ACCELERATOR", world.device.type)
        os.environ.setdefault("LOCAL_RANK", str(world.device.index or 0))
        with named_extras("engine"):
            import deepspeed

        deepspeed.logger.setLevel("WARNING")
        # Of use for inference on processors alone, and otherwise compiled here: by ninja and g++, if at all.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        if not dist.is_initialized():  # DeepSpeed wants a process group even for one process
            backend = backend_of(world.device)
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        self.stage = config["zero_optimization"]["stage"]
        self.clip = config["gradient_clipping"]
        if self.stage == 0:
            config = {**config, "gradient_clipping": 0.0}  # clipped in the hook below, which sees the norm
        built = optimizer.build(model.named_parameters())
        self.base_rates = [group["lr"] for group in built.param_groups]
        self.world = world
        self._norm = torch.zeros((), device=world.device)
        if self.stage == 0:
            built.register_step_pre_hook(self._clip)
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=model.to(world.device), optimizer=built, config=config, dist_init_required=False
        )
        self.module = self.engine.module
        self.precision = "bfloat16" if config["torch_autocast"]["enabled"] else "float32"

    def check(self, options: TrainingOptions) -> None:
        if options.non_finite == "skip":
            raise UserError("training.non_finite: the engine deepspeed cannot skip a step; use stop")
        if options.ema_decay is not None and self.stage == 3:
            raise UserError(
                "training.ema_decay: ZeRO 3 leaves no rank a whole model to average; use engine.zero 2"
            )

    def _clip(self, optimizer: torch.optim.Optimizer, *arguments: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self._norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.clip:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, self._norm)

    def forward(self, *inputs: Any) -> Embeddings:
        return self.engine(*inputs)

    def backward(self, scalar: Tensor) -> None:
        self.engine.backward(scalar, scale_wrt_gas=False)

    def synchronizing(self, wanted: bool) -> AbstractContextManager[None]:
        return nullcontext()  # ZeRO 0 and 1 reduce in step(); 2 and 3 spread every backward's gradients

    def update(self, learning_rate_factor: float) -> Tensor:
        for group, rate in zip(self.engine.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * learning_rate_factor
        self.engine.step()
        norm = self._norm if self.stage == 0 else self.engine.get_global_grad_norm()
        return torch.as_tensor(norm, device=self.world.device).detach()

    def state_files(self) -> dict[str, dict[str, Tensor]]:
        tensors = self._whole_model()
        return {MODEL_FILE: tensors} if self.world.is_main else {}

    def _whole_model(self) -> dict[str, Tensor]:
        """Return every parameter and buffer as float32 (whole numbers as they are), on rank 0."""
        if self.stage < 3:
            return self._in_float32(self.module.state_dict())
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(self.module.parameters())):
            return (
                checkpoint.to_host(self._in_float32(self.module.state_dict())) if self.world.is_main else {}
            )

    @staticmethod
    def _in_float32(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}

    def save_parts(self, folder: Path) -> None:
        self.engine.save_checkpoint(str(folder / ENGINE_FOLDER), tag=_TAG, save_latest=False)

    def load(self, folder: Path) -> None:
        shards = folder / ENGINE_FOLDER
        written = checkpoint.read_state(folder).get("world_size")
        if written != self.world.size:
            raise UserError(
                f"{folder}: was written by {written} rank(s) of DeepSpeed, and this job has "
                f"{self.world.size}; resume on as many, or start anew with --init-from"
            )
        if checkpoint.is_older(folder / MODEL_FILE):
            raise UserError(
                f"{folder}: was written by an earlier version of cacl, whose names DeepSpeed's own files "
                f"keep; start anew with --init-from {folder / MODEL_FILE}"
            )
        # DeepSpeed unpickles its own files: they are read only after their sha256 matched.
        found, _ = self.engine.load_checkpoint(str(shards), tag=_TAG)
        if found is None:
            raise UserError(f"{shards}: holds no DeepSpeed checkpoint; was it written by another engine?")
