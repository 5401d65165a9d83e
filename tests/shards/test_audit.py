"""`cacl shards`: every fault is found, leaks are counted as the public lists have them, splits stay."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cacl.annotation import SoundSource
from launch.main import main
from shards import manifest as manifests
from shards.audit import Leak, compare_names
from shards.clip import Clip, encode_mask, encode_wav, members
from shards.cut import Cut
from shards.manifest import Shard
from shards.named import named, read_clips
from shards.pack import merge, pack
from shards.plan import make_plan
from shards.sources.generated import Generated
from shards.sources.vggsound import VggSound
from shards.store import LocalFiles, Store, write_index
from shards.verify import ShardVerifier, verify
from shards.writer import TarWriter
from shards.youtube import youtube_video
from tests.shards.classed import Classed


def cacl(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("once") / "generated"
    plan = make_plan(Generated(split="test", clips=6), 3)
    pack(plan, out)
    merge(plan.head, out, 0.0)
    return out


@pytest.fixture
def folder(once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(once, tmp_path / "copy"))


def forge(folder: Path, number: int, change: tuple[bytes, bytes]) -> None:
    """Change bytes within a shard and make every checksum right again."""
    tar = folder / manifests.shard_name(number)
    data = tar.read_bytes()
    assert data.count(change[0]) >= 1 and len(change[0]) == len(change[1])
    data = data.replace(*change, 1)
    tar.write_bytes(data)
    manifest = manifests.load(folder)
    shard = dataclasses.replace(manifest.shards[number], sha256=hashlib.sha256(data).hexdigest())
    changed = tuple(shard if k == number else each for k, each in enumerate(manifest.shards))
    (folder / "manifest.json").write_text(dataclasses.replace(manifest, shards=changed).to_json())


def test_sound_shards_are_sound(once: Path) -> None:
    assert list(verify(once, 2)) == []
    done = cacl("shards", "info", once)
    assert done.returncode == 0 and "6 of 6 ids, 0 rejected" in done.stdout


def test_one_flipped_bit_is_found(folder: Path) -> None:
    tar = folder / "shard-000001.tar"
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.write_bytes(data)
    done = cacl("shards", "verify", folder)
    assert done.returncode == 2
    assert "shard-000001.tar: is damaged" in done.stdout and "1 faults, named above" in done.stderr


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ((b"\xff\xd8\xff\xe0", b"\x00\x00\x00\x00"), "it is no JPEG"),
        ((b'"index": 4', b'"index": 5'), "says that it is clip 5"),
        ((b"\x80\x3e\x00\x00\x00\x7d", b"\x40\x1f\x00\x00\x00\x7d"), "has channels, bytes a sample and rate"),
    ],
    ids=["jpeg", "index", "rate"],
)
def test_a_broken_sample_is_found_under_right_checksums(
    folder: Path, change: tuple[bytes, bytes], expected: str
) -> None:
    forge(folder, 1, change)
    problems = list(verify(folder, 1))
    assert len(problems) == 1 and expected in problems[0] and "shard-000001.tar: 00000000" in problems[0]


def test_every_shard_is_verified(folder: Path) -> None:
    """The first, the last and those between: `verify` names each that is damaged."""
    for number in range(2):
        tar = folder / manifests.shard_name(number)
        tar.write_bytes(tar.read_bytes()[:-1] + b"1")
    names = {problem.partition(":")[0].rpartition("/")[2] for problem in verify(folder, 1)}
    assert names == {"shard-000000.tar", "shard-000001.tar"}


@pytest.mark.parametrize(
    ("member", "made", "expected"),
    [
        ("1.mask.png", lambda: encode_mask(np.ones((8, 8), bool)), "1.mask.png is not of the frame's size"),
        ("2.mask.png", lambda: b"", "does not name the member 2.mask.png"),
        ("other.wav", lambda: encode_wav(np.zeros(1599), 16000), "other.wav has not the 1600 samples"),
        ("wav", lambda: encode_wav(np.zeros(1601), 16000), "wav has not the 1600 samples"),
    ],
)
def test_members_that_do_not_fit_their_clip_are_found(tmp_path: Path, member, made, expected) -> None:
    """Under right checksums, as a packer of another release might have written them."""
    assert _problems_of_a_shard(tmp_path / "right", {}) == []
    (problem,) = _problems_of_a_shard(tmp_path / "wrong", {member: made()})
    assert expected in problem and "000000001" in problem


def _problems_of_a_shard(out: Path, changed: dict[str, bytes]) -> list[str]:
    """Write two clips with every kind of member, the second with changed ones; return what verifying says."""
    plan = make_plan(Classed(classes=("a", "b")), 2)
    out.mkdir()
    places = {}
    with TarWriter(out / manifests.shard_name(0)) as tar:
        for index, id in enumerate(plan.ids):
            clip = plan.source.read(id)
            assert isinstance(clip, Clip), "none of them is broken"
            mask = np.ones(clip.frame.shape[:2], bool)
            sources = SoundSource("a", mask=mask), SoundSource(mask=mask, audible=False, audio="other.wav")
            clip = dataclasses.replace(clip, sources=sources, sounds={"other.wav": clip.audio})
            found = members(clip, index, plan.source.storage)
            places[index] = tar.add(index, found | (changed if index == 1 else {}))
    text = write_index(places)
    index_sha256 = hashlib.sha256(text.encode()).hexdigest()
    shard = Shard(manifests.shard_name(0), 2, tar.size, tar.sha256, (), len(text), index_sha256)
    (out / shard.index_url).write_text(text)
    store = Store(dataclasses.replace(plan.head, shards=(shard,)), LocalFiles(out))
    return ShardVerifier(store)(0, {}, lambda index: None)


def test_an_index_that_is_not_the_tars_is_found(folder: Path) -> None:
    path = folder / "shard-000000.idx"
    text = path.read_text().replace("jpg 512 ", "jpg 513 ")
    path.write_text(text)
    manifest = manifests.load(folder)
    forged = dataclasses.replace(manifest.shards[0], index_sha256=hashlib.sha256(text.encode()).hexdigest())
    manifest = dataclasses.replace(manifest, shards=(forged, *manifest.shards[1:]))
    (folder / "manifest.json").write_text(manifest.to_json())
    assert ["does not say where the clips lie" in problem for problem in verify(folder, 1)] == [True]


def leak_of(training: list[str], tested: list[str]) -> Leak:
    return compare_names([named(id) for id in training], [named(id) for id in tested])


LEAKS = [
    ("vggss_144k.txt", "vggss_test.csv", 3709),
    ("vggss_10k.txt", "vggss_test.csv", 238),
    ("vggss_heard.txt", "vggss_test.csv", 0),
    ("flickr_144k.txt", "flickr_test.csv", 20),
    ("flickr_10k.txt", "flickr_test.csv", 1),
]


@pytest.mark.parametrize(("training", "test", "count"), LEAKS)
def test_the_leaks_of_the_public_lists(lists_dir: Path, training: str, test: str, count: int) -> None:
    leak = compare_names(read_clips(lists_dir / training), read_clips(lists_dir / test))
    assert len(leak["clip"].training) == len(leak["clip"].tested) == count and not leak["moment"].count


def test_a_clean_list_and_its_validation_split_share_nothing_with_the_test(
    lists_dir: Path, tmp_path: Path
) -> None:
    clean, validation = tmp_path / "clean.txt", tmp_path / "validation.txt"
    test = lists_dir / "vggss_test.csv"
    done = cacl(
        "shards",
        "audit",
        lists_dir / "vggss_10k.txt",
        "--against",
        test,
        "--clean",
        clean,
        "--validation",
        validation,
    )
    assert done.returncode == 0, done.stderr
    assert "238 of its 5158 clips stand in the training set" in done.stdout
    sets = [{clip.id for clip in read_clips(path)} for path in (clean, validation, test)]
    assert not sets[0] & sets[1] and not sets[0] & sets[2] and not sets[1] & sets[2]
    assert len(sets[0] | sets[1]) == 10_000 - 238 - 2  # 2: other parts of tested videos
    assert not {youtube_video(id) for id in sets[0] | sets[1]} & {youtube_video(id) for id in sets[2]}


def test_packed_shards_can_be_audited(once: Path, folder: Path) -> None:
    assert {clip.id for clip in read_clips(once)} == {f"test-{k:06d}" for k in range(6)}
    done = cacl("shards", "audit", once, "--against", folder, "--by", "names")
    assert "6 of its 6 clips stand in the training set" in done.stdout and "clean: 0 clips" in done.stdout


def test_a_leak_is_the_same_clip_or_another_part_of_the_same_video() -> None:
    """Flickr's ids are no YouTube ids: the same beginning means nothing there."""
    training = ["aaaaaaaaaaa_000010", "aaaaaaaaaaa_000020", "bbbbbbbbbbb_000000", "1234_000010", "1234"]
    leak = leak_of(training, ["aaaaaaaaaaa_000020", "1234_000020", "1234", "ccccccccccc_000000"])
    assert leak["clip"].training == {"1234", "aaaaaaaaaaa_000020"}
    assert leak["film"].training == {"aaaaaaaaaaa_000010"}
    none = leak_of(["dddddddd_000010"], ["eeeeeeee_000010"])
    assert not any(shared.count for shared in none.values())


def test_a_clean_list_shares_no_frame_no_sound_and_no_video_with_a_list_of_pairs(tmp_path: Path) -> None:
    """The Extended lists pair a frame with another clip's sound: neither may have been trained on."""
    names = [f"{letter * 11}_{start:06d}" for letter in "abcdefghijkl" for start in (0, 10)]
    training, test, clean = tmp_path / "training.txt", tmp_path / "test.csv", tmp_path / "clean.txt"
    validation = tmp_path / "validation.txt"
    training.write_text("\n".join(names))
    test.write_text(f"video,audio,label\n{names[0]},{names[2]},non-sounding\n")
    words = ["--against", test, "--clean", clean, "--validation", validation, "--share", "0.25"]
    assert main(["shards", "audit", *map(str, [training, *words])]) == 0
    kept, chosen = clean.read_text().split(), validation.read_text().split()
    assert sorted(kept + chosen) == names[4:], "a and b are gone, both parts of each"
    assert chosen and kept and not set(kept) & set(chosen)
    assert not {youtube_video(id) for id in kept} & {youtube_video(id) for id in chosen}


def test_the_validation_list_is_the_split_that_packing_would_cut(tmp_path: Path) -> None:
    """One rule, wherever it is asked: a list of the audit, and `cacl pack vggsound --list ... --validation`."""
    names = [f"{letter * 11}_{start:06d}" for letter in "abcdefghijklmnop" for start in (0, 10)]
    (tmp_path / "all.txt").write_text("\n".join(names))
    words = ["--validation", str(tmp_path / "split.txt"), "--share", "0.3"]
    assert main(["shards", "audit", str(tmp_path / "all.txt"), *words]) == 0
    source = VggSound(root=tmp_path, lists=(tmp_path / "all.txt",))
    plan = make_plan(source, cut=Cut("validation", 0.3))
    assert (tmp_path / "split.txt").read_text().split() == plan.ids
