"""Parquet files with films, pictures and sounds in them, as hubs publish data sets.

A column of media holds bytes, or as Hugging Face's data sets do pairs of `bytes` and `path`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from cacl.errors import UserError, shorten
from shards.rows import DamagedRows, Table, open_rows, read_column, read_table
from shards.sources.halves import kind_of
from shards.sources.lying import some, what_lies
from shards.sources.media import FILE_LIMIT, BrokenMedia, blame
from shards.sources.streamed import Parts, PartSource, Sample, class_names

if TYPE_CHECKING:
    import pyarrow

_NAMES = {
    "video": ("video", "mp4", "film"),
    "image": ("image", "jpg", "jpeg", "png", "frame"),
    "audio": ("audio", "wav", "flac", "mp3", "sound"),
    "label": ("label", "class", "class_name", "caption"),
    "id": ("id", "__key__", "video_id", "path"),
}
"""What columns are called, the likelier first; capitals count for nothing."""


class Columns(NamedTuple):
    """Which columns of a file hold what; None where none does."""

    video: str | None = None
    image: str | None = None
    audio: str | None = None
    label: str | None = None
    id: str | None = None

    @property
    def media(self) -> tuple[str, ...]:
        """The columns of which a clip's frame and sound are made."""
        return (self.video,) if self.video else tuple(filter(None, (self.image, self.audio)))

    @property
    def read(self) -> tuple[str, ...]:
        """The columns that are read for a clip, each once."""
        return tuple(dict.fromkeys((*self.media, *((self.label,) if self.label else ()))))


class Place(NamedTuple):
    """Where a clip lies."""

    part: str
    """Relative to the root."""
    row: int
    columns: Columns

    @property
    def name(self) -> str:
        """File and row, for messages."""
        return f"{self.part}: row {self.row}"

    def approach(self, root: Path, tick: Callable[[], None]) -> None:
        """Read on to the row, calling `tick` now and then."""
        try:
            open_rows(root / self.part, self.columns.read).approach(self.row, tick)
        except DamagedRows:
            return  # the next read says it


def _option(what: str, holds: str) -> Any:
    return field(
        default=None, metadata={"help": f"column that holds {holds}; default: {', '.join(_NAMES[what])}"}
    )


@dataclass(frozen=True)
class Parquet(PartSource):
    """Rows of Parquet files (*.parquet): a film each, or a picture and a sound, as bytes."""

    name: ClassVar[str] = "parquet"

    video_column: str | None = _option("video", "films")
    image_column: str | None = _option("image", "pictures")
    audio_column: str | None = _option("audio", "sounds")
    label_column: str | None = _option("label", "classes")
    id_column: str | None = _option("id", "ids, or files whose names are the ids")

    def __post_init__(self) -> None:
        """Raises UserError where a film and a picture or sound are asked for."""
        for other in ("image", "audio"):
            if self.video_column and getattr(self, f"{other}_column"):
                raise UserError(
                    f"--{other}-column: beside --video-column it has no use; a film has picture and sound"
                )

    def parts(self) -> Parts:
        """Return what the files below the root hold."""
        return _parts(self)

    def why_empty(self) -> str:
        """Say why there is no row."""
        found = self.parts()
        if not found.names and not found.damage:
            return f"holds no file (*.parquet); {what_lies(self.root, self.name)}"
        return f"there is no row in {some(found.names)}" if not found.damage else found.damage[0]

    def load(self, place: Place) -> Sample:
        """Read a row. Raises BrokenMedia and OSError."""
        path, columns = self.root / place.part, place.columns
        with blame(place.name):
            try:
                row = open_rows(path, columns.read).read(place.row)
            except DamagedRows as error:
                raise BrokenMedia(f"damaged part: {error}") from None
            media = {column: _content(row[column], column) for column in columns.media}
            label = row[columns.label] if columns.label else None
            classes = class_names(_named(label, _table(path).class_names(columns.label or "")))
        if columns.video:
            return Sample(film=media[columns.video], classes=classes)
        return Sample(None, media[columns.image or ""], media[columns.audio or ""], classes)

    def columns(self, part: str, table: Table) -> Columns:
        """Return which columns of a file are read. Raises UserError that lists them where none fits."""
        schema = table.schema
        given = {what: getattr(self, f"{what}_column") for what in _NAMES}
        for what, name in given.items():
            if name is not None:
                self._check(part, schema, what, name)
        found = {what: given[what] or _find(schema, what) for what in _NAMES}
        if given["image"] or given["audio"]:
            found["video"] = None
        if not found["video"] and not (found["image"] and found["audio"]):
            raise self._no_fit(part, schema, Columns(**found))
        return Columns(**found)

    def _check(self, part: str, schema: pyarrow.Schema, what: str, name: str) -> None:
        """Raise UserError where a column that an option names is not there or holds something else."""
        if name not in schema.names:
            raise UserError(
                f"--{what}-column {name}: {part} has no such column; its columns are {_listed(schema)}"
            )
        if not any(fits(schema.field(name).type) for fits in _FITS[what]):
            wanted = "text or numbers" if what in ("label", "id") else "bytes, or structs of bytes and path"
            raise UserError(
                f"--{what}-column {name}: holds {_typed(schema, name)} in {part}, and is read as {wanted}; "
                f"its columns are {_listed(schema)}"
            )

    def _no_fit(self, part: str, schema: pyarrow.Schema, found: Columns) -> UserError:
        if found.image or found.audio:
            here, lacks, option = (
                ("pictures", "sounds", "audio") if found.image else ("sounds", "pictures", "image")
            )
            why = f"has {here} in {found.image or found.audio}, and no column that is known to hold {lacks}"
            fix = f"name it with --{option}-column"
        else:
            why = "has no column that is known to hold films, or pictures and sounds, as bytes"
            fix = "name yours with --video-column, or with --image-column and --audio-column"
        return UserError(f"--root {self.root}: {part} {why}; its columns are {_listed(schema)}: {fix}")


def _find(schema: pyarrow.Schema, what: str) -> str | None:
    """Return the column of a known name and a fitting type."""
    fits = _FITS[what][0]
    known = {name.lower(): name for name in reversed(schema.names) if fits(schema.field(name).type)}
    return next((known[name] for name in _NAMES[what] if name in known), None)


def _is_media(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _is_media(kind.field(at).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _is_plain(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    texts = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if types.is_list(kind) or types.is_large_list(kind):
        return _is_plain(kind.value_type)
    return bool(texts or types.is_integer(kind) or types.is_floating(kind) or types.is_dictionary(kind))


def _has_path(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind)) and kind.get_field_index("path") >= 0


_FITS: dict[str, tuple[Callable[[pyarrow.DataType], bool], ...]] = {
    **dict.fromkeys(("video", "image", "audio"), (_is_media,)),
    "label": (_is_plain,),
    "id": (_is_plain, _has_path),
}
"""What a column may hold; found without an option is only what the first takes."""


def _listed(schema: pyarrow.Schema) -> str:
    return shorten(", ".join(f"{name} ({_typed(schema, name)})" for name in schema.names), 600) or "none"


def _typed(schema: pyarrow.Schema, name: str) -> str:
    return shorten(schema.field(name).type)


def _content(value: Any, column: str) -> bytes:
    """Return the bytes in a cell. Raises BrokenMedia where there are none."""
    path = None
    if isinstance(value, dict):
        value, path = value.get("bytes"), value.get("path")
    if value is None and path:
        raise BrokenMedia(
            f"no bytes: {column} only names {shorten(path)}; fetch that file, and pack it with `videos` or "
            "`prepared`"
        )
    if value is None:
        raise BrokenMedia(f"no bytes: {column} is empty")
    if len(value) > FILE_LIMIT:
        raise BrokenMedia(f"too large: {len(value)} bytes")
    return bytes(value)


def _named(label: Any, names: list[str]) -> Any:
    """Return a label whose numbers are made the names of their classes; -1 is none. Raises BrokenMedia."""
    if isinstance(label, list):
        return [_named(one, names) for one in label]
    if not names or not isinstance(label, int) or label == -1:
        return None if names and label == -1 else label
    if not 0 <= label < len(names):
        raise BrokenMedia(f"no class: {label} is not one of {len(names)} classes")
    return names[label]


@lru_cache(maxsize=1)
def _table(path: Path) -> Table:
    return read_table(path)


@lru_cache(maxsize=2)
def _parts(source: Parquet) -> Parts:
    """List the rows of the files below the root, in folders too. Raises UserError and OSError."""
    parts = Parts()
    unread: dict[str, None] = {}
    for path in sorted(path for path in source.root.rglob("*") if _is_parquet(path)):
        part = path.relative_to(source.root).as_posix()
        try:
            table = read_table(path)
            columns = source.columns(part, table)
            ids = _ids(path, part, table, columns)
        except DamagedRows as error:
            parts.damage.append(f"{part}: is damaged, and none of its rows can be read: {error}")
            continue
        parts.begin(part)
        for row, id in enumerate(ids):
            parts.add(id, Place(part, row, columns))
        unread |= dict.fromkeys(
            name for name in table.schema.names if name not in {*columns.read, columns.id}
        )
    if unread:
        parts.others.append(f"--root {source.root}: columns that are not read: {shorten(', '.join(unread))}")
    return parts


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".parq", ".pq") and path.is_file()


def _ids(path: Path, part: str, table: Table, columns: Columns) -> Iterable[str]:
    """Return the rows' ids: what the column of ids says, else file and row. Raises DamagedRows."""
    numbered = [f"{PurePosixPath(part).with_suffix('')}/{row:06d}" for row in range(table.rows)]
    if columns.id is None:
        return numbered
    paired = _has_path(table.schema.field(columns.id).type)
    values = read_column(path, f"{columns.id}.path" if paired else columns.id)
    if len(values) != table.rows:
        raise DamagedRows(f"{columns.id} has {len(values)} of {table.rows} rows")
    return [_id(value, number) for value, number in zip(values, numbered, strict=True)]


def _id(value: Any, number: str) -> str:
    """Return an id without the ending of a media file; file and row where there is none."""
    if isinstance(value, dict):
        value = value.get("path")
    text = "" if value is None else str(value).strip()
    path = PurePosixPath(text)
    return path.with_suffix("").as_posix() if kind_of(path.suffix) else text or number
