"""The label table: one Parquet file beside the shards, joined to clips by their index.

Axes: `N` labeled clips, `n` clips of a batch, `k` best classes kept, `K` classes of the soft distribution.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.labels.table_file import COLUMNS, read_table, write_table
from cacl.types import ClipLabels

UNKNOWN = -1
"""The label of a clip that is not in the table: a class of its own."""


@dataclass(frozen=True)
class LabelHeader:
    """Where labels come from."""

    classifier: str
    """Name of the network, clustering or fusion."""
    weights: str
    """sha256 of the classifier's weights; "" where there are none."""
    fingerprint: str
    """The manifest's fingerprint of the data set that was labeled."""
    classes: int
    """How many classes the classifier can tell apart."""
    preprocessing: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    """What else decides the labels: seeds, numbers of clusters, the tables that were fused."""


@dataclass(frozen=True)
class LabelTable:
    """Labels of clips, sorted by index."""

    index: npt.NDArray[np.int64]
    """[N] sorted, each once."""
    label: npt.NDArray[np.int64]
    """[N]."""
    confidence: npt.NDArray[np.float32]
    """[N] in 0..1."""
    header: LabelHeader
    soft: npt.NDArray[np.float32] | None = None
    """[N, K], rows sum to 1."""
    top: npt.NDArray[np.int64] | None = None
    """[N, k] best classes, best first."""
    top_probability: npt.NDArray[np.float32] | None = None
    """[N, k]."""
    probability: npt.NDArray[np.float16] | None = None
    """[N, K] of classes that need not exclude each other, such as AudioSet's; each is in 0..1."""

    def __post_init__(self) -> None:
        if np.any(np.diff(self.index) <= 0):
            raise ValueError("expected indices sorted, each once")
        for name in ("label", "confidence", "soft", "top", "top_probability", "probability"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.index):
                raise ValueError(f"expected {len(self.index)} rows of {name}, received {len(column)}")

    def write(self, path: str | Path) -> None:
        """Write the Parquet file: complete or not at all."""
        named = {name: getattr(self, name) for name in COLUMNS}
        columns = {name: rows for name, rows in named.items() if rows is not None}
        write_table(Path(path), asdict(self.header), columns)

    @classmethod
    def load(cls, path: str | Path, fingerprint: str | None = None) -> LabelTable:
        """Return the table of a file; `fingerprint` is that of the data set it must belong to.

        Rows may stand in any order. Raises UserError where the file is missing, is no label table, is damaged
        or changed, or labels another data set.
        """
        path = Path(path)
        content, columns = read_table(path)
        header = LabelHeader(**content)
        if fingerprint is not None and header.fingerprint != fingerprint:
            raise UserError(
                f"{path}: fingerprint: these labels belong to the data set {header.fingerprint[:12]}, not to "
                f"{fingerprint[:12]}; label this one with: cacl label DIR"
            )
        return cls(header=header, **columns)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of header and content: what a checkpoint records as its labels' identity."""
        digest = hashlib.sha256(json.dumps(asdict(self.header), sort_keys=True).encode())
        for name in ("index", "label", "confidence", "soft", "probability"):
            rows = getattr(self, name)
            if rows is not None:
                digest.update(
                    f"{name} {rows.dtype} {rows.shape}".encode() + np.ascontiguousarray(rows).tobytes()
                )
        return digest.hexdigest()

    def lookup(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the labels [n] of the clips `index` [n]; -1 for a clip that the table lacks."""
        known = np.isin(index, self.index)
        label = np.full(len(index), UNKNOWN, np.int64)
        label[known] = self.label[np.searchsorted(self.index, index[known])]
        return label

    def clips(self, index: Tensor, valid: Tensor) -> ClipLabels:
        """Join labels to `index` [n] and `valid` [n], on their device and without waiting for it.

        A clip that the table lacks has label -1 and confidence 0 (and a soft row of zeros).
        """
        rows, label, confidence, soft = self._on(index.device)
        place = torch.searchsorted(rows, index)
        known = rows[place] == index
        return ClipLabels(
            index=index,
            label=torch.where(known, label[place], UNKNOWN),
            confidence=torch.where(known, confidence[place], 0.0),
            valid=valid,
            soft=None if soft is None else torch.where(known[:, None], soft[place], 0.0),
        )

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return index, label, confidence [N + 1] and soft [N + 1, K]; the last row is no clip's."""
        if device not in self._by_device:
            index = np.append(self.index, np.iinfo(np.int64).max)
            label = np.append(self.label, UNKNOWN)
            confidence = np.append(self.confidence, np.float32(0))
            soft = None
            if self.soft is not None:
                soft = torch.from_numpy(np.pad(self.soft, ((0, 1), (0, 0)))).to(device)
            plain = (torch.from_numpy(column).to(device) for column in (index, label, confidence))
            self._by_device[device] = (*plain, soft)
        return self._by_device[device]

    @cached_property
    def _by_device(self) -> dict[torch.device, Any]:
        return {}
