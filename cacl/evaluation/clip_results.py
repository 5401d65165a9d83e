"""What one system gets on a test set, a row a clip.

Axes: `N` clips of the test set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cacl.errors import UserError

FACTS = ("index", "id", "class_name", "boxes", "image")


@dataclass(frozen=True)
class ClipResults:
    """One system's results; `results["ciou"]` is the protocol's column of that name."""

    index: np.ndarray
    """[N] int64, a clip's position in its source's id list."""
    id: np.ndarray
    """[N] str."""
    class_name: np.ndarray
    """[N] str, empty where the annotation has none."""
    boxes: np.ndarray
    """[N] int64, how many boxes the clip has; none makes it silent."""
    columns: Mapping[str, np.ndarray]
    """What the protocol measures, [N] a name, or [N, T] at T thresholds."""
    image: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=str))
    """[N] str, the picture that several clips share; empty where a clip has one of its own."""

    def __post_init__(self) -> None:
        if not len(self.image):
            object.__setattr__(self, "image", np.full(len(self.index), "", dtype=str))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    @property
    def sounding(self) -> np.ndarray:
        """[N] bool, whether something in view sounds."""
        return self.boxes > 0

    @property
    def facts(self) -> dict[str, np.ndarray]:
        """What is known of the clips whatever the system: index, id, class_name, boxes, image."""
        return {name: getattr(self, name) for name in FACTS}

    @property
    def pictures(self) -> np.ndarray:
        """[N] int64, which picture each clip shows: 0, 1 … in the order of the pictures' first clips."""
        named = {name: row for row, name in reversed([*enumerate(self.image.tolist())]) if name}
        first = [named.get(name, row) for row, name in enumerate(self.image.tolist())]
        return np.unique(np.array(first, dtype=np.int64), return_inverse=True)[1]

    def take(self, rows: np.ndarray) -> ClipResults:
        """Return the rows of a bool mask [N], or rows by their positions."""
        facts = {name: values[rows] for name, values in self.facts.items()}
        return ClipResults(**facts, columns={name: values[rows] for name, values in self.columns.items()})

    def in_order(self) -> ClipResults:
        """Return the rows by their index. Raises UserError for a clip or an id that is there twice."""
        ordered = self.take(np.argsort(self.index, kind="stable"))
        again = ordered.index[1:] == ordered.index[:-1]
        if again.any():
            raise UserError(f"clip {ordered.index[1:][again][0]} was measured twice; every clip counts once")
        if repeated := _repeated(ordered.id.tolist()):
            raise UserError(f"the test set holds the id {repeated!r} twice; every clip counts once")
        return ordered

    def restrict(self, ids: Sequence[str]) -> tuple[ClipResults, list[str]]:
        """Return the rows of the clips in an official list, and the ids of the list that have no row.

        Raises UserError for an id that the list holds twice.
        """
        if repeated := _repeated(ids):
            raise UserError(f"the list of ids holds {repeated!r} twice; every clip counts once")
        known = set(self.id.tolist())
        return self.take(np.isin(self.id, list(ids))), [clip for clip in ids if clip not in known]

    def to_table(self) -> Any:
        """Return an Arrow table with a row a clip: the facts, then the protocol's columns."""
        import pyarrow as pa

        columns = [*self.facts.items(), *self.columns.items()]
        return pa.table({name: _to_arrow(values) for name, values in columns})

    @classmethod
    def from_table(cls, table: Any) -> ClipResults:
        """Return what `to_table` wrote; columns without any value are left out."""
        kept = [name for name in table.column_names if table[name].null_count < len(table)]
        values = {name: _to_numpy(table[name]) for name in kept}
        return cls(**{name: values.pop(name) for name in FACTS if name in values}, columns=values)


def by_name(names: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return the `values` [N] of each of the `names` [N] str, by names in order; values keep theirs."""
    found, kind, counts = np.unique(names, return_inverse=True, return_counts=True)
    parts = np.split(values[np.argsort(kind, kind="stable")], np.cumsum(counts)[:-1])
    return dict(zip(found.tolist(), parts, strict=False))


def _repeated(ids: Sequence[str]) -> str | None:
    return next((clip for clip, count in Counter(ids).items() if count > 1), None)


def _to_arrow(values: np.ndarray) -> Any:
    """Return an array [N], or [N, T] as lists of T."""
    import pyarrow as pa

    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _to_numpy(column: Any) -> np.ndarray:
    """Return an Arrow column as an array; text as str, lists of T as [N, T]."""
    kind = str(column.type)
    if kind.startswith("fixed_size_list"):
        return np.array(column.combine_chunks().flatten()).reshape(len(column), -1)
    return np.array(column.to_pylist(), dtype=str) if kind == "string" else np.array(column.to_numpy())
