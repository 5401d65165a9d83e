"""ESC-50 as it is distributed: `audio/*.wav`, and `meta/esc50.csv`, whose `src_file` is a clip's origin."""

from __future__ import annotations

from pathlib import Path

from cacl.errors import UserError
from shards.scenes.classes import class_of
from shards.scenes.collections import Instance
from shards.scenes.files import SoundFiles
from shards.sources.lists import is_name, read_rows


def esc50(label: str, folder: Path, option: str) -> SoundFiles:
    """Return ESC-50's recordings by our classes. Raises UserError where table or layout are others."""
    table = folder / "meta/esc50.csv"
    rows = read_rows(table) if folder.is_dir() else []
    head = rows[0] if rows else []
    if not {"filename", "category", "src_file"} <= set(head):
        raise UserError(
            f"{option}: {table} is not the table of ESC-50: filename,fold,target,category,…,src_file"
        )
    instances, paths = [], {}
    for row in rows[1:]:
        if len(row) != len(head) or not is_name(file := row[head.index("filename")]):
            raise UserError(f"{option}: {table}: {','.join(row)!r} is no row of it")
        name = f"{label}/{file}"
        class_name = class_of(row[head.index("category")], "esc50")
        instances.append(Instance(class_name, name, row[head.index("src_file")]))
        paths[name] = folder / "audio" / file
    if not any(path.exists() for path in paths.values()):
        raise UserError(f"{option}: {folder / 'audio'} has none of the files that {table} names")
    return SoundFiles(label, tuple(sorted(instances, key=lambda instance: instance.name)), paths)
