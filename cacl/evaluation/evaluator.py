"""The evaluator alone: maps and boxes of any origin to the numbers of a protocol.

It needs no run, no file and no shards, and gives what `cacl evaluate` gives for the same maps.

Axes: `N` clips, `h`, `w` cells of a map, `H`, `W` pixels of a picture.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cacl.annotation import Annotation, SoundSource
from cacl.errors import UserError
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.ground_truth import box_around, mask_map
from cacl.evaluation.measure import measure_annotated
from cacl.evaluation.protocols import PROTOCOLS, Protocol, get_protocol
from cacl.evaluation.upsampling import Upsampling

Boxes = Iterable[Sequence[float]]
"""Of a clip, (x0, y0, x1, y1) each, x to the right and y down; none: nothing in view sounds."""
Size = Sequence[float] | Sequence[Sequence[float]]
"""(width, height) of a picture in pixels: one for all clips, or one a clip."""

_BEYOND = 1.01
"""Boxes in 0..1 never lie this far to the right or down, but boxes in pixels do."""


def evaluate(
    maps: np.ndarray | Tensor,
    boxes: Sequence[Boxes] | None = None,
    protocol: str | Protocol = "vggss",
    *,
    size: Size | None = None,
    masks: Sequence[Any] | np.ndarray | Tensor | None = None,
    ids: Sequence[str] | None = None,
    images: Sequence[str | None] | None = None,
    upsampling: Upsampling | None = None,
    without_quirks: Collection[str] = (),
) -> dict[str, float]:
    """Return the numbers of a protocol for maps of any model.

    `maps` [N, h, w], float, NumPy or torch on any device, are higher where the sound comes from. The
    protocols expect cosines, in -1..1: another scale changes numbers with an absolute threshold, and
    slavc-compat's. `boxes` holds for every clip its (x0, y0, x1, y1), in 0..1, or in pixels where `size` =
    (width, height) is given, one for all clips or one a clip; a clip without boxes is silent. What of
    a box lies left of the picture or above it is cut off. `masks` [N, H, W], or one [H, W] a clip, bool,
    uint8 (255 inside) or float in 0..1, belong to the protocols stamps, extended-stamps and avsbench; with
    them, `boxes` may be left out: those around the masks are taken. `ids` name the clips in messages, their
    positions otherwise. `images` name the picture of every clip where several share one (is3, vpo-ss …).
    `upsampling` and `without_quirks` are those of the command.

    docs/evaluation.md says what the numbers mean. Raises UserError, naming the clip, for a map that is not
    finite, for boxes or masks that do not fit, and where no clip has boxes.

    >>> maps = np.zeros((2, 7, 7))
    >>> maps[0, :, :4] = 0.5  # left
    >>> numbers = evaluate(maps, [[(0, 0, 0.5, 1)], []], protocol="extended-vggss")
    >>> numbers["ciou"], numbers["peak_in_box"], numbers["ap"]
    (1.0, 1.0, 1.0)
    """
    evaluator = Evaluator(protocol, upsampling=upsampling, without_quirks=without_quirks)
    evaluator.update(maps, boxes, size=size, masks=masks, ids=ids, images=images)
    return evaluator.compute()


class Evaluator:
    """Measure maps batch by batch; see `evaluate` for what they are.

    What is kept is a few numbers a clip. Batches may be of any size and in any order, and evaluators of
    several processes may be merged: `compute` returns the same bits. `protocol` is a name or a `Protocol` of
    one's own. Raises UserError for a name that there is not, and for quirks that the protocol does not have.

    >>> evaluator = Evaluator("vggss")
    >>> for _ in range(2):
    ...     evaluator.update(torch.rand(3, 7, 7), boxes=[[(0.1, 0.2, 0.9, 0.8)]] * 3)
    >>> len(evaluator), sorted(evaluator.compute())[:3]
    (6, ['ap', 'auc', 'auc_absolute'])
    """

    def __init__(
        self,
        protocol: str | Protocol = "vggss",
        *,
        upsampling: Upsampling | None = None,
        without_quirks: Collection[str] = (),
    ) -> None:
        chosen = get_protocol(protocol) if isinstance(protocol, str) else protocol
        self.protocol = chosen.alter(upsampling, without_quirks)
        self._parts: list[tuple[ClipResults, bool]] = []
        """Results of batches, and whether their clips were named."""

    def __len__(self) -> int:
        """Return how many clips have been added."""
        return sum(len(part) for part, _ in self._parts)

    def update(
        self,
        maps: np.ndarray | Tensor,
        boxes: Sequence[Boxes] | None = None,
        *,
        size: Size | None = None,
        masks: Sequence[Any] | np.ndarray | Tensor | None = None,
        ids: Sequence[str] | None = None,
        images: Sequence[str | None] | None = None,
    ) -> None:
        """Measure a batch of N clips.

        Raises UserError as `evaluate` does; nothing of a batch that is refused is kept.
        """
        tensor = _to_tensor(maps)
        first = len(self)
        given: dict[str, Any] = {"boxes": boxes, "masks": masks, "ids": ids, "images": images}
        if self.protocol.needs_masks != (masks is not None):
            wanted = "masks; give masks=, [N, H, W]" if masks is None else "boxes alone; leave out masks="
            raise UserError(f"protocol {self.protocol.name}: compares with {wanted}")
        if boxes is None and masks is None:
            raise UserError(
                "boxes: none are given; give those of every clip, an empty list where it is silent"
            )
        for name, values in given.items():
            if values is not None and len(values) != len(tensor):
                raise UserError(
                    f"{name}: {len(values)} for {len(tensor)} maps; give one entry for every clip (of boxes, "
                    "an empty list where nothing sounds)"
                )
        names = (
            [str(name) for name in ids] if ids is not None else [str(first + k) for k in range(len(tensor))]
        )
        sizes = _sizes(size, len(tensor))
        _check_finite(tensor, names)
        notes = []
        for k, name in enumerate(names):
            # Brought to the protocol's pixels here: shares of a pixel count in that, and a source has none.
            mask = None if masks is None else mask_map(_mask(masks[k], name), self.protocol.size).numpy()
            if boxes is None:
                found: Any = box_around(mask)
            else:
                found = tuple(map(tuple, normalized_boxes(boxes[k], sizes[k], name)))
            source = SoundSource(boxes=found, mask=mask, visible=bool(found))
            notes.append(Annotation(name, sources=(source,), image=images[k] if images is not None else None))
        if notes:
            self._parts.append((measure_annotated(tensor, notes, self.protocol), ids is not None))

    def merge(self, other: Evaluator) -> None:
        """Take the clips of another evaluator as well, behind this one's own.

        It may be another process's: evaluators can be pickled, so `torch.distributed.all_gather_object` sends
        them. Raises UserError for one of another protocol.
        """
        mine, theirs = (_rules(one.protocol) for one in (self, other))
        if mine != theirs:
            raise UserError(
                f"merge: one evaluator measures by {mine}, the other by {theirs}; use one for both"
            )
        self._parts += other._parts

    def __getstate__(self) -> dict[str, Any]:
        """Return the clips, and of a registered protocol what it is called, for its functions stay here."""
        known = PROTOCOLS.get(self.protocol.name)
        if known is None:
            return dict(vars(self))
        off = tuple(known.quirks - self.protocol.quirks)
        return {"protocol": (known.name, self.protocol.upsampling, off), "_parts": self._parts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        chosen, self._parts = state["protocol"], state["_parts"]
        if isinstance(chosen, tuple):
            name, upsampling, off = chosen
            chosen = get_protocol(name).alter(upsampling, off)
        self.protocol = chosen

    def results(self) -> ClipResults:
        """Return a row for every clip, in the order of adding.

        `cacl.evaluation.summary` makes intervals, breakdowns and comparisons of them. Raises UserError where
        no clip was added, or an id was added twice.
        """
        if not self._parts:
            raise UserError("the evaluator holds no clip; add maps first")
        facts = _join([part.facts for part, _ in self._parts])
        columns = _join([part.columns for part, _ in self._parts])
        index = np.arange(len(self))
        named = np.repeat([names for _, names in self._parts], [len(part) for part, _ in self._parts])
        facts |= {"index": index, "id": np.where(named, facts["id"], index.astype(str))}
        return ClipResults(**facts, columns=columns).in_order()

    def compute(self) -> dict[str, float]:
        """Return the numbers of all clips that were added.

        Raises UserError as `results` does, and where no clip has boxes.
        """
        results = self.results()
        if not results.sounding.any():
            raise UserError("no clip has boxes, so that there is nothing to find; give boxes of what sounds")
        return self.protocol.summarize(canonical(results))


def canonical(results: ClipResults) -> ClipResults:
    """Return the rows in an order that their numbers alone decide: so do the last bits of sums over them."""
    keys = [key for values in results.columns.values() for key in np.atleast_2d(values.T)]
    return results.take(np.lexsort([*keys, results.boxes]))


def _rules(protocol: Protocol) -> str:
    options = "".join(f", {name} {value}" for name, value in protocol.options().items())
    return f"{protocol.name} version {protocol.version}{options}"


def normalized_boxes(
    boxes: Boxes, size: tuple[float, float] | None, clip: str
) -> list[list[float | Fraction]]:
    """Return a clip's boxes in 0..1.

    Exactly, so that pixel 61 of 224 is not drawn at 60. Boxes are in pixels if `size` = (width, height) is
    given. Raises UserError naming the clip unless each is four finite numbers that do not lie beyond the
    picture's right or lower edge.
    """
    found: list[list[float | Fraction]] = []
    try:
        rows = [[float(value) for value in box] for box in boxes]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"clip {clip}: boxes: expected a list of (x0, y0, x1, y1), empty where nothing sounds, got "
            f"{boxes!r}"
        ) from error
    for row in rows:
        if len(row) != 4 or not np.isfinite(row).all():
            raise UserError(f"clip {clip}: boxes: {row} is not a box of four finite numbers x0, y0, x1, y1")
        width, height = size or (1, 1)
        box = [
            value if size is None else Fraction(value) / Fraction(extent)
            for value, extent in zip(row, (width, height, width, height), strict=True)
        ]
        if max(box) > _BEYOND:
            hint = "is not in 0..1; give size=(width, height) for boxes in pixels"
            if size is not None:
                hint = (
                    f"is not in a picture of {width:g} × {height:g} pixels; give its own size=(width, height)"
                )
            raise UserError(f"clip {clip}: boxes: {row} {hint}")
        found.append(box)
    return found


def _join(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _to_tensor(maps: np.ndarray | Tensor) -> Tensor:
    """Return maps as float32 [N, h, w]. Raises UserError for anything else."""
    tensor = maps.detach() if isinstance(maps, Tensor) else torch.from_numpy(np.array(maps))
    if tensor.ndim != 3 or 0 in tensor.shape[1:] or tensor.is_complex():
        kind = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        raise UserError(f"maps: expected real numbers [N, h, w], one map a clip, got {kind}")
    return tensor.float()


def _check_finite(maps: Tensor, names: Sequence[str]) -> None:
    broken = (~torch.isfinite(maps).flatten(1).all(1)).nonzero().flatten().tolist()
    if broken:
        more = f" (and those of {len(broken) - 1} other clips)" if len(broken) > 1 else ""
        raise UserError(
            f"clip {names[broken[0]]}: its map holds NaN or infinity{more}; the model has diverged"
        )


def _sizes(size: Size | None, clips: int) -> list[tuple[float, float] | None]:
    """Return (width, height) for every clip. Raises UserError for anything else."""
    if size is None:
        return [None] * clips
    given = np.asarray(size, dtype=float)
    if given.shape not in ((2,), (clips, 2)) or not (given > 0).all() or not np.isfinite(given).all():
        raise UserError(
            f"size: expected (width, height) in pixels, one for all clips or one a clip, got {size}"
        )
    return [(width, height) for width, height in np.broadcast_to(given, (clips, 2)).tolist()]


def _mask(mask: Any, clip: str) -> Tensor:
    """Return a clip's mask [H, W] as protocols read it, on the host.

    It is bool, uint8 with 255 inside, or float in 0..1. Raises UserError for anything else.
    """
    tensor = mask.cpu() if isinstance(mask, Tensor) else torch.from_numpy(np.array(mask))
    if tensor.ndim != 2 or not tensor.numel() or tensor.is_complex():
        raise UserError(f"clip {clip}: its mask has shape {list(tensor.shape)}, expected [H, W]")
    if tensor.dtype == torch.bool:
        return tensor
    low, high = float(tensor.min()), float(tensor.max())
    is_share = tensor.is_floating_point()
    if not (low >= 0 and high <= (1 if is_share else 255)):
        raise UserError(
            f"clip {clip}: its mask holds {low:g} to {high:g}; give bool, uint8 with 255 inside, or 0..1"
        )
    if is_share:
        return tensor
    return tensor > 0 if high <= 1 else tensor.to(torch.uint8)
