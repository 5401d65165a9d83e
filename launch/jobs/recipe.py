"""The recipe: everything that decides what a training computes. Defaults stand in these dataclasses only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Discriminator, NonNegativeInt, PositiveFloat, Tag

from cacl.errors import UserError
from cacl.evaluation.protocols import get_protocol
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
class Sounds(Options):
    """The clips whose sounds are heard with other clips' frames."""

    path: str
    """Folder or URL of the packed clips; of these only sounds are read."""
    labels: str
    """Their label table: a frame is heard with a sound that has its label."""


@dataclass(frozen=True)
class TrainSource(Options):
    """One of several data sets of a training."""

    path: str
    """Folder or URL of the packed clips."""
    weight: PositiveFloat | None = None
    """Its share of an epoch, as a multiple of the others'; by default the number of its clips."""
    labels: str | None = None
    """Its label table, of the same classes as the others'."""
    sounds: Sounds | None = None
    """Take its frames only, each with a sound of these clips that has the same label."""

    def __post_init__(self) -> None:
        if self.sounds is not None and self.labels is None:
            raise UserError(f"{self.path}: labels: missing; sounds are given to frames by their labels")


def _form_of_train(value: Any) -> str:
    return "list" if isinstance(value, list | tuple) else "path"


Train = Annotated[
    Annotated[str, Tag("path")] | Annotated[tuple[TrainSource, ...], Tag("list")],
    Discriminator(_form_of_train),
]
"""One data set by its folder or URL, or several."""


@dataclass(frozen=True)
class DataOptions(Options):
    """Which clips, in which order, made into tensors how."""

    train: Train
    """Folder or URL of the packed training clips, or a list of several: `{path, weight, labels, sounds}`."""
    labels: str | None = None
    """The label table of the training clips; without one every clip is a class of its own."""
    exclude: str | None = None
    """A list of ids that are not trained on, such as `cacl shards audit --exclude` writes."""
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

    def __post_init__(self) -> None:
        if isinstance(self.train, str):
            return
        if not self.train:
            raise UserError("data.train: the list is empty; name at least one data set")
        if self.labels is not None:
            raise UserError("data.labels: each data set of data.train names its own; move it to its labels")
        weighed = [source for source in self.train if source.weight is not None]
        if weighed and len(weighed) < len(self.train):
            raise UserError(
                "data.train: some data sets have a weight and some have none; give all one, or none"
            )
        if weighed and self.order.name != "lanes":
            raise UserError(
                f"data.train: weights decide how often each data set comes, and {self.order.name} batches "
                "are drawn by class; leave the weights out, or set data.order to lanes"
            )

    @property
    def sources(self) -> tuple[TrainSource, ...]:
        """The data sets of the training, one or several."""
        return (TrainSource(self.train, labels=self.labels),) if isinstance(self.train, str) else self.train


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


def check_protocol(recipe: Recipe, source: str) -> Recipe:
    """Return the recipe of `source`. Raises UserError where it measures by a protocol that there is not."""
    try:
        get_protocol(recipe.data.protocol)
    except UserError as error:
        raise UserError(f"{source}: data.protocol: {error}") from error
    return recipe
