"""What `localize` is to do, found out and checked before a model is loaded: this needs no PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cacl.errors import UserError
from cacl.viewing.film import Part, facts, open_audio, open_film
from cacl.viewing.film_writer import ENDINGS, check_ending, name_beside

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
FILMS = (
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts",
    ".webm", ".wmv",
)  # fmt: skip
"""Endings of what is taken from a folder; a film that is named may have any."""
_RECORDINGS = (".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav")
EXPORTS = {"coco": ".coco.json", "cvat": ".cvat.xml", "labelstudio": ".labelstudio.json"}
"""By tool: the ending of its file."""


@dataclass(frozen=True)
class Errand:
    """One film or picture, and the files that are made of it."""

    source: Path
    still: bool
    dub: Path | None
    """The sound that takes the place of its own; a picture always has one."""
    out: Path
    more: Mapping[str, Path] = field(default_factory=dict)
    """By `maps`, `tracks`, `reframe` or an export's name."""

    @property
    def follows(self) -> bool:
        """Whether anything is made of where the sound is from moment to moment."""
        return bool(self.more.keys() - {"maps"})


@dataclass(frozen=True)
class Wanted:
    """What is made beside the overlay."""

    maps: str | None = None
    """A file's name; empty for a name beside the overlay."""
    tracks: str | None = None
    exports: Sequence[str] = ()
    reframe: tuple[int, int] | None = None
    """Width and height of the other shape."""


def plan_errands(
    file: str | Path,
    *,
    audio: str | Path | None,
    out: str | Path | None,
    wanted: Wanted,
    part: Part,
    overwrite: bool,
) -> tuple[list[Errand], dict[Path, str]]:
    """Return what is to be done for a film, a picture, or a folder of them, and what of a folder cannot be.

    Raises UserError, before anything is loaded, for a file that is not there, has no picture or no sound, for
    an output whose folder cannot be made, whose ending is not known, or that is there already.
    """
    path, refused = Path(file), dict[Path, str]()
    if audio is not None:
        open_audio(_there(Path(audio), "name a recording, or a film that has a sound")).close()
    if not path.is_dir():
        _there(path, "give a film, a folder of films, or a picture and --sound FILE")
        errands = [_errand(path, audio, out, wanted, part)]
    else:
        errands, refused = _of_folder(path, audio, out, wanted, part)
    _check_outputs(errands, overwrite)
    return errands, refused


def _of_folder(
    folder: Path, audio: str | Path | None, out: str | Path | None, wanted: Wanted, part: Part
) -> tuple[list[Errand], dict[Path, str]]:
    for option, name in (("--maps", wanted.maps), ("--tracks", wanted.tracks)):
        if name:
            raise UserError(f"{option} {name}: names one file, and {folder} is a folder; give {option} alone")
    target = Path(out or folder.with_name(f"{folder.resolve().name}-sound"))
    if target.suffix.lower() in (*ENDINGS, *PICTURES) or target.is_file():
        raise UserError(f"--out {target}: is a file's name, and {folder} is a folder; name a folder")
    errands: list[Errand] = []
    refused: dict[Path, str] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in (*FILMS, *PICTURES):
            continue
        try:
            errands.append(_errand(path, audio or _beside(path), target / default_name(path), wanted, part))
        except UserError as error:
            refused[path] = str(error)
    if not errands:
        reason = next(iter(refused.values()), "no file in it ends like a film or a picture")
        raise UserError(f"{folder}: holds nothing that can be localized ({reason}); name another folder")
    return errands, refused


def _errand(
    path: Path, audio: str | Path | None, out: str | Path | None, wanted: Wanted, part: Part
) -> Errand:
    still = path.suffix.lower() in PICTURES
    target = Path(out or path.with_name(default_name(path)))
    if still:
        if audio is None:
            raise UserError(f"{path}: has no sound; give the sound of this picture with --sound FILE")
        if part != Part() or wanted.reframe:
            raise UserError(f"{path}: is a picture; --start, --seconds and --reframe are for films")
        if target.suffix.lower() not in PICTURES:
            raise UserError(f"{target}: is no name of a picture; end it in {', '.join(PICTURES)}")
    else:
        open_film(path, silent=audio is not None).close()
        length = facts(path).seconds
        if length is not None and part.start >= length:
            raise UserError(f"--start {part.start:g}: {path} is over after {length:.2f} s; begin earlier")
        check_ending(target)
    return Errand(path, still, None if audio is None else Path(audio), target, _more(target, wanted))


def default_name(path: Path) -> str:
    """Return the name of what is made of a file: its own with -sound; see `name_beside` for films."""
    if path.suffix.lower() in PICTURES:
        return f"{path.stem}-sound{path.suffix}"
    return name_beside(path)


def _more(out: Path, wanted: Wanted) -> dict[str, Path]:
    files = {name: out.with_name(out.stem + EXPORTS[name]) for name in wanted.exports}
    if wanted.maps is not None:
        files["maps"] = Path(wanted.maps or out.with_name(f"{out.stem}.npz"))
    if wanted.tracks is not None:
        files["tracks"] = Path(wanted.tracks or out.with_name(f"{out.stem}.tracks.json"))
    if wanted.reframe:
        wide, tall = wanted.reframe
        files["reframe"] = out.with_name(f"{out.stem}-{wide}x{tall}{out.suffix}")
    return files


def _beside(path: Path) -> Path | None:
    """Return the recording of a picture's name in its folder; None for films, and where there is none."""
    if path.suffix.lower() not in PICTURES:
        return None
    return next((one for end in _RECORDINGS if (one := path.with_suffix(end)).is_file()), None)


def _there(path: Path, remedy: str) -> Path:
    if not path.exists():
        raise UserError(f"{path}: there is no such file; {remedy}")
    return path


def _check_outputs(errands: Sequence[Errand], overwrite: bool) -> None:
    """Refuse outputs that two errands share, that would replace what is read or is there, or cannot be made.

    Folders that are missing are made.
    """
    taken: dict[Path, Path] = {}
    read = {one.resolve() for errand in errands for one in (errand.source, errand.dub) if one}
    outputs = [(errand, path) for errand in errands for path in (errand.out, *errand.more.values())]
    for errand, path in outputs:
        place = path.resolve()
        if place in read:
            raise UserError(f"{path}: is a file that is read; name another with --out")
        if place in taken:
            raise UserError(f"{path}: would be made of {taken[place]} and of {errand.source}; rename one")
        if place.is_dir():
            raise UserError(f"{path}: is a folder; name a file in it")
        if place.exists() and not overwrite:
            raise UserError(f"{path}: is there already; name another with --out, or replace it: --overwrite")
        taken[place] = errand.source
        there = next(parent for parent in place.parents if parent.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"{path}: cannot be written in {there}; name another folder with --out")
    for _, path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
