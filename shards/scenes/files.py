"""Collections that are files: which there are, of which class, and which were made of one original.

`DIR/<class>/*` is the layout of folders. A table in the folder or beside it may say what was cut from one
photograph or one recording: `origins.csv` with the columns file,origin, or a `manifest.json`, a list of
objects with `file` and `picture` or `recording`. Paths in a table begin where the table lies.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cacl.errors import UserError, shorten
from cacl.files import regular, sha256_file
from shards.clip import Array
from shards.manifest import digest
from shards.scenes import reading
from shards.scenes.classes import class_of
from shards.scenes.collections import Instance
from shards.sources import media
from shards.sources.lists import read_rows


@dataclass(frozen=True)
class Files:
    """Instances, each a file of its own."""

    label: str
    """What its instances' names begin with, such as `folder`."""
    instances: tuple[Instance, ...]
    """Sorted by name."""
    paths: dict[str, Path]
    """By an instance's name."""

    def identity(self) -> dict[str, Any]:
        """Return how many there are, and the sha256 of names, classes and origins."""
        return {"set": self.label, "instances": len(self.instances), "sha256": digest(self.instances)}


class PictureFiles(Files):
    """Cut-out pictures that are files."""

    def read(self, instance: Instance) -> Array:
        """Return a picture, [h, w, 4] uint8. Raises BrokenMedia, naming the file, where it cannot be used."""
        with media.blame(instance.name):
            return reading.read_picture(self.paths[instance.name])


class SoundFiles(Files):
    """Recordings that are files."""

    def read(self, instance: Instance, sample_rate: int) -> Array:
        """Return a recording, [t] float32. Raises BrokenMedia, naming the file, where it cannot be used."""
        with media.blame(instance.name):
            return reading.read_recording(media.read_bytes(self.paths[instance.name]), sample_rate)


class PhotographFiles(Files):
    """Backgrounds that are files."""

    def read(self, instance: Instance) -> Array:
        """Return a photograph, [h, w, 3] uint8. Raises BrokenMedia, naming the file, likewise."""
        with media.blame(instance.name):
            return reading.read_photograph(self.paths[instance.name])


def picture_folder(label: str, folder: Path, option: str) -> PictureFiles:
    """Return the pictures `folder/<class>/*.png` and of other kinds.

    Raises UserError, with `option` as its head, where there are none, or one has no alpha channel.
    """
    found = _by_class(folder, reading.PICTURES, option)
    for path, _ in found:
        if reading.has_alpha(path) is False:
            raise UserError(
                f"{option}: {path} has no alpha channel; cut the object out (transparent around it), "
                "or move the file away"
            )
    return PictureFiles(*_named(label, folder, found))


def sound_folder(label: str, folder: Path, option: str) -> SoundFiles:
    """Return the recordings `folder/<class>/*` of any kind that libsndfile reads. Raises likewise."""
    return SoundFiles(*_named(label, folder, _by_class(folder, reading.RECORDINGS, option)))


def photograph_folder(label: str, folder: Path, option: str) -> PhotographFiles:
    """Return the photographs in a folder and its folders; the origin of each is its name, less ending."""
    paths = _endings(_walk(folder, option), reading.PHOTOGRAPHS)
    if not paths:
        raise UserError(f"{option}: holds no photographs ({', '.join(reading.PHOTOGRAPHS)})")
    origins = {path: path.stem for path in paths} | _origins(folder)
    return PhotographFiles(*_named(label, folder, [(path, "") for path in paths], origins))


def share_duplicates(sets: Sequence[Files]) -> list[Files]:
    """Return the sets again, files of the same bytes with one origin, whatever their tables say."""
    joined: dict[str, str] = {}

    def root(origin: str) -> str:
        while origin in joined:
            origin = joined[origin]
        return origin

    everything = [(each.paths[one.name], one.origin) for each in sets for one in each.instances]
    sizes = {path: path.stat().st_size for path, _ in everything if path.exists()}
    often = Counter(sizes.values())  # what has a size of its own is nobody's duplicate
    first: dict[str, str] = {}
    for path, origin in everything:
        if often[sizes.get(path, -1)] > 1:
            one, other = sorted((root(origin), root(first.setdefault(sha256_file(path), origin))))
            if one != other:
                joined[other] = one
    return [
        replace(each, instances=tuple(one._replace(origin=root(one.origin)) for one in each.instances))
        for each in sets
    ]


def _by_class(folder: Path, endings: Sequence[str], option: str) -> list[tuple[Path, str]]:
    """Return each file of `folder/<class>/` and its class."""
    found = [
        (path, class_of(path.relative_to(folder).parts[0]))
        for path in _endings(_walk(folder, option), endings)
        if len(path.relative_to(folder).parts) > 1
    ]
    if not found:
        raise UserError(
            f"{option}: holds no class: a folder <class> with files ({', '.join(endings)}) for each class"
        )
    return found


def _walk(folder: Path, option: str) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{option}: is not a folder")
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in paths if "/." not in f"/{path.relative_to(folder).as_posix()}"]


def _endings(paths: Iterable[Path], endings: Sequence[str]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() in endings]


def _named(
    label: str, folder: Path, found: list[tuple[Path, str]], origins: dict[Path, str] | None = None
) -> tuple[str, tuple[Instance, ...], dict[str, Path]]:
    """Return the fields of Files; a file that no table names is an origin by itself."""
    origins = _origins(folder) if origins is None else origins
    paths = {f"{label}/{path.relative_to(folder).as_posix()}": path for path, _ in found}
    classes = dict(found)
    instances = [Instance(classes[path], name, origins.get(path, name)) for name, path in paths.items()]
    return label, tuple(sorted(instances, key=lambda instance: instance.name)), paths


def _origins(folder: Path) -> dict[Path, str]:
    """Return what the tables in the folder and beside it say. Raises UserError where one is malformed."""
    found: dict[Path, str] = {}
    for place in (folder.parent, folder):
        found |= _csv_origins(place / "origins.csv") | _manifest_origins(place / "manifest.json")
    return found


def _csv_origins(path: Path) -> dict[Path, str]:
    if not path.exists():
        return {}
    rows = read_rows(path)
    if not rows or rows[0] != ["file", "origin"] or any(len(row) != 2 for row in rows):
        raise UserError(f"{path}: is not a table of file,origin with that header")
    return {path.parent / file: origin for file, origin in rows[1:]}


def _manifest_origins(path: Path) -> dict[Path, str]:
    if not path.exists():
        return {}
    try:
        rows = json.loads(regular(path, "give a file of JSON").read_bytes())
        if isinstance(rows, dict):  # another program's manifest, such as that of packed shards
            return {}
        named = [(str(row["file"]), row.get("picture") or row.get("recording")) for row in rows]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: is not a list of file and picture or recording ({shorten(repr(error))})"
        ) from None
    return {path.parent / file: str(origin) for file, origin in named if origin}
