"""What a recipe says of a training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from cacl.errors import UserError
from cacl.options import Options
from cacl.training.ema import TargetOptions
from cacl.training.optimization import Fraction
from cacl.training.sinks import SinkName

_LONGEST_TIMEOUT = 30 * 24 * 3600.0
"""Seconds; far more than that no timer takes."""
_LEAST, _MOST = 16, 32
"""Clips of a micro-batch that `auto` takes: enough for BatchNorm, few enough for memory."""


@dataclass(frozen=True)
class TrainingOptions(Options):
    """How long, in what portions, and what is kept."""

    global_batch_size: PositiveInt = 120
    """Clips of one step over all ranks: a multiple of the data set's lanes."""
    micro_batch_size: PositiveInt | Literal["auto"] = 60
    """Clips of one forward: the unit that BatchNorm and dropout see, whatever the number of ranks.

    `auto` is the largest divisor of the batch from 16 to 32, the whole batch where there is none.
    """
    epochs: PositiveInt = 10
    """How often the training clips are gone through."""
    seed: NonNegativeInt = 0
    """Of the first weights, the order of the clips, their crops and dropout."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the encoders' arithmetic; weights, gradients and the loss are float32 in both."""
    clip_gradient_norm: PositiveFloat | None = None
    """Scale a gradient that is longer than this down to it."""
    ema_decay: Fraction | None = None
    """Keep a moving average of the model, which also makes the targets of losses that have them."""
    target: TargetOptions = field(default_factory=TargetOptions)
    measured: Literal["model", "ema"] = "model"
    """Which weights are validated and so chosen as best, and measured and used unless a command says so."""
    checkpoint_every: PositiveInt = 100
    """Steps between checkpoints; each is measured on `data.validation` where that is given."""
    keep_checkpoints: PositiveInt = 2
    """The newest so many are kept, and the best by validation."""
    calibration: Annotated[int, Field(ge=0, le=100)] = 1
    """How often each validation draws silence, noise and an off-screen sound to fit θ; 0: it fits none."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What a gradient that is not finite does: end the run, or be skipped and counted."""
    distributed_timeout: PositiveFloat = 600.0
    """Seconds that a rank waits for the others before the job ends and names the one that hangs."""
    compile: bool = False
    """Compile the encoders."""
    channels_last: bool = False
    """Keep images and kernels with channels innermost."""
    activation_checkpointing: bool = False
    """Compute the encoders' activations again in the backward pass instead of keeping them."""
    log: tuple[SinkName, ...] = ()
    """Where train.jsonl's lines go as well."""
    profile_steps: NonNegativeInt = 0
    """Write a torch-profiler trace of so many steps to trace.json in the run directory."""

    @property
    def micro_batch(self) -> int:
        """Clips of one forward, a function of the batch alone where that is `auto`."""
        batch = self.global_batch_size
        if self.micro_batch_size != "auto":
            return self.micro_batch_size
        return next((size for size in range(_MOST, _LEAST - 1, -1) if batch % size == 0), batch)

    def __post_init__(self) -> None:
        if self.distributed_timeout > _LONGEST_TIMEOUT:
            raise UserError(
                f"training.distributed_timeout: {self.distributed_timeout:g} s is more than 30 days; nothing "
                "would ever end a rank that hangs"
            )
        if self.ema_decay is None and (self.measured == "ema" or self.target != TargetOptions()):
            key = "measured" if self.measured == "ema" else "target"
            raise UserError(f"training.{key}: there is no moving average; set training.ema_decay too")
