"""What every source owes: the same bytes however its packing is divided, and after kills (promises 1 and 2)."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import soundfile

from launch.jobs.pack import merge, pack
from shards.clip import Storage
from shards.sources.base import Source
from shards.store import Store, open_store
from tests.shards.test_pack import DOOM, contents

STORAGE = Storage(frame_side=32, seconds=1.0)
"""Small clips."""
OPTIONS = ["--shard-size", 2, "--frame-side", 32, "--seconds", 1]
"""The same for the command line."""


def assert_division_changes_nothing(source: Source, once: Path, folder: Path) -> None:
    """`once` was packed by one process in shards of 2; pack again in `folder`, divided in three ways."""
    for workers, machines in ((3, 1), (2, 2), (1, 5)):
        out = folder / f"{workers}-{machines}"
        for turn in reversed(range(1, machines + 1)):
            pack(source, out, shard_size=2, workers=workers, part=(turn, machines), max_rejected=1.0)
        merge(out)
        assert contents(out) == contents(once), (workers, machines)


def assert_goes_on_after_kills(words: list[object], once: Path, out: Path) -> None:
    """Run `cacl pack` with deaths at some file operations, then to its end: the bytes of `once`."""
    command = [sys.executable, "-m", "launch.main", "pack", *map(str, [*words, "--out", out, *OPTIONS])]
    command += ["--workers", "1", "--max-rejected", "1"]
    for event in (6, 14):
        doom = {"DOOM_FOLDER": str(out), "DOOM_EVENT": str(event), "DOOM_DELAY": "0"}
        environment = {**os.environ, **doom, "PYTHONPATH": str(DOOM)}
        done = subprocess.run(command, env=environment, start_new_session=True, capture_output=True)
        assert done.returncode < 0, done.stderr
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert contents(out) == contents(once)


def rejected(out: Path) -> dict[str, tuple[str, str]]:
    """File and reason of each rejected clip."""
    rows = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    return {row["id"]: (row["file"], row["reason"]) for row in rows}


def classes(store: Store) -> dict[str, list[str]]:
    """The classes that are heard in each clip."""
    notes = [store.annotation(int(index)) for index in store.indices]
    return {note.id: [source.class_name for source in note.sources or ()] for note in notes}


def opened(source: Source, out: Path, shard_size: int = 2) -> Store:
    """Pack with whatever is rejected, and open."""
    pack(source, out, shard_size=shard_size, max_rejected=1.0)
    return open_store(out)


def tone(seconds: float = 1.5, rate: int = 16000) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * 330 * np.arange(round(seconds * rate)) / rate)


def sound(kind: str, seconds: float = 1.5) -> bytes:
    """A tone as a file: of a kind that libsndfile writes, or `m4a`."""
    file = io.BytesIO()
    if kind == "m4a":
        with av.open(file, "w", format="ipod") as container:
            stream = container.add_stream("aac", rate=16000, layout="mono")
            assert isinstance(stream, av.AudioStream)
            frame = av.AudioFrame.from_ndarray(tone(seconds).astype(np.float32)[None], "flt", "mono")
            frame.sample_rate, frame.pts = 16000, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    elif kind == "opus":
        soundfile.write(file, tone(seconds), 16000, format="OGG", subtype="OPUS")
    else:
        soundfile.write(file, tone(seconds), 16000, format=kind.upper())
    return file.getvalue()
