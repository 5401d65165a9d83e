"""What the sources that read a user's files have in common: lists, duplicates, and why a clip is rejected."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from cacl.annotation import SoundSource
from cacl.errors import UserError
from shards.clip import STORAGE, Clip, Rejection, Storage
from shards.sources import media
from shards.sources.base import Source
from shards.sources.boxes import drawn_sources, read_boxes
from shards.sources.lists import Pick, find_form, forms, read_list
from shards.sources.lying import what_lies
from shards.sources.pairs import is_prepared, prepared_file
from shards.sources.recordings import read_audio
from shards.sources.video import Moment
from shards.youtube import youtube_video


@dataclass(frozen=True)
class FileSource(Source):
    """Clips out of files under a root, all of them or those of a list."""

    shard_size: ClassVar[int] = 100

    root: Path = field(default=Path(), metadata={"help": "folder of the files", "required": True})
    lists: tuple[Path, ...] = field(
        default=(),
        metadata={"option": "--list", "help": "files of ids, or of pairs video,audio,label; default: all"},
    )
    boxes: Path | None = field(
        default=None, metadata={"help": "JSON of the boxes that clips have, in the form of vggss.json"}
    )
    shortest: float = field(
        default=1.0, metadata={"help": "seconds of sound that a clip must have, unless it has boxes"}
    )
    storage: Storage = STORAGE

    @abstractmethod
    def all_ids(self) -> list[str]:
        """Return the ids that there are without a list, in any order; one twice is a duplicate."""

    @abstractmethod
    def moment(self, pick: Pick) -> Moment:
        """Decode frame and sound. Raises media.BrokenMedia."""

    def label(self, name: str) -> str:
        """Return the class of what is heard in the clip `name`, empty where it is not known.

        Raises media.BrokenMedia for a clip that there is not.
        """
        return ""

    @property
    def box_file(self) -> Path | None:
        """The JSON of boxes, if there is one."""
        return self.boxes

    @property
    def needs_boxes(self) -> bool:
        """Whether a clip whose sound is in view must have boxes."""
        return False

    def drawn(self, pick: Pick) -> tuple[SoundSource, ...] | None:
        """Return the sources that people drew in a clip, None where nobody did. Raises media.BrokenMedia."""
        if self.box_file is None:
            return None
        entries = read_boxes(self.box_file)
        entry = entries.get(find_form(pick.id, entries))
        if entry is None and pick.sounding:
            entry = entries.get(find_form(pick.video, entries))
        if entry is not None:
            return drawn_sources(entry, self.box_file.parent)
        if self.needs_boxes and pick.sounding:
            raise media.BrokenMedia(f"missing: {self.box_file.name} has no boxes for it")
        return None

    def sources(self, pick: Pick) -> tuple[SoundSource, ...] | None:
        """Return what is heard or seen in a clip, None where nothing is known of it.

        Masks are of any size. Raises media.BrokenMedia when what is known is unusable.
        """
        found = self.drawn(pick)
        if found is None and not pick.sounding:
            return (SoundSource(self.label(pick.audio), boxes=(), visible=False),)
        if found is None:
            label = self.label(pick.video)
            return (SoundSource(label),) if label else None
        if len(found) == 1 and not found[0].class_name:
            return (replace(found[0], class_name=self.label(pick.video)),)
        return found

    def measured(self, pick: Pick) -> bool:
        """Say whether models are measured on a clip: it has boxes, or plays a sound from out of view."""
        return self.needs_boxes or not pick.sounding or self.drawn(pick) is not None

    def needs(self, pick: Pick) -> media.Needs:
        """Return what a clip must have, nothing where models are measured on it."""
        return media.NOTHING if self.measured(pick) else media.Needs(self.shortest)

    def parameters(self) -> dict[str, Any]:
        """Return the options and the rules by which frames and sounds are decoded."""
        return {**super().parameters(), "decoding": media.DECODING}

    def film(self, name: str) -> str:
        """Return the file that the clip `name` is a part of."""
        return name

    def group(self, id: str) -> str:
        """Return the film that the clip's frame is of: the YouTube video where a name says which."""
        film = self.film(self.pick(id).video)
        return youtube_video(film) or film

    def ids(self) -> list[str]:
        """Return the listed ids, or all. Raises UserError when there is no root, no id or one of no text."""
        self._check_root()
        for id in _picks(self):
            if id.encode(errors="ignore").decode() != id:
                raise UserError(f"--root {self.root}: the file name {id!a} is not UTF-8; rename it")
        self._check_boxes()
        return sorted(_picks(self))

    def check_files(self) -> None:
        """Raise UserError where no file of any clip is there; its sentence says what is."""
        self._check_root()
        if not any(self.is_there(name) for name in sorted(self.names())):
            raise UserError(self.nothing())

    def _check_root(self) -> None:
        if not self.root.is_dir():
            raise UserError(f"--root {self.root}: is not a folder")

    def nothing(self) -> str:
        """Return the sentence that nothing of the source lies below the root, and what does."""
        expected = (self.__class__.__doc__ or "").rstrip(".")
        lies = what_lies(self.root, self.name)
        return f"--root {self.root}: holds no clip of {self.name} ({expected}); {lies}"

    def is_there(self, name: str) -> bool:
        """Return whether the clip `name` has a file."""
        return is_prepared(self.root, name)

    def _check_boxes(self) -> None:
        """Raise UserError when boxes of a clip that need not be there are malformed, or name no clip at all.

        A public list may hold malformed ones of clips that are not here.
        """
        if self.box_file is None or self.needs_boxes:
            return
        entries, unused = read_boxes(self.box_file), set(self._unused_boxes())
        for name in entries.keys() - unused:
            try:
                drawn_sources(entries[name])
            except media.BrokenMedia as error:
                raise UserError(f"--boxes {self.box_file}: {name}: {error}") from None
        if len(unused) == len(entries):
            raise UserError(
                f"--boxes {self.box_file}: no entry names a clip of the source; their names are such as "
                f"{min(_picks(self))!r}"
            )

    def _unused_boxes(self) -> list[str]:
        if self.box_file is None or self.needs_boxes:
            return []
        picks = [pick for pick, _ in _picks(self).values()]
        named = {form for pick in picks for name in (pick.id, pick.video) for form in forms(name)}
        return sorted(read_boxes(self.box_file).keys() - named)

    def remarks(self) -> list[str]:
        """Return a sentence where boxes name no clip, a misspelled one perhaps."""
        unused = self._unused_boxes()
        if self.box_file is None or not unused:
            return []
        share = f"{len(unused)} of {len(read_boxes(self.box_file))} entries"
        return [f"--boxes {self.box_file}: {share} name no clip of the source, such as {unused[0]!r}"]

    def read(self, id: str) -> Clip | Rejection:
        """Decode one clip."""
        pick, count = _picks(self)[id]
        if count > 1:
            return Rejection(id, f"duplicate id: it stands {count} times in the source")
        try:
            sources = self.sources(pick)
            moment = self.moment(pick)
            if sources is not None:
                sources = tuple(_fit(source, moment) for source in sources)
        except media.BrokenMedia as error:
            return Rejection(id, str(error), error.file)
        film, shared = self.group(id), _frames(self)[pick.video] > 1
        return Clip(
            id,
            moment.frame,
            moment.recording.samples,
            sources,
            image=pick.video if shared else None,
            film=film if film != pick.video else None,
            time=None if moment.frame_seconds is None else round(moment.frame_seconds, 6),
            seconds=round(moment.recording.seconds, 6),
        )

    def pick(self, id: str) -> Pick:
        """Return the frame and the sound of a clip."""
        return _picks(self)[id][0]

    def names(self) -> set[str]:
        """Return the names of all frames and sounds that clips are made of."""
        return {name for pick, _ in _picks(self).values() for name in (pick.video, pick.audio)}

    def prepared_moment(self, pick: Pick) -> Moment:
        """Read `frames/<id>` and `audio/<id>`, whatever their endings. Raises media.BrokenMedia."""
        frame = prepared_file(self.root, "frames", pick.video)
        return self.pair_moment(pick, frame, prepared_file(self.root, "audio", pick.audio))

    def pair_moment(self, pick: Pick, frame: str, audio: str, middle: float | None = None) -> Moment:
        """Read a picture and a recording around `middle` (seconds), files below the root.

        Raises media.BrokenMedia.
        """
        with media.blame(frame):
            picture = media.read_frame(media.in_any_form(self.root, frame), self.storage)
        with media.blame(audio):
            path = media.in_any_form(self.root, audio)
            recording = read_audio(path, self.storage, self.needs(pick), middle)
        return Moment(picture, recording)


def _fit(source: SoundSource, moment: Moment) -> SoundSource:
    return source if source.mask is None else replace(source, mask=media.fit_mask(source.mask, moment.frame))


@lru_cache(maxsize=4)
def _frames(source: FileSource) -> Counter[str]:
    """Return how many clips of the source have each frame."""
    return Counter(pick.video for pick, _ in _picks(source).values())


@lru_cache(maxsize=4)
def _picks(source: FileSource) -> dict[str, tuple[Pick, int]]:
    """Return each id's pick, and how often it stands in the source."""
    if source.lists:
        picks = [pick for path in source.lists for pick in read_list(path)]
    else:
        picks = [Pick(id, id, id) for id in source.all_ids()]
    if not picks:
        if source.lists:
            raise UserError(f"{', '.join(map(str, source.lists))}: is empty; name the clips that you want")
        raise UserError(source.nothing())
    counts = Counter(pick.id for pick in picks)
    return {pick.id: (pick, counts[pick.id]) for pick in picks}
