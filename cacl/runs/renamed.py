"""What recipes and checkpoints of earlier versions call by other names.

One table, old → new: from it older recipes, run directories and exported files are read, with one warning.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cacl.errors import Remark

if TYPE_CHECKING:
    from torch import Tensor

KEYS = {
    "model.sound": "model.audio",
}
"""Keys of a recipe."""
VALUES = {
    "loss.direction": {"image": "image-to-audio", "audio": "audio-to-image"},
    "loss.objective.name": {"margin": "margin-nce"},
}
"""Values of a recipe's keys (the keys' new names)."""
TENSORS = {
    "sound_trunk.": "audio_trunk.",
    "sound_heads.": "audio_heads.",
}
"""Beginnings of the names of a model's tensors."""


class OlderNames(Remark):
    """A file uses names of an earlier version."""


def rename_keys(values: dict[str, Any], source: str) -> dict[str, Any]:
    """Return a recipe's plain `values` under today's names; warn once if `source` has older ones."""
    values, found = copy.deepcopy(values), []
    for old, new in KEYS.items():
        holder, last = _holder(values, old)
        if last in holder:
            target, name = _holder(values, new)  # a key is renamed within its section
            target[name] = holder.pop(last)
            found.append(f"{old} is {new} now")
    for key, names in VALUES.items():
        holder, last = _holder(values, key)
        value = holder.get(last)
        if isinstance(value, str) and value in names:
            holder[last] = names[value]
            found.append(f"{key}: {value} is {names[value]} now")
    if found:
        warnings.warn(f"{source}: has names of an earlier version: {'; '.join(found)}", OlderNames, 2)
    return values


def rename_override(dotted: str) -> str:
    """Return a key's dotted name, or that of a key below it, as it is today; warn once if it is older."""
    for old, new in KEYS.items():
        if dotted == old or dotted.startswith(f"{old}."):
            warnings.warn(f"--{dotted}: {old} is {new} now", OlderNames, 2)
            return new + dotted.removeprefix(old)
    return dotted


def has_older_names(names: Iterable[str]) -> bool:
    """Say whether some of a model's tensors have names of an earlier version."""
    return any(_rename_tensor(name) != name for name in names)


def rename_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a model's tensors under today's names."""
    return {_rename_tensor(name): tensor for name, tensor in tensors.items()}


def _rename_tensor(name: str) -> str:
    for old, new in TENSORS.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _holder(values: dict[str, Any], dotted: str) -> tuple[dict[str, Any], str]:
    """Return the mapping that holds a dotted key, empty if there is none, and the last part of the key."""
    *path, last = dotted.split(".")
    holder: Any = values
    for part in path:
        holder = holder.get(part) if isinstance(holder, dict) else None
    return (holder if isinstance(holder, dict) else {}), last
