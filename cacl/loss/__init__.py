"""The loss of the global batch: similarity × positives × objective.

It is exact on any number of ranks.
"""

from cacl.loss.distributed import LossTerms, global_loss
from cacl.loss.module import AudioVisualContrast
from cacl.loss.options import LossOptions

__all__ = ["AudioVisualContrast", "LossOptions", "LossTerms", "global_loss"]
