"""Golden files of newer evaluation protocols: their cases, and the truths that their boxes draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cacl.evaluation.ground_truth import consensus_map, union_map


def cases(file: Path) -> dict[str, Any]:
    """Return the arrays of a file by their keys' parts: `found["one"]["clean"]["ciou"]`; scalars as such."""
    found: dict[str, Any] = {}
    with np.load(file) as arrays:
        for key in arrays.files:
            *folders, name = key.split("/")
            place = found
            for folder in folders:
                place = place.setdefault(folder, {})
            place[name] = arrays[key] if arrays[key].ndim else arrays[key].item()
    assert found
    return found


def truths(case: dict[str, Any], clips: int) -> Tensor:
    """Return the maps [clips, S, S] of a case's pixel boxes."""
    draw = consensus_map if case.get("consensus") else union_map
    return torch.stack(
        [draw(case["boxes"][case["box_clip"] == clip].tolist(), case["size"]) for clip in range(clips)]
    )


def boxes_of_clips(case: dict[str, Any], clips: int) -> list[list[list[int]]]:
    """Return the pixel boxes of each clip."""
    return [case["boxes"][case["box_clip"] == clip].tolist() for clip in range(clips)]


def check_numbers(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Assert that every expected number is there, to 1e-6."""
    for name, value in expected.items():
        assert name in found, name
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6, err_msg=name)
