"""The label tables of several data sets as one, if their classes are the same.

Axes: `N` clips of all data sets, `K` classes of soft labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cacl.errors import UserError
from cacl.labels.table import LabelTable

FOUND_HERE = ("clusters of ", "fusion of ")
"""How tables are called whose classes were found in the clips that they label."""
_DECIDING = ("classifier", "weights", "classes", "preprocessing")


def join_tables(
    tables: Sequence[LabelTable | None], names: Sequence[str], offsets: Sequence[int], fingerprint: str
) -> LabelTable | None:
    """Return the labels of a mixture, None where no data set has any.

    `tables` belong to the data sets `names`, whose indices begin at `offsets`; `fingerprint` is the
    mixture's. Clips of a data set without a table are each a class of its own. Raises UserError, naming both,
    where two tables have other classes.
    """
    known = [
        (table, name, offset) for table, name, offset in zip(tables, names, offsets, strict=True) if table
    ]
    if not known:
        return None
    first, first_name, _ = known[0]
    for table, name, _ in known[1:]:
        check_same_classes(first, first_name, table, name)
    header = replace(
        first.header,
        fingerprint=fingerprint,
        parameters={"tables": [table.fingerprint for table, _, _ in known]},
    )
    soft = [table.soft for table, _, _ in known if table.soft is not None]
    return LabelTable(
        index=np.concatenate([table.index + offset for table, _, offset in known]),
        label=np.concatenate([table.label for table, _, _ in known]),
        confidence=np.concatenate([table.confidence for table, _, _ in known]),
        header=header,
        soft=np.concatenate(soft) if soft else None,
    )


def check_same_classes(one: LabelTable, one_name: str, other: LabelTable, other_name: str) -> None:
    """Raise UserError unless equal labels of both tables mean the same class."""
    where = f"data.train: the labels of {one_name} and of {other_name} are not of the same classes"
    for field in _DECIDING:
        values = getattr(one.header, field), getattr(other.header, field)
        if values[0] != values[1]:
            raise UserError(f"{where}: {field} is {_brief(values[0])} and {_brief(values[1])}; {_MEND}")
    if one.header.classifier.startswith(FOUND_HERE) and one.header.fingerprint != other.header.fingerprint:
        raise UserError(f"{where}: each was found in its own clips ({one.header.classifier}); {_MEND}")
    if (one.soft is None) != (other.soft is None):
        raise UserError(f"{where}: only one of them is soft; label both with --soft, or none")
    if one.soft is not None and other.soft is not None and one.soft.shape[1] != other.soft.shape[1]:
        raise UserError(
            f"{where}: their soft labels have {one.soft.shape[1]} and {other.soft.shape[1]} classes; {_MEND}"
        )


_MEND = "label both with the same classifier, or leave one's labels out"


def _brief(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text
