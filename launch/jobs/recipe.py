"""The recipe: everything that decides what a training computes. Defaults stand in these dataclasses only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import NonNegativeInt

from cacl.errors import UserError
from cacl.loss import LossOptions
from cacl.model.localizer import ModelOptions
from cacl.options import Options
from cacl.training.engines import DDP, EngineOptions
from cacl.training.optimization import AdamW, Cosine, OptimizerOptions, ScheduleOptions
from cacl.training.options import TrainingOptions
from shards.decoders import DecoderOptions
from shards.decoders.augmentation import Augmentation
from shards.decoders.torch import TorchDecoder
from shards.order import Lanes, OrderOptions


@dataclass(frozen=True)
class DataOptions(Options):
    """Which clips, in which order, made into tensors how."""

    train: str
    """Folder or URL of the packed training clips."""
    labels: str | None = None
    """The label table of the training clips; without one every clip is a class of its own."""
    validation: str | None = None
    """Packed clips, without boxes, by whose retrieval checkpoints and settings are chosen."""
    validation_labels: str | None = None
    """Their label table, for retrieval of the same class."""
    test: str | None = None
    """Folder or URL of the packed test clips, for `cacl evaluate`; never read in training."""
    protocol: str = "stamps"
    """How `cacl evaluate` measures on them."""
    order: OrderOptions = field(default_factory=Lanes)
    workers: NonNegativeInt = 2
    """Decoding processes of each rank."""
    decoder: DecoderOptions = field(default_factory=TorchDecoder)
    augmentation: Augmentation = field(default_factory=Augmentation)
    broken_clips: Literal["raise", "mask"] = "raise"
    """What a clip that cannot be decoded does: end the run, or be masked and counted."""


@dataclass(frozen=True)
class Recipe(Options):
    """One training."""

    data: DataOptions
    model: ModelOptions = field(default_factory=ModelOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    optimizer: OptimizerOptions = field(default_factory=AdamW)
    schedule: ScheduleOptions = field(default_factory=Cosine)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    engine: EngineOptions = field(default_factory=DDP)

    def __post_init__(self) -> None:
        heard, delivered = self.model.features.rate, self.data.augmentation.sample_rate
        if heard != delivered:
            raise UserError(
                f"model.features.rate: {heard} Hz, but data.augmentation.sample_rate delivers {delivered}; "
                "make them equal"
            )
        compared, views = self.loss.objective.views, self.data.augmentation.views
        if compared != views:
            raise UserError(
                f"data.augmentation.views: {views}, but loss.objective {self.loss.objective.name} compares "
                f"{compared} of each frame; set it to {compared}"
            )
        self.loss.check_heads(self.model.heads)
