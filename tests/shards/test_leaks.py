"""Leaks by content: planted ones are found under any name, and real media have those of a list made by hand."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from launch.jobs.audit import Finding, audit
from launch.jobs.pack import pack
from shards.clip import Storage
from shards.exclusion import excluded
from shards.prints import prints_of
from shards.sources.prepared import Prepared
from shards.sources.videos import Videos
from shards.store import open_store
from tests.launch.tiny import cacl
from tests.shards.films import bunny, film
from tests.shards.transcoded import transcode

TESTED = "aaaaaaaaaaa_000030"
PLANTED = {
    "same id": (TESTED, {"clip", "frame", "sound"}),
    "other name": ("holiday", {"frame", "sound"}),
    "cut window": ("window", {"sound"}),
    "encoded anew at another size": ("small", {"frame", "sound"}),
}
OTHERS = ["other-0", "other-1", "other-2"]


def packed_films(root: Path, out: Path) -> Path:
    pack(Videos(root=root, storage=Storage(frame_side=128, seconds=3.0)), out)
    return out


def unrelated(path: Path, seed: int) -> Path:
    """Encode a film of three seconds whose sound is like no other: noise whose loudness wanders."""
    random = np.random.default_rng(seed)
    loudness = np.repeat(random.uniform(0.02, 0.3, 60), 800)
    return film(path, audio=random.normal(0, 1, 48_000) * loudness, size=(64 + 32 * seed, 96))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A training set with four leaks, and the test set, a film that a camera has not taken but people drew."""
    root = tmp_path_factory.mktemp("leaks")
    training, tested = root / "films", root / "tested"
    for folder in (training, tested):
        folder.mkdir()
    shutil.copy(bunny(), tested / f"{TESTED}.mp4")
    unrelated(tested / "own.mp4", 7)
    shutil.copy(bunny(), training / f"{TESTED}.mp4")
    shutil.copy(bunny(), training / "holiday.mp4")
    transcode(bunny(), training / "window.mp4", size=(640, 360), begin=0.7)
    transcode(bunny(), training / "small.mkv", size=(256, 144), audio_codec="libmp3lame", audio_rate=32_000)
    for number, name in enumerate(OTHERS):
        unrelated(training / f"{name}.mp4", number)
    return packed_films(training, root / "train"), packed_films(tested, root / "test")


@pytest.fixture(scope="module")
def finding(sets: tuple[Path, Path]) -> Finding:
    return audit(sets[0], [sets[1]]).findings[0]


@pytest.mark.parametrize("planted", PLANTED)
def test_a_leak_is_found_however_it_was_made(finding: Finding, planted: str) -> None:
    id, kinds = PLANTED[planted]
    found = {kind: shared.pairs for kind, shared in finding.leak.items() if id in shared.training}
    assert found.keys() >= kinds
    assert all((id, TESTED) in pairs for pairs in found.values())


def test_nothing_else_is_found(finding: Finding) -> None:
    planted = {id for id, _ in PLANTED.values()}
    for shared in finding.leak.values():
        assert shared.training <= planted and shared.tested <= {TESTED}


def test_what_the_audit_writes_packing_and_training_take(sets: tuple[Path, Path], tmp_path: Path) -> None:
    training, tested = sets
    clean, exclude, pairs = (tmp_path / name for name in ("clean.txt", "exclude.txt", "pairs.csv"))
    words = ["--clean", str(clean), "--exclude", str(exclude), "--pairs", str(pairs)]
    done = cacl("shards", "audit", str(training), "--against", str(tested), *words)
    assert done.returncode == 0, done.stderr
    assert "1 of its 2 clips stand in the training set" in done.stdout
    assert "play a sound of its clips, such as" in done.stdout and "just missed" in done.stdout
    assert clean.read_text().split() == OTHERS
    assert f"{tested},sound,window,{TESTED}" in pairs.read_text().splitlines()
    source = Videos(root=training.parent / "films", lists=(clean,))
    assert source.ids() == OTHERS
    store = open_store(training)
    left = [store.annotation(int(index)).id for shard in excluded(store, exclude) for index in shard]
    assert left == OTHERS


def test_by_names_alone_no_frame_is_decoded(sets: tuple[Path, Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CACL_CACHE", str(tmp_path / "cache"))
    finding = audit(sets[0], [sets[1]], by="names").findings[0]
    assert finding.leak["clip"].pairs == [(TESTED, TESTED)] and finding.compared is None
    assert not (tmp_path / "cache").exists()


def test_a_set_against_itself_says_what_is_in_it_twice(sets: tuple[Path, Path]) -> None:
    """Each pair once, the later clip first; of copies one stays clean."""
    found = audit(sets[0], [sets[0]])
    pairs = {frozenset(pair) for pair in found.findings[0].leak["sound"].pairs}
    planted = sorted(id for id, _ in PLANTED.values())
    assert pairs == {frozenset(pair) for pair in itertools.combinations(planted, 2)}
    assert len(found.findings[0].leak["sound"].pairs) == len(pairs)
    assert found.clean == sorted([planted[0], *OTHERS]) and not found.findings[0].leak["clip"].count


def test_prints_are_kept_and_a_damaged_file_is_made_anew(
    sets: tuple[Path, Path], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("CACL_CACHE", str(tmp_path))
    store = open_store(sets[0])
    first = prints_of(store)
    (file,) = (tmp_path / "prints").rglob("*.npz")
    written = file.stat().st_mtime_ns
    assert np.array_equal(prints_of(store).sounds, first.sounds) and file.stat().st_mtime_ns == written
    file.write_bytes(file.read_bytes()[:-100])
    again = prints_of(store)
    assert np.array_equal(again.frames, first.frames) and np.array_equal(again.sounds, first.sounds)


def test_what_does_not_decode_has_no_print(sets: tuple[Path, Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CACL_CACHE", str(tmp_path / "cache"))
    copy = Path(shutil.copytree(sets[0], tmp_path / "copy"))
    (tar,) = copy.glob("*.tar")
    tar.write_bytes(tar.read_bytes().replace(b"\xff\xd8\xff\xe0", b"\x00\x00\x00\x00", 1))
    tar.write_bytes(tar.read_bytes().replace(b"WAVEfmt ", b"WAVExxx ", 1))
    prints = prints_of(open_store(copy))
    assert not prints.frames[0].any() and not prints.sounds[0].any()
    assert prints.frames[1].any() and prints.sounds[1:].any(1).all()


TWICE = [
    {"lion_snowmobile_743_lion", "lion_chainsaw_756_lion"},
    {"cello_popcorn_3899_cello", "cello_female_3919_cello"},
    {"lion_electronicorgan_803_lion", "lion_goat_849_lion"},
    {"cello_chinchilla_3913_cello", "cello_male_3879_cello", "cello_people_3982_cello", "slotmachine_cello_2171_cello"},
    {"lion_vacuumcleaner_645_lion", "lion_motorboat_736_lion"},
    {"piano_accordion_9430_accordion", "parrot_accordion_1557_accordion", "accordion_female_10438_accordion"},
    {"accordion_child_10519_accordion", "train_accordion_6155_accordion"},
]  # fmt: skip
"""Pictures of IS3 that have one sound, byte for byte."""
TWO_FOLDERS = "BCzUvCRiBZs_000020"
"""A clip of VGG-SS that is there as a film, and as a frame and three seconds of its sound."""


def test_real_media_share_what_a_list_made_by_hand_says(real_dir: Path, tmp_path: Path) -> None:
    """All of it against itself: 113 clips, 6,328 pairs. Each is found, and no other."""
    pairs, films = tmp_path / "pairs", tmp_path / "films"
    for folder in ("frames", "audio"):
        (pairs / folder).mkdir(parents=True)
    for picture in (
        path for name in ("is3", "vggss_pairs", "flickr") for path in (real_dir / name).glob("*.jpg")
    ):
        (pairs / "frames" / picture.name).symlink_to(picture)
        (pairs / "audio" / f"{picture.stem}.wav").symlink_to(picture.with_suffix(".wav"))
    pack(Prepared(root=pairs), tmp_path / "a")
    for name in ("vggss", "vggsound", "odd"):
        (films / name).parent.mkdir(exist_ok=True)
        (films / name).symlink_to(real_dir / name)
    pack(Videos(root=films), tmp_path / "b", max_rejected=0.2)
    found = audit(tmp_path / "b", [tmp_path / "b", tmp_path / "a"], by="content").findings
    (itself,) = audit(tmp_path / "a", [tmp_path / "a"]).findings
    assert not any(shared.count for shared in found[0].leak.values())
    for kind in ("frame", "sound"):
        assert found[1].leak[kind].pairs == [(f"vggss/{TWO_FOLDERS}", TWO_FOLDERS)]
    expected = {frozenset(pair) for group in TWICE for pair in itertools.combinations(group, 2)}
    assert {frozenset(pair) for pair in itself.leak["sound"].pairs} == expected
    assert itself.leak["sound"].count == len(expected) == 14
    assert not any(itself.leak[kind].count for kind in ("clip", "moment", "frame"))
