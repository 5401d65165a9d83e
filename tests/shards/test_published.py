"""The field's published test sets: what is packed of each is found again, and verified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cacl.annotation import Annotation
from launch.main import main
from shards.store import open_store
from shards.verify import verify
from tests.shards.sets import (
    avatar,
    duets,
    interactive,
    pair,
    s4,
)

SETS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "is3": lambda root: (str(interactive(root, "cat_dog_7_cat", "cat_dog_7_dog")),),
    "vpo": lambda root: (str(interactive(root, "000000000007_11", "000000000007_12")),),
    "music-duet": lambda root: (str(duets(root, "abcdefghijk_000_00004", "abcdefghijk_000_00007")),),
    "avsbench": lambda root: (str(s4(root)),),
    "avatar": lambda root: (str(avatar(root, films=False)), "--frame-rate", "25"),
    "vggsound-duet": lambda root: (str(pair(root)),),
}


@pytest.mark.parametrize("name", SETS)
def test_what_is_packed_is_found_again_and_verified(name: str, tmp_path: Path) -> None:
    (tmp_path / "set/s4_data").mkdir(parents=True)
    root, *options = SETS[name](tmp_path / "set")
    words = ["--root", root, *options, "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(["pack", name, *words, "--frame-side", "64"]) == 0
    assert list(verify(tmp_path / "out", 1)) == []
    store = open_store(tmp_path / "out")
    notes: list[Annotation] = [store.annotation(int(index)) for index in store.indices]
    assert all(note.sources for note in notes) and len({note.id for note in notes}) == len(notes)
    if name != "vggsound-duet":
        assert len({note.image or note.film for note in notes}) == 1 < len(notes)
