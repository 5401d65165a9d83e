"""The label table: one Parquet file beside the shards, joined to clips by their index.

Axes: `N` labeled clips, `n` clips of a batch, `k` best classes kept, `K` classes of the soft distribution.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.files import written
from cacl.types import Clips

FORMAT_VERSION = 1
UNKNOWN = -1
"""The label of a clip that is not in the table: a class of its own."""

_METADATA = b"cacl"


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

    def __post_init__(self) -> None:
        if np.any(np.diff(self.index) <= 0):
            raise ValueError("expected indices sorted, each once")
        for name in ("label", "confidence", "soft", "top", "top_probability"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.index):
                raise ValueError(f"expected {len(self.index)} rows of {name}, received {len(column)}")

    def write(self, path: str | Path) -> None:
        """Write the Parquet file: complete or not at all."""
        path = Path(path)
        columns: dict[str, Any] = {
            "index": pa.array(self.index, pa.int64()),
            "label": pa.array(self.label, pa.int64()),
            "confidence": pa.array(self.confidence, pa.float32()),
        }
        for name, kind in (("soft", pa.float32()), ("top", pa.int64()), ("top_probability", pa.float32())):
            rows = getattr(self, name)
            if rows is not None:
                flat = pa.array(np.ascontiguousarray(rows).reshape(-1), kind)
                columns[name] = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
        header = json.dumps({"format_version": FORMAT_VERSION, **asdict(self.header)}, sort_keys=True)
        table = pa.table(columns).replace_schema_metadata({_METADATA: header.encode()})
        path.parent.mkdir(parents=True, exist_ok=True)
        with written(path) as partial:
            pq.write_table(table, partial)

    @classmethod
    def load(cls, path: str | Path, fingerprint: str | None = None) -> LabelTable:
        """Return the table of a file; `fingerprint` is that of the data set it must belong to.

        Raises UserError where the file is missing, is no label table, or labels another data set.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path}: there is no such label table; write one with: cacl label DIR")
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path}: not a label table ({error})") from error
        header = _header(path, table.schema.metadata or {})
        if fingerprint is not None and header.fingerprint != fingerprint:
            raise UserError(
                f"{path}: fingerprint: these labels belong to the data set {header.fingerprint[:12]}, not to "
                f"{fingerprint[:12]}; label this one with: cacl label DIR"
            )
        columns = {name: _rows(table.column(name)) for name in table.column_names}
        return cls(header=header, **columns)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of header and content: what a checkpoint records as its labels' identity."""
        digest = hashlib.sha256(json.dumps(asdict(self.header), sort_keys=True).encode())
        for name in ("index", "label", "confidence", "soft"):
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

    def clips(self, index: Tensor, valid: Tensor) -> Clips:
        """Join labels to `index` [n] and `valid` [n], on their device and without waiting for it.

        A clip that the table lacks has label -1 and confidence 0 (and a soft row of zeros).
        """
        label, confidence, soft = self._dense(index.device)
        place = index.clamp(max=len(label) - 1)
        known = (index >= 0) & (index < len(label))
        return Clips(
            index=index,
            label=torch.where(known, label[place], UNKNOWN),
            confidence=torch.where(known, confidence[place], 0.0),
            valid=valid,
            soft=None if soft is None else torch.where(known[:, None], soft[place], 0.0),
        )

    def _dense(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        if device not in self._dense_by_device:
            length = int(self.index[-1]) + 1 if len(self.index) else 1
            label = np.full(length, UNKNOWN, np.int64)
            confidence = np.zeros(length, np.float32)
            label[self.index], confidence[self.index] = self.label, self.confidence
            soft = None
            if self.soft is not None:
                rows = np.zeros((length, self.soft.shape[1]), np.float32)
                rows[self.index] = self.soft
                soft = torch.from_numpy(rows).to(device)
            found = (torch.from_numpy(label).to(device), torch.from_numpy(confidence).to(device), soft)
            self._dense_by_device[device] = found
        return self._dense_by_device[device]

    @cached_property
    def _dense_by_device(self) -> dict[torch.device, tuple[Tensor, Tensor, Tensor | None]]:
        return {}


def _header(path: Path, metadata: Mapping[bytes, bytes]) -> LabelHeader:
    try:
        content = json.loads(metadata[_METADATA])
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: not a label table: it lacks cacl's header") from error
    version = content.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path}: format_version: {version} is not known here (this cacl reads {FORMAT_VERSION}); "
            "label again with: cacl label DIR"
        )
    return LabelHeader(**content)


def _rows(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_fixed_size_list(array.type):
        flat = array.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, array.type.list_size)
    return array.to_numpy(zero_copy_only=False)
