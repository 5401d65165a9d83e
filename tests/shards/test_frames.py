"""Folders of frames with a sound: the frame that is shown at a moment, as of a film (promise 12)."""

from __future__ import annotations

import io
import json
import os
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from cacl.errors import UserError
from launch.jobs.pack import pack, pack_both
from shards.plan import make_plan
from shards.sources.frames import Frames
from shards.sources.videos import Videos
from shards.store import Store, open_store
from tests.launch.tiny import cacl
from tests.shards.films import film
from tests.shards.partwise import (
    STORAGE,
    assert_division_changes_nothing,
    assert_goes_on_after_kills,
    classes,
    opened,
    rejected,
    sound,
)


def source(root: Path, **options) -> Frames:
    return Frames(root=root, storage=STORAGE, **options)


def frame(number: int) -> bytes:
    """A picture whose gray is its number."""
    file = io.BytesIO()
    Image.new("RGB", (48, 32), (number, number, number)).save(file, "PNG")
    return file.getvalue()


def lay(folder: Path, numbers, name: str = "{:03d}.png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / name.format(number)).write_bytes(frame(number))


def shown(store: Store, index: int = 0) -> int:
    """The number of the frame that was packed."""
    return round(float(np.asarray(Image.open(io.BytesIO(store.read(index)["jpg"]))).mean()))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips, their sounds at every place that is looked at."""
    folder = tmp_path_factory.mktemp("frames")
    for name in ("a", "b", "more/c", "more/d", "e"):
        lay(folder / name, range(1, 26))
    for name in ("a.wav", "b/audio.FLAC", "more/c.mp3", "more/d/d.ogg", "e.m4a"):
        (folder / name).write_bytes(sound(name.rpartition(".")[2].lower()))
    (folder / "readme.txt").touch()
    return folder


@pytest.fixture(scope="module")
def packed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "out"
    assert pack(source(root), out, shard_size=2)
    return out


def test_folders_become_clips_wherever_their_sounds_lie(root: Path, packed: Path) -> None:
    store = open_store(packed)
    assert [store.annotation(index).id for index in range(5)] == ["a", "b", "e", "more/c", "more/d"]
    # One second is kept of 1.5; in its middle, .5 s, frame 13 is shown, which begins at .48 s.
    assert [shown(store, index) for index in range(5)] == [13] * 5
    assert {store.annotation(index).time for index in range(5)} == {0.48}
    assert source(root).remarks() == [
        f"--root {root}: 1 file is left out, neither frames of a clip nor its sound: 1 of .txt (readme.txt)"
    ]


def test_bytes_do_not_depend_on_workers_or_machines(root: Path, packed: Path, tmp_path: Path) -> None:
    assert_division_changes_nothing(source(root), packed, tmp_path)


def test_killed_it_goes_on_to_the_same_bytes(root: Path, packed: Path, tmp_path: Path) -> None:
    assert_goes_on_after_kills(["frames", "--root", root], packed, tmp_path / "out")


def test_extracted_frames_give_the_clip_that_their_film_gives(tmp_path: Path) -> None:
    """The same moment, the same window of sound: FLAC in Matroska, so that nothing is lost on the way."""
    path = film(tmp_path / "films/a.mkv", seconds=2.2, fps=10, audio_codec="flac")
    with av.open(str(path)) as container:
        (tmp_path / "f/a").mkdir(parents=True)
        for number, one in enumerate(container.decode(video=0), start=1):
            one.to_image().save(tmp_path / f"f/a/{number}.png")
    with av.open(str(path)) as container, wave.open(str(tmp_path / "f/a.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        for heard in container.decode(audio=0):
            file.writeframes(heard.to_ndarray().tobytes())
    for frame_at in (None, 0.0, 0.7, 1.25):
        ours = opened(source(tmp_path / "f", fps=10.0, frame_at=frame_at), tmp_path / f"ours{frame_at}")
        theirs = opened(
            Videos(root=tmp_path / "films", storage=STORAGE, frame_at=frame_at),
            tmp_path / f"theirs{frame_at}",
        )
        note, other = ours.annotation(0), theirs.annotation(0)
        assert note.time == pytest.approx(other.time, abs=1e-3), frame_at
        assert ours.read(0)["jpg"] == theirs.read(0)["jpg"]
        assert ours.read(0)["wav"] == theirs.read(0)["wav"]


@pytest.mark.parametrize(
    ("numbers", "options", "expected"),
    [
        (range(1, 26), {"frame_at": 0.36}, 10),  # begins at that moment: numbers, not letters, are sorted
        (range(1, 26), {"frame_at": 0.3595}, 10),  # rounded times
        (range(1, 26), {"frame_at": 0.35}, 9),
        (range(0, 25), {"frame_at": 0.36}, 9),  # counted from 0
        (range(1, 26), {"frame_at": 1.4}, 25),  # the last one stays until the sound ends
        (range(1, 26), {"frame_at": 0.0}, 1),
        (range(1, 9), {"fps": 5.0}, 3),  # begins at .4 s, and the next at .6 s
        ((1, 2, 3, 20, 21), {}, 3),  # in a gap the frame before it
        (range(20, 26), {}, 20),  # in front of a late picture the first
    ],
)
def test_the_frame_is_the_one_that_a_player_would_show(tmp_path: Path, numbers, options, expected) -> None:
    lay(tmp_path / "s/a", numbers, "{}.png")
    (tmp_path / "s/a.wav").write_bytes(sound("wav"))
    assert shown(opened(source(tmp_path / "s", **options), tmp_path / "out")) == expected


def test_gaps_in_the_numbers_are_told(tmp_path: Path) -> None:
    for name, numbers in (("a", (1, 2, 5)), ("b", (4, 5)), ("c", (0, 1)), ("d", (1, 2))):
        lay(tmp_path / name, numbers, "frame_{:04d}.png")
        (tmp_path / f"{name}.wav").write_bytes(sound("wav"))
    assert source(tmp_path).remarks() == [
        f"--root {tmp_path}: 2 clips lack frames by their numbers: a, none between 2 and 5, b, none before 4; "
        "in a gap the frame before it is shown"
    ]


def test_clips_that_cannot_be_used_name_the_file(tmp_path: Path) -> None:
    root = tmp_path / "s"
    for name in ("mute", "two", "same", "torn", "broken", "short", "good"):
        lay(root / name, range(1, 11))
        (root / f"{name}.wav").write_bytes(sound("wav", 0.5 if name == "short" else 1.5))
    (root / "mute.wav").unlink()
    (root / "two/audio.mp3").write_bytes(sound("mp3"))
    (root / "same/5.png").write_bytes(frame(5))
    (root / "broken.wav").write_bytes(b"RIFF")
    (root / "torn/010.png").write_bytes(frame(10)[:60])
    (tmp_path / "list.txt").write_text(
        "\n".join(["gone", *(path.name for path in root.iterdir() if path.is_dir())])
    )
    chosen = source(root, lists=(tmp_path / "list.txt",), frame_at=0.4)
    assert list(classes(opened(chosen, tmp_path / "out", 20))) == ["good"]
    found = rejected(tmp_path / "out")
    assert found.pop("broken")[1].startswith("undecodable sound: ")
    file, reason = found.pop("torn")
    assert file == "torn/010.png" and reason.startswith(("undecodable frame: ", "truncated"))
    assert found == {
        "gone": ("gone", "missing: it has no sound, gone.wav or gone/audio.wav"),
        "mute": ("mute", "missing: it has no sound, mute.wav or mute/audio.wav"),
        "two": ("two", "duplicate sound: two.wav, two/audio.mp3"),
        "same": ("same", "two frames of one number: 005.png, 5.png"),
        "short": ("short.wav", "too short: 0.500 s of sound"),
    }
    late = source(root, lists=(tmp_path / "list.txt",), frame_at=1.6)
    opened(late, tmp_path / "late", 20)
    assert rejected(tmp_path / "late")["good"] == (
        "good",
        "truncated: no frame at 1.60 s, the last at 0.36 s",
    )


def test_sounds_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    lay(tmp_path / "d/frames/a", range(1, 11))
    (tmp_path / "d/audio").mkdir()
    (tmp_path / "d/audio/a.wav").write_bytes(sound("wav"))
    advice = (
        rf"no folder of frames has a sound, .* give --root {tmp_path}/d/frames --audio {tmp_path}/d/audio"
    )
    for root in (tmp_path / "d", tmp_path / "d/frames"):
        with pytest.raises(UserError, match=advice):
            pack(source(root), tmp_path / "out")
    store = opened(source(tmp_path / "d/frames", audio=tmp_path / "d/audio"), tmp_path / "out")
    assert store.annotation(0).id == "a"
    with pytest.raises(UserError, match=r"--audio .*: is not a folder"):
        source(tmp_path / "d/frames", audio=tmp_path / "x").ids()
    with pytest.raises(UserError, match="--fps: 0 is not in"):
        source(tmp_path, fps=0.0)


def test_lists_of_pairs_boxes_and_validation(root: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("video,audio,label\na,b,non-sounding\na,a,sounding\n")
    (tmp_path / "boxes.json").write_text(json.dumps([{"file": "a", "class": "owl", "bbox": [[0, 0, 1, 1]]}]))
    store = opened(
        source(root, lists=(tmp_path / "pairs.csv",), boxes=tmp_path / "boxes.json"), tmp_path / "pairs"
    )
    notes = [store.annotation(index) for index in range(2)]
    assert [(note.id, note.class_name, note.image) for note in notes] == [
        ("a+a", "owl", "a"),
        ("a+b", "", "a"),
    ]
    assert notes[1].boxes == []
    found = pack_both(source(root), tmp_path / "a", tmp_path / "b", share=0.4, seed=2)
    sides = [set(classes(open_store(out))) for out in found]
    assert all(sides) and not sides[0] & sides[1] and len(sides[0] | sides[1]) == 5


def test_a_folder_that_is_linked_into_itself_ends(tmp_path: Path) -> None:
    lay(tmp_path / "s/a", (1, 2))
    os.symlink(tmp_path / "s", tmp_path / "s/again")
    (tmp_path / "else/b").mkdir(parents=True)
    lay(tmp_path / "else/b", (1, 2))
    os.symlink(tmp_path / "else", tmp_path / "s/linked")
    assert make_plan(source(tmp_path / "s")).ids == ["a", "linked/b"]


def test_real_films_as_frames_are_packed_by_the_command(real_dir: Path, tmp_path: Path) -> None:
    """Frames of clips of VGG-SS at their own rate, sounds in a sister folder."""
    import soundfile

    films = sorted((real_dir / "vggss").glob("*.mp4"))[:2]
    for path in films:
        (tmp_path / "frames" / path.stem).mkdir(parents=True)
        (tmp_path / "audio").mkdir(exist_ok=True)
        with av.open(str(path)) as container:
            for number, one in enumerate(container.decode(video=0), start=1):
                if number > 40:
                    break
                one.to_image().save(tmp_path / "frames" / path.stem / f"{number:03d}.jpg")
        with av.open(str(path)) as container:
            samples = np.concatenate([one.to_ndarray().T for one in container.decode(audio=0)])
            rate = container.streams.audio[0].rate
        soundfile.write(tmp_path / f"audio/{path.stem}.wav", samples, rate)
    words = [
        "--root",
        str(tmp_path / "frames"),
        "--audio",
        str(tmp_path / "audio"),
        "--out",
        str(tmp_path / "out"),
    ]
    answer = cacl("pack", "frames", *words, "--fps", "8")
    assert answer.returncode == 0, answer.stderr
    store = open_store(tmp_path / "out")
    notes = [store.annotation(index) for index in store.indices.tolist()]
    assert [note.id for note in notes] == [path.stem for path in films] and "left out" not in answer.stdout
    assert {note.film for note in notes} == {path.stem[:11] for path in films}
    assert all(
        note.time == pytest.approx(39 / 8) for note in notes
    )  # of ten seconds the middle is past the last
