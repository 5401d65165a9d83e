"""What scenes are made of: pictures and recordings of classes, each known by where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

from shards.clip import Array

Split = Literal["train", "validation", "test"]


class Instance(NamedTuple):
    """One picture or one recording of a class."""

    class_name: str
    """As the table of classes spells it (`shards.scenes.classes`), so that both sides meet."""
    name: str
    """Unique in its collection, the same on every machine, without a path of this one."""
    origin: str
    """The photograph or the recording that it was cut from: what shares one stays on one side of a split."""


class Pictures(Protocol):
    """Cut-out pictures. Pickled to the packing processes, so files are opened where they are read."""

    @property
    def instances(self) -> Sequence[Instance]:
        """All pictures, sorted by name."""
        ...

    def read(self, instance: Instance) -> Array:
        """Return a picture, [h, w, 4] uint8, RGB and alpha, cut to what is not transparent."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return what decides over the content beside the files themselves, for the manifest: no paths."""
        ...


class Sounds(Protocol):
    """Recordings of classes. A class that begins with `_` has no picture: rain, the sea, a fire."""

    @property
    def instances(self) -> Sequence[Instance]:
        """All recordings, sorted by name."""
        ...

    def read(self, instance: Instance, sample_rate: int) -> Array:
        """Return a recording, [t] float32 in -1..1, mono, without silence at its ends."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return what decides over the content beside the files themselves, for the manifest: no paths."""
        ...


class Backgrounds(Protocol):
    """Photographs to paste on; `Instance.class_name` is empty."""

    @property
    def instances(self) -> Sequence[Instance]:
        """All photographs, sorted by name."""
        ...

    def read(self, instance: Instance) -> Array:
        """Return a photograph, [h, w, 3] uint8, RGB, short side 448 pixels at most."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return what decides over the content beside the files themselves, for the manifest: no paths."""
        ...
