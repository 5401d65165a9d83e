"""The rows of the study of losses: what each takes from a recipe, and the row that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.miniature import data
from benchmarks.miniature.plan import WITHOUT_DROPOUT, name_of, setting
from benchmarks.miniature.training import Setting
from cacl.evaluation.protocols import get_protocol
from cacl.evaluation.protocols.stamps import stamps_protocol

LEVEL = "two-object"
PROTOCOL = get_protocol("stamps")
EXTENDED = stamps_protocol("extended-stamps", version=1, judged_by="peak_in_box")
LOSS = (
    "loss",
    "model.heads",
    "model.image_dropout",
    "data.augmentation.views",
    "training.ema_decay",
    "training.target",
)
"""The keys of a loss as a whole, with what belongs to it."""
CLASSES = ("loss.positives", "data.labels")
"""The keys of class awareness: whose sounds are positives, by which labels."""


@dataclass(frozen=True)
class Row:
    """A line of a table: a loss, the labels that it trains on, and the row that it is compared with."""

    title: str
    method: str
    labels: str | None = None
    beside: Row | None = None
    """The row that differs in one thing."""
    differs_in: tuple[str, tuple[str, ...]] = ("", ())
    """That thing in words, and its keys in the recipe; a test reads the resolved recipes."""
    tag: str = ""
    """Tells the row from others of its method and labels."""
    loss: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def name(self, tag: str = "") -> str:
        """Return where its runs lie."""
        return name_of(LEVEL, self.method, self.labels, tag or self.tag)

    def setting(self, folder: Path, seed: int) -> Setting:
        """Return its training of a seed, measured for Tables 1 and 2."""
        protocols = (PROTOCOL.name, EXTENDED.name)
        words = (folder, LEVEL, self.method, self.labels, seed, self.tag, self.loss, self.training)
        return setting(*words, protocols)


IN_LOSS = ("the loss", LOSS)
IN_POSITIVES = ("positives", CLASSES)
SLAVC = Row("SLAVC, target without dropout", "slavc", tag="milder", training=WITHOUT_DROPOUT)
BOTH = replace(
    SLAVC,
    title=f"{SLAVC.title}, both directions",
    beside=SLAVC,
    differs_in=("direction", ("loss.direction",)),
    tag="milder-both",
    loss={"direction": "both"},
)
OWN_CLIP = Row("max, own clip", "miniature", beside=SLAVC, differs_in=IN_LOSS)


def class_aware(title: str, beside: Row, labels: str) -> Row:
    """Return a row that has same-class positives where `beside` has its own clip."""
    method = {"slavc": "slavc-class-aware"}.get(beside.method, beside.method)
    return replace(beside, title=title, method=method, labels=labels, beside=beside, differs_in=IN_POSITIVES)


IMAGE_LABELS = class_aware("class-aware, one direction, image labels", SLAVC, data.STRONG)
ROWS = (
    SLAVC,
    Row("SLAVC", "slavc", beside=SLAVC, differs_in=("the target's mode", ("training.target",))),
    BOTH,
    Row("EZ-VSL", "ez-vsl", beside=SLAVC, differs_in=IN_LOSS),
    Row("LVS", "lvs", beside=SLAVC, differs_in=IN_LOSS),
    Row("FNAC", "fnac", beside=SLAVC, differs_in=IN_LOSS),
    OWN_CLIP,
    IMAGE_LABELS,
    class_aware("class-aware, one direction, fused labels", SLAVC, "fused"),
    class_aware("class-aware, both directions, fused labels", BOTH, "fused"),
    class_aware("max, class-aware, fused labels (ours)", OWN_CLIP, "fused"),
    Row("paper-literal, image labels", "paper-literal", data.STRONG, IMAGE_LABELS, IN_LOSS),
)
