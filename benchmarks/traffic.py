"""How many bytes the loss moves between ranks: the formula of docs/loss.md.

Bytes that one rank receives, as a ring moves them: a gather or a reduce-scatter of `x` bytes in all costs
`x (W - 1) / W`, a sum over ranks twice that. Equal shares.

Axes: `N` clips of `W` ranks, `n = N / W`, `H` heads, `D` channels, `C` classes, `k` sums of an objective.
"""

from __future__ import annotations

from cacl.loss.class_sums import sums_are_smaller
from cacl.loss.objectives import PairObjective
from cacl.loss.options import LossOptions
from cacl.loss.positives import SameClass
from cacl.loss.sums import COUNTS

DOUBLE = 8
LOGGED = 7
"""Values in the one exchange of what is logged."""


def bytes_received(
    options: LossOptions, clips: int, world_size: int, width: int, soft_classes: int = 0, itemsize: int = 4
) -> int:
    """Return the bytes of one loss and its backward without targets, for `clips` = N and `width` = H D.

    For objectives of pairs with learned embeddings and no regularizer; labels are gathered with the clips.
    """
    assert isinstance(options.objective, PairObjective)
    others = world_size - 1
    n = clips // world_size
    known = n * (4 * DOUBLE + options.positives.needs_soft * soft_classes * itemsize) * others
    logged = 2 * LOGGED * DOUBLE * others // world_size
    sums = COUNTS + options.objective.linear_terms + options.objective.exponential_terms
    if not options.is_linear:
        audio_bytes = 2 * n * width * itemsize * others
        shifts = 2 * clips * options.objective.exponential_terms * itemsize * others // world_size
        return known + logged + audio_bytes + options.by_column * (shifts + 2 * n * sums * itemsize * others)
    classes = _number_of_classes(options, clips)
    if sums_are_smaller(classes, clips, options, world_size):
        message = 2 * (classes + 1) * width * itemsize * others // world_size
        return known + logged + (options.by_row + options.by_column) * 2 * message
    audio_bytes = 2 * n * width * itemsize * others
    return known + logged + audio_bytes + options.by_column * 2 * n * sums * itemsize * others


def bytes_of_gathering_everything(
    clips: int, world_size: int, width: int, pixels: int, itemsize: int = 4
) -> int:
    """Return the bytes of gathering maps and sounds and scattering their gradients."""
    return 2 * (clips // world_size) * (pixels + 1) * width * itemsize * (world_size - 1)


def bytes_of_gathering_pooled(clips: int, world_size: int, width: int, itemsize: int = 4) -> int:
    """Return the bytes of gathering pooled images and sounds and scattering their gradients."""
    return bytes_of_gathering_everything(clips, world_size, width, 1, itemsize)


def _number_of_classes(options: LossOptions, clips: int) -> int:
    if isinstance(options.positives, SameClass):
        return clips if options.positives.number_of_classes is None else options.positives.number_of_classes
    return 0
