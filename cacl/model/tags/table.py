"""Which of the classes that are seen make a sound that is heard: the table classes.csv.

It is made by `python -m benchmarks.tag_table` from makers.txt and WordNet, and is data: a row says that the
AudioSet class `heard` is made by, or seen with, a class of ImageNet or COCO, and which way it came in.

Axes: `A` classes that are heard, `I` classes of ImageNet, `C` classes of COCO.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cacl.model.taggers.base import audioset_classes

IMAGENET_CLASSES = 1000
COCO = (
    "person", "bicycle", "car", "motorbike", "aeroplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "sofa",
    "pottedplant", "bed", "diningtable", "toilet", "tvmonitor", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""COCO's classes in the detector's order."""


@dataclass(frozen=True)
class Table:
    """From heard to seen classes, as 0 and 1 for what makes a sound and for what is only seen with it."""

    imagenet: Tensor
    """[2, A, I] float32: makers, and what is seen with them."""
    coco: Tensor
    """[2, A, C] float32."""


def read_table() -> Table:
    """Return the table that comes with cacl."""
    heard = len(audioset_classes())
    found = {"imagenet": torch.zeros(2, heard, IMAGENET_CLASSES), "coco": torch.zeros(2, heard, len(COCO))}
    relations = ("maker", "with")
    with Path(__file__).with_name("classes.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["dataset"]][relations.index(row["relation"]), int(row["heard"]), int(row["class"])] = 1
    return Table(**found)
