"""What one system gets on a test set, a row a clip.

Axes: `N` clips of the test set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cacl.errors import UserError

_FACTS = ("index", "id", "class_name", "boxes")


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
    """What the protocol measures, [N] a name."""

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
        """What is known of the clips whatever the system: index, id, class_name, boxes."""
        return {name: getattr(self, name) for name in _FACTS}

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
        return pa.table({name: pa.array(values) for name, values in columns})

    @classmethod
    def from_table(cls, table: Any) -> ClipResults:
        """Return what `to_table` wrote; columns without any value are left out."""
        kept = [name for name in table.column_names if table[name].null_count < len(table)]
        values = {name: _to_numpy(table[name]) for name in kept}
        return cls(**{name: values.pop(name) for name in _FACTS}, columns=values)


def by_name(names: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return the `values` [N] of each of the `names` [N] str, by names in order; values keep theirs."""
    found, kind, counts = np.unique(names, return_inverse=True, return_counts=True)
    parts = np.split(values[np.argsort(kind, kind="stable")], np.cumsum(counts)[:-1])
    return dict(zip(found.tolist(), parts, strict=False))


def _repeated(ids: Sequence[str]) -> str | None:
    return next((clip for clip, count in Counter(ids).items() if count > 1), None)


def _to_numpy(column: Any) -> np.ndarray:
    """Return an Arrow column as an array; text as str."""
    values = column.to_pylist() if str(column.type) == "string" else column.to_numpy()
    return np.array(values, dtype=str) if str(column.type) == "string" else np.array(values)
