"""Pictures, recordings and backgrounds that Debian's packages hold: fetched once into the cache folder.

`packages.csv` says which file is of which class. It is a choice: photographs before drawings, drawings only
where a class would have too few pictures, no cartoons; and no background that shows what can be heard.
Debian 12 has all of the packages; `scratch` is not in Debian 13.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cacl.files import cache_folder, locked, sha256_file
from shards.scenes.classes import plain
from shards.scenes.reading import RECORDINGS
from shards.scenes.resources import read_cat, read_resources
from shards.sources import debian

STAMPS = ("tuxpaint-stamps-default",)
WALLPAPERS = ("lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04")
PACKAGES = ("gcompris-qt-data", "openclipart-png", "openttd-opensfx", "scratch", *STAMPS)
_TABLE = Path(__file__).with_name("packages.csv")


class _Row(NamedTuple):
    package: str
    file: str
    """Below /usr/share; behind a colon, a file within an archive of Qt's (rcc) or OpenTTD's (cat)."""
    class_name: str
    """Empty for backgrounds."""
    origin: str
    """Empty where the file is an origin by itself."""

    @property
    def place(self) -> Path:
        """Where the file lies once unpacked: `objects/<class>/…`, `sounds/<class>/…`, `backgrounds/…`."""
        file, _, inner = self.file.partition(":")
        name = f"{plain(inner)}.wav" if file.endswith(".cat") else Path(inner or file).name
        if not self.class_name:
            return Path("backgrounds", name)
        side = "sounds" if Path(name).suffix in RECORDINGS else "objects"
        return Path(side, self.class_name, name)


def unpacked(packages: Sequence[str], side: str) -> dict[str, Path]:
    """Return the folder of each package that has something on a side: objects, sounds or backgrounds.

    Raises debian.Unavailable where a package was not fetched before and no archive can be reached.
    """
    # A package is fetched only where the table has something of it on this side.
    holding = {row.package for row in _rows() if row.place.parts[0] == side}
    folders = {package: _folder(package) / side for package in packages if package in holding}
    found = {package: folder for package, folder in folders.items() if folder.is_dir()}
    if not found:
        raise debian.Unavailable(
            f"the packages {', '.join(packages)} have no {side} in Debian's archive here"
        )
    return found


def _folder(package: str) -> Path:
    """Return the folder of what is used of a package, fetched at the first call."""
    # Another choice is another folder.
    folder = cache_folder() / f"scenes-{package}-{sha256_file(_TABLE)[:12]}"
    with locked(cache_folder() / f"scenes-{package}.lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="scenes-") as temporary:
                ready = Path(temporary) / "ready"
                ready.mkdir()
                _fill(ready, package, Path(temporary))
                shutil.move(ready, folder)
    return folder


def _fill(ready: Path, package: str, work: Path) -> None:
    """Fetch a package and copy what is used of it; nothing where the archive does not have it."""
    try:
        versions = debian.fetch([package], work)
    except debian.Unavailable as error:
        if "Unable to locate package" not in str(error):
            raise
        versions = {}
    (ready / "versions.json").write_text(json.dumps(versions))
    origins = []
    for row, data in _contents(package, work / "files/usr/share") if versions else ():
        place = ready / row.place
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        origins += [(row.place.as_posix(), row.origin)] if row.origin else []
    with (ready / "origins.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "origin"), *origins])


def _contents(package: str, share: Path) -> Iterator[tuple[_Row, bytes]]:
    """Yield what there is of a package's rows; a later version of it may lack some."""
    archives: dict[str, dict[str, bytes]] = {}
    for row in _rows():
        file, _, inner = row.file.partition(":")
        if row.package != package or not (share / file).is_file():
            continue
        if not inner:
            yield row, (share / file).read_bytes()
            continue
        if file not in archives:
            read = read_cat if file.endswith(".cat") else read_resources
            archives[file] = read((share / file).read_bytes(), file)
        if inner in archives[file]:
            yield row, archives[file][inner]


@cache
def _rows() -> tuple[_Row, ...]:
    with _TABLE.open(newline="", encoding="utf-8") as file:
        rows = tuple(_Row(*row) for row in list(csv.reader(file))[1:])
    places = [(row.package, row.place) for row in rows]
    if len(set(places)) != len(places):
        raise RuntimeError(f"{_TABLE}: two files have one place")
    return rows
