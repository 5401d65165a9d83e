"""Other people's WebDataset shards: tars in which members of one key are a sample.

Grouped are members that stand together, by the rule of the library webdataset. Read they are by
`shards.parts`: the library streams, and says neither where a tar is damaged nor goes on in its middle.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple

from cacl.errors import UserError, shorten
from shards.parts import MEMBER_LIMIT, SUFFIXES, DamagedPart, Member, list_parts, open_part
from shards.sources.halves import FILM, PICTURE, SOUND, kind_of
from shards.sources.lying import some, what_lies
from shards.sources.media import BrokenMedia, blame
from shards.sources.streamed import Parts, PartSource, Sample, class_names

_KEYED = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")
"""Key and ending, as `webdataset.tariterators.base_plus_ext` splits a name; importing it takes a second."""
_META = re.compile(r"__[^/]*__(?:$|/)")
"""Names that the library passes over."""
_LABELS = ("json", "cls", "txt")
"""Endings of what may name the class; the first that does is taken."""
_LABEL_KEYS = ("label", "class")
_LABEL_LIMIT = 2**24
"""Bytes of such a member."""
_ASKED, _NAMED = 20, 3
"""Samples that are asked for a key of --label-key; endings and members that a remark names."""


class Place(NamedTuple):
    """Where a sample lies."""

    part: str
    """Relative to the root."""
    key: str
    members: tuple[tuple[str, Member], ...]
    """Ending and place of those that are read, in their order."""

    @property
    def name(self) -> str:
        """Part and key, for messages."""
        return f"{self.part}: {self.key}"

    def approach(self, root: Path, tick: Callable[[], None]) -> None:
        """Read on to the first member, calling `tick` now and then."""
        open_part(root / self.part).approach(self.members[0][1].offset, tick)

    def read(self, root: Path, member: Member) -> bytes:
        """Return a member's content. Raises BrokenMedia where it cannot be had whole, and OSError."""
        with blame(f"{self.part}: {member.name}"):
            if member.size > MEMBER_LIMIT:
                raise BrokenMedia(f"too large: {member.size} bytes")
            try:
                return open_part(root / self.part).member(member)
            except DamagedPart as error:
                raise BrokenMedia(f"damaged part: {error}") from None


@dataclass(frozen=True)
class WebDataset(PartSource):
    """Samples of WebDataset shards (*.tar, *.tar.gz, *.tgz): a film each, or a picture and a sound."""

    name: ClassVar[str] = "webdataset"

    label_key: str | None = field(
        default=None,
        metadata={"help": "key of a sample's json that holds its class; default: label or class"},
    )
    endings: tuple[str, ...] = field(
        default=(),
        metadata={"help": "endings of the members to read, such as jpg wav; default: all that are known"},
    )

    def __post_init__(self) -> None:
        """Raises UserError for an ending that is no film's, picture's or sound's."""
        for ending in self.endings:
            if self.kind(ending.lstrip(".").lower()) is None:
                raise UserError(f"--endings {ending}: is no ending of films, pictures or sounds")

    def parameters(self) -> dict[str, Any]:
        """Return the options, the endings among them."""
        return {**super().parameters(), "endings": list(self.endings)}

    def kind(self, ending: str) -> str | None:
        """Return what a member of this ending is: film, picture or sound, None where it is not read."""
        if not self.endings:
            return kind_of(f".{ending}")
        chosen = ending in {one.lstrip(".").lower() for one in self.endings}
        return kind_of(f".{ending.rpartition('.')[2]}") if chosen else None

    def parts(self) -> Parts:
        """Return what the shards below the root hold."""
        return _parts(self)

    def why_empty(self) -> str:
        """Say why there is no sample."""
        found = self.parts()
        if not found.names:
            ends = ", ".join("*" + end for end in SUFFIXES)
            return f"holds no shard ({ends}); {what_lies(self.root, self.name)}"
        more = "; ".join([*found.damage[:1], *found.others]) or "they are empty"
        return f"no sample with a film, or a picture and a sound, is in {some(found.names)}; {more}"

    def check_files(self) -> None:
        """Raise UserError as others do, and where --label-key is in none of the first samples."""
        super().check_files()
        if self.label_key is None:
            return
        asked: set[str] = set()
        for keys in _first_keys(self):
            if self.label_key in keys:
                return
            asked |= keys
        held = f"their keys are {', '.join(sorted(asked))}" if asked else "none has a json with keys"
        raise UserError(f"--label-key {self.label_key}: is in none of the first samples; {shorten(held)}")

    def load(self, place: Place) -> Sample:
        """Read the members of a sample from first to last. Raises BrokenMedia and OSError."""
        with blame(place.name):
            self._refuse_incomplete([ending for ending, _ in place.members])
        content: dict[str, bytes] = {}
        for ending, member in place.members:
            content[self.kind(ending) or ending] = _read_small(self, place, ending, member)
        with blame(place.name):
            return Sample(content.get(FILM), content.get(PICTURE), content.get(SOUND), self._classes(content))

    def _refuse_incomplete(self, endings: list[str]) -> None:
        """Raise BrokenMedia unless there is one film, or one picture and one sound."""
        media = [ending for ending in endings if self.kind(ending)]
        kinds = sorted(str(self.kind(ending)) for ending in media)
        if kinds in ([FILM], [PICTURE, SOUND]):
            return
        if len(media) > 1:
            raise BrokenMedia(f"two of a kind: {', '.join(media)}; name with --endings which are read")
        lacking = {PICTURE: SOUND, SOUND: PICTURE}.get(kinds[0], "") if kinds else "film, picture or sound"
        raise BrokenMedia(f"no {lacking}: it has {', '.join(endings)}")

    def _classes(self, content: dict[str, bytes]) -> tuple[str, ...]:
        """Return the classes of the first member that names some. Raises BrokenMedia."""
        if "json" in content:
            note = _parse(content["json"])
            keys = _LABEL_KEYS if self.label_key is None else (self.label_key,)
            if found := next(filter(None, (class_names(note.get(key)) for key in keys)), ()):
                return found
        texts = (content[ending].decode(errors="replace") for ending in _LABELS[1:] if ending in content)
        return next(filter(None, map(class_names, texts)), ())


def _parse(data: bytes) -> dict[str, Any]:
    """Return an object of JSON, an empty one for anything else of JSON. Raises BrokenMedia."""
    try:
        note = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BrokenMedia(f"undecodable json: {shorten(error)}") from None
    return note if isinstance(note, dict) else {}


def _read_small(source: WebDataset, place: Place, ending: str, member: Member) -> bytes:
    if ending in _LABELS and member.size > _LABEL_LIMIT:
        with blame(f"{place.part}: {member.name}"):
            raise BrokenMedia(f"too large: {member.size} bytes of {ending}")
    return place.read(source.root, member)


def _first_keys(source: WebDataset) -> Iterator[set[str]]:
    """Yield the keys in the json of the first samples that have one which can be read."""
    jsons = (
        (place, member)
        for places in source.parts().places.values()
        for place in places
        for ending, member in place.members
        if ending == "json"
    )
    for (place, member), _ in zip(jsons, range(_ASKED), strict=False):
        try:
            yield set(_parse(_read_small(source, place, "json", member)))
        except BrokenMedia:
            continue


@lru_cache(maxsize=2)
def _parts(source: WebDataset) -> Parts:
    """List the shards below the root, in folders too. Raises OSError."""
    paths = sorted(path for path in source.root.rglob("*") if _is_shard(path))
    parts = Parts()
    passed = _PassedOver()
    for path, listing in zip(paths, list_parts(paths), strict=True):
        part = path.relative_to(source.root).as_posix()
        parts.begin(part)
        parts.damage.extend(f"{part}: is damaged: {where}" for where in listing.damage)
        for key, members in _samples(listing.members):
            read = tuple(one for one in members if one[0] in _LABELS or source.kind(one[0]))
            if read:
                parts.add(key, Place(part, key, read))
            passed.add(part, (one for one in members if one not in read))
    parts.others.extend(passed.sentences(source.root))
    return parts


def _is_shard(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def _samples(members: Iterable[Member]) -> Iterator[tuple[str, list[tuple[str, Member]]]]:
    """Yield each key and its members with their endings; what has no key comes under an empty one."""
    for key, group in groupby(map(_split, members), key=itemgetter(0)):
        yield key, [(ending, member) for _, ending, member in group]


def _split(member: Member) -> tuple[str, str, Member]:
    """Return a member's key, without `./`, its ending in small letters, and the member."""
    found = None if _META.match(member.name) else _KEYED.fullmatch(member.name)
    if found is None:
        return "", "", member
    return PurePosixPath(found[1]).as_posix(), found[2].lower(), member


class _PassedOver:
    """Members that are not read, counted by their endings."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.named: dict[str, list[str]] = {}

    def add(self, part: str, members: Iterable[tuple[str, Member]]) -> None:
        for ending, member in members:
            self.counts[ending] += 1
            named = self.named.setdefault(ending, [])
            if len(named) < _NAMED:
                named.append(f"{part}: {member.name}")

    def sentences(self, root: Path) -> list[str]:
        """Return the sentence that names them, if there are any."""
        if not self.counts:
            return []
        count = self.counts.total()
        kinds = [
            f"{many} of {'.' + ending if ending else 'no ending'} ({', '.join(self.named[ending])}"
            f"{', …' if many > _NAMED else ''})"
            for ending, many in self.counts.most_common(_NAMED)
        ]
        more = len(self.counts) - len(kinds)
        members = "1 member is" if count == 1 else f"{count} members are"
        rest = [f"and of {more} more endings"] if more else []
        return [f"--root {root}: {members} left out, of endings that are not read: {'; '.join(kinds + rest)}"]
