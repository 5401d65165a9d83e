"""VGGSound-Duet and MUSIC-Duet: two sources sound, each with its own boxes (promise 14)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacl.annotation import SoundSource
from cacl.errors import UserError
from shards.sources.duets import MusicDuet, VggSoundDuet
from tests.shards.sets import (
    FIRST,
    LONG,
    SECOND,
    SIDE,
    STORAGE,
    duets,
    hears,
    pair,
    refused,
    told,
    whole,
)


def test_a_duet_of_vgg_sound_is_two_clips_side_by_side(tmp_path: Path) -> None:
    source = VggSoundDuet(root=pair(tmp_path), storage=LONG)
    (id,) = source.ids()
    assert id == f"{FIRST}+{SECOND}" and source.group(id) == "abcdefghijk"
    clip = whole(source.read(id))
    assert clip.frame.shape == (SIDE, 2 * SIDE, 3)
    assert clip.frame[:, : SIDE - 2, 0].max() < 60 and clip.frame[:, SIDE + 2 :, 0].min() > 180
    elk, cough = clip.sources or ()
    assert elk == SoundSource("elk bugling", ((0.125, 0.5, 0.375, 1.0), (0.45, 0.1, 0.5, 0.2)))
    assert cough == SoundSource("people coughing", ((0.5, 0.0, 0.75, 0.5),)), "no box reaches into the other"
    assert clip.annotation.boxes == [*(elk.boxes or ()), *(cough.boxes or ())] and clip.film is None
    power = np.abs(np.fft.rfft(clip.audio))
    assert {int(at) for at in np.argsort(power)[-2:] / 10} == {440, 1000}, "both are heard"
    assert power[4400] == pytest.approx(power[10000], rel=1e-2) and np.abs(clip.audio).max() < 0.61


def test_a_pair_of_which_one_lacks_is_rejected(tmp_path: Path) -> None:
    root = pair(tmp_path)
    (root / f"audio/{SECOND}.wav").unlink()
    source = VggSoundDuet(root=root, storage=LONG)
    assert refused(source.read(source.ids()[0])) == f"audio/{SECOND}.wav: missing: there is no such file"
    (root / "list.txt").write_text(f"{FIRST}\n")
    listed = VggSoundDuet(root=root, storage=LONG, lists=(root / "list.txt",))
    assert refused(listed.read(FIRST)) == ": missing: a list of duets names <first>+<second>"
    (root / "vggsound_duet_test.csv").write_text(f"{FIRST},elk_bugling\n")
    with pytest.raises(UserError, match=r"vggsound_duet_test.csv: row 1: .* is no pair; give .* --pairs"):
        VggSoundDuet(root=root, storage=STORAGE).ids()


def test_a_duet_of_music_is_one_picture_with_two_who_play(tmp_path: Path) -> None:
    """Corner, width and height, not two corners; the sound is that of the frame's second in its film."""
    name = "abcdefghijk_001_00004"
    duets(tmp_path, name)
    source = MusicDuet(root=tmp_path, storage=STORAGE)
    clip = whole(source.read(name))
    cello = SoundSource("cello", ((0.25, 0.25, 0.5, 0.75),))
    assert clip.sources == (cello, SoundSource("acoustic guitar", ((0.5, 0.5, 0.9375, 0.75),)))
    assert (clip.film, clip.time) == ("abcdefghijk", 4.0) and hears(clip, 1.5) == pytest.approx(4.0, abs=0.05)
    told(tmp_path / f"audio/{name}.wav", 5.0)
    of_its_own = whole(MusicDuet(root=tmp_path, storage=STORAGE).read(name))
    assert of_its_own.time is None and hears(of_its_own, 1.5) == pytest.approx(1.5, abs=0.05)


@pytest.mark.parametrize(
    ("note", "sentence"),
    [
        (
            {"file": "a", "bbox_src1": [0, 0, 1]},
            r"frame 0: bbox_src1: expected four numbers, got \[0, 0, 1\]",
        ),
        ({"bbox_src1": [0, 0, 1, 1]}, r"frame 0: file: None is no name"),
        (3, r"frame 0: file: None is no name"),
    ],
)
def test_a_malformed_file_of_duets_is_one_sentence(tmp_path: Path, note: Any, sentence: str) -> None:
    (tmp_path / "music_duet.json").write_text(json.dumps([note]))
    with pytest.raises(UserError, match=f"music_duet.json: {sentence}.*; give music_duet.json with --boxes"):
        MusicDuet(root=tmp_path).ids()
