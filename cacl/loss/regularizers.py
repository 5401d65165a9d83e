"""Terms that are not pairs of positives and negatives: how the rows of whole similarity matrices agree.

Axes: `b` images of a block, `n` on this rank, `N` of all ranks, `P` pixels, `D` channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor

from cacl.options import Options

if TYPE_CHECKING:
    from cacl.loss.options import LossOptions


@dataclass(frozen=True)
class Views:
    """Vectors by which clips are compared within a modality, all [., D]."""

    audio: Tensor
    foreground: Tensor
    """Mean over all pixels of the image vectors, those of faint pixels left out as zeros."""
    image: Tensor
    """Mean over pixels of the image vectors."""


@dataclass(frozen=True, kw_only=True)
class Fnac(Options):
    """FNAC's three terms: mean absolute differences of rows of softmaxes.

    Suppression of false negatives `|softmax(A Aᵀ/τ) - softmax(S)|` and `|softmax(V Vᵀ/τ) - softmax(S)|`,
    enhancement of true negatives `|softmax(A Aᵀ/τ) - softmax(F Fᵀ/τ)|`. Sun et al., "Learning
    Audio-Visual Source Localization via False Negative Aware Contrastive Learning".
    """

    name: Literal["fnac"] = "fnac"
    suppression_by_sound: float = 100.0
    suppression_by_image: float = 100.0
    enhancement: float = 100.0
    foreground_threshold: float = 0.6
    """Pixels of the own map, scaled to 0..1, above which an image is foreground."""

    heads: ClassVar[int | None] = 1

    def check(self, options: LossOptions) -> None:
        """Every similarity of one head and every objective of pairs will do."""

    def views(self, maps: Tensor, audio: Tensor, scale: Tensor | float) -> Views:
        """Make the vectors of this rank's clips from maps [n, 1, P, D] and sounds [n, 1, D]."""
        maps, audio = maps[:, 0], audio[:, 0]
        own = (maps @ audio.unsqueeze(2)).squeeze(2).detach() * scale
        low, high = own.amin(1, keepdim=True), own.amax(1, keepdim=True)
        bright = (own - low) / (high - low + 1e-5) > self.foreground_threshold
        return Views(audio, (maps * bright.unsqueeze(2)).mean(1), maps.mean(1))

    def rows(self, logits: Tensor, mine: Views, every: Views, valid: Tensor, scale: Tensor | float) -> Tensor:
        """Return the weighted terms of each row [b], given its logits [b, N] and valid columns [N]."""

        def softmax(x: Tensor) -> Tensor:
            return x.masked_fill(~valid, -1e30).softmax(1)

        pair = softmax(logits)
        audio = softmax(mine.audio @ every.audio.T * scale)
        foreground = softmax(mine.foreground @ every.foreground.T * scale)
        image = softmax(mine.image @ every.image.T * scale)
        terms = (
            self.suppression_by_sound * (audio - pair).abs()
            + self.suppression_by_image * (image - pair).abs()
            + self.enhancement * (audio - foreground).abs()
        )
        return (terms * valid).sum(1) / valid.sum().clamp(min=1).to(terms.dtype)


Regularizer = Fnac
