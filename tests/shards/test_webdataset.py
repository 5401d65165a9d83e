"""Other people's WebDataset shards, packed as they stand (promises 1, 2 and 12)."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from webdataset.tariterators import base_plus_ext

from cacl.errors import UserError
from launch.jobs.pack import pack, pack_both
from shards.parts import Member, list_part
from shards.plan import make_plan
from shards.sources.prepared import Prepared
from shards.sources.webdataset import WebDataset, _samples
from shards.store import open_store
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
    tone,
)
from tests.shards.test_tars import add, write_part
from tests.shards.tiny import jpg, smooth_picture, wav

PICTURE = jpg(smooth_picture(np.random.default_rng(0), 40, 56))
SOUND = wav(tone(), 16000)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def one_film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return film(tmp_path_factory.mktemp("film") / "film.mp4", seconds=1.5, size=(48, 32)).read_bytes()


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(PICTURE)).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def root(one_film: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of films and of pairs, with every way to say a class."""
    folder = tmp_path_factory.mktemp("shards")
    laid: dict[str, dict[str, bytes]] = {
        "b-000000.tar": {
            "./s2.mp4": one_film,
            "./s2.json": b'{"label": "owl", "id": 7}',
            "./s0.JPG": PICTURE,
            "./s0.wav": SOUND,
            "./s0.cls": b"3\n",
            "./s0.npy": b"nothing of ours",
        },
        "b-000001.tar.gz": {
            "x/t1.cls": b"dog",
            "x/t1.flac": sound("flac"),
            "x/t1.png": picture("PNG"),
            "x/t0.mp3": sound("mp3"),
            "x/t0.webp": picture("WEBP"),
            "x/t0.txt": b"a long caption\nof two lines",
            "t2.jpeg": PICTURE,
            "t2.ogg": sound("ogg"),
            "t2.json": b'{"class": ["dog", "owl"]}',
            "t3.jpeg": PICTURE,
            "t3.opus": sound("opus"),
        },
        "a/z.tgz": {"u.m4a": sound("m4a"), "u.jpg": PICTURE, "u.txt": b"cat", "__meta__/x.json": b"{}"},
    }
    for name, members in laid.items():
        write_part(folder / name, members)
    return folder


@pytest.fixture(scope="module")
def packed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "out"
    assert pack(source(root), out, shard_size=2)
    return out


def source(root: Path, **options) -> WebDataset:
    return WebDataset(root=root, storage=STORAGE, **options)


def test_indices_follow_shards_and_members_and_classes_come_through(root: Path, packed: Path) -> None:
    assert make_plan(source(root), 2).ids == ["u", "", "s2", "s0", "x/t1", "x/t0", "t2", "t3"]
    store = open_store(packed)
    assert store.manifest.parameters["order"] == "part-member" and store.manifest.parameters["runs"] == [
        1,
        2,
        4,
    ]
    assert rejected(packed) == {}
    assert classes(store) == {
        "u": ["cat"], "s2": ["owl"], "s0": ["3"], "x/t1": ["dog"], "x/t0": [], "t2": ["dog", "owl"], "t3": [],
    }  # fmt: skip
    (remark,) = source(root).remarks()
    assert (
        "2 members are left out, of endings that are not read: 1 of no ending (a/z.tgz: __meta__/x.json); "
        in remark
    )
    assert "1 of .npy (b-000000.tar: ./s0.npy)" in remark


def test_sounds_of_every_kind_are_the_same_tone(packed: Path) -> None:
    """A tone of 330 Hz and amplitude .4, whatever coded it: the lossy ones are within 10 % of its level."""
    store = open_store(packed)
    for index in [0, *store.indices[3:].tolist()]:
        samples = np.frombuffer(store.read(int(index))["wav"][44:], "<i2") / 32767
        spectrum = np.abs(np.fft.rfft(samples))
        assert spectrum.argmax() == 330, index
        assert np.sqrt(np.mean(samples[2000:-2000] ** 2)) == pytest.approx(0.4 / np.sqrt(2), rel=0.1)


def test_bytes_do_not_depend_on_workers_or_machines(root: Path, packed: Path, tmp_path: Path) -> None:
    assert_division_changes_nothing(source(root), packed, tmp_path)


def test_killed_it_goes_on_to_the_same_bytes(root: Path, packed: Path, tmp_path: Path) -> None:
    assert_goes_on_after_kills(["webdataset", "--root", root], packed, tmp_path / "out")


@given(st.text("ab._-/ \n", max_size=12))
def test_key_and_ending_are_split_as_the_library_does(name: str) -> None:
    theirs = base_plus_ext(name)
    ((key, [(ending, _)]),) = _samples([Member(name, 0, 0)])
    if theirs[0] is None or name.startswith("__"):
        assert not (key and theirs[0] is None)
    else:
        assert (key, ending) == (Path(theirs[0]).as_posix(), theirs[1])


def test_samples_are_those_that_the_library_reads(root: Path) -> None:
    """Other implementation: wds.WebDataset streams the same shards."""
    for shard, listing in ((path, list_part(path)) for path in sorted(root.glob("*.tar*"))):
        theirs = list(webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False))
        ours = [(key, {end for end, _ in members}) for key, members in _samples(listing.members)]
        expected = [(Path(one["__key__"]).as_posix(), {e for e in one if e[:2] != "__"}) for one in theirs]
        assert ours == expected and ours


def test_pairs_are_decoded_as_prepared_files_are(tmp_path: Path) -> None:
    """EXIF turned, 16-bit gray scaled, floats beyond ±1 scaled: the readers are the same."""
    turned, gray, loud = io.BytesIO(), io.BytesIO(), io.BytesIO()
    soundfile.write(loud, 3 * tone(rate=44100), 44100, format="WAV", subtype="FLOAT")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(PICTURE)).save(turned, "JPEG", exif=exif)
    Image.fromarray(np.linspace(0, 65535, 40 * 56).reshape(40, 56).astype(np.uint16)).save(gray, "PNG")
    files = {"a": turned.getvalue(), "b": gray.getvalue()}
    for id, data in files.items():
        for name, content in ((f"frames/{id}.jpg", data), (f"audio/{id}.wav", loud.getvalue())):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
    write_part(tmp_path / "s/0.tar", {f"{id}.{end}": data for id, picture in files.items()
                                      for end, data in (("jpg", picture), ("wav", loud.getvalue()))})  # fmt: skip
    ours = opened(source(tmp_path / "s"), tmp_path / "ours")
    theirs = opened(Prepared(root=tmp_path, storage=STORAGE), tmp_path / "theirs")
    assert len(ours.indices) == 2
    for index in (0, 1):
        assert ours.read(index) == theirs.read(index)
    assert Image.open(io.BytesIO(ours.read(0)["jpg"])).size == (32, 45)  # upright


# What cannot be used.


def test_a_sample_that_is_not_one_film_or_one_pair_is_rejected(one_film: bytes, tmp_path: Path) -> None:
    members = {
        "lone.jpg": PICTURE,
        "mute.wav": SOUND, "mute.json": b"{}",
        "word.txt": b"owl",
        "two.jpg": PICTURE, "two.png": PICTURE, "two.wav": SOUND,
        "both.mp4": one_film, "both.jpg": PICTURE,
        "void.jpg": b"", "void.wav": SOUND,
        "torn.jpg": PICTURE[:400], "torn.wav": SOUND,
        "mp4.mp4": b"no film",
        "note.jpg": PICTURE, "note.wav": SOUND, "note.json": b"{",
        "kind.jpg": PICTURE, "kind.wav": SOUND, "kind.json": b'{"label": {"a": 1}}',
        "../up.jpg": PICTURE, "../up.wav": SOUND,
        "good.jpg": PICTURE, "good.wav": SOUND,
    }  # fmt: skip
    write_part(tmp_path / "s/0.tar", members)
    store = opened(source(tmp_path / "s"), tmp_path / "out", 4)
    assert list(classes(store)) == ["good"]
    found = rejected(tmp_path / "out")
    assert all(file == f"0.tar: {id}" for id, (file, _) in found.items())
    reasons = {id: reason for id, (_, reason) in found.items()}
    assert reasons.pop("torn").startswith("undecodable frame: ")
    assert reasons.pop("mp4").startswith("undecodable video: ")
    assert reasons.pop("note").startswith("undecodable json: ")
    assert reasons == {
        "lone": "no sound: it has jpg",
        "mute": "no picture: it has wav, json",
        "word": "no film, picture or sound: it has txt",
        "two": "two of a kind: jpg, png, wav; name with --endings which are read",
        "both": "two of a kind: mp4, jpg; name with --endings which are read",
        "void": "empty: zero bytes",
        "kind": "no class: {'a': 1} is neither text nor number; choose another label",
        "../up": "no id: '../up' must be a name, without '..'",
    }


def test_endings_choose_among_several(one_film: bytes, tmp_path: Path) -> None:
    members = {"a.mp4": one_film, "a.jpg": PICTURE, "a.wide.png": PICTURE, "a.wav": SOUND}
    write_part(tmp_path / "s/0.tar", members)
    films = opened(source(tmp_path / "s", endings=("mp4",)), tmp_path / "films")
    assert films.annotation(0).time is not None
    pairs = opened(source(tmp_path / "s", endings=(".wide.png", "WAV")), tmp_path / "pairs")
    assert pairs.annotation(0).time is None
    with pytest.raises(UserError, match=r"another parameters \(endings: "):
        pack(source(tmp_path / "s", endings=("jpg", "wav")), tmp_path / "pairs", shard_size=2)
    with pytest.raises(UserError, match="--endings npy: is no ending of films, pictures or sounds"):
        source(tmp_path / "s", endings=("npy",))


def test_an_id_in_two_shards_or_in_two_places_of_one_is_a_duplicate(tmp_path: Path) -> None:
    pair = {"a.jpg": PICTURE, "a.wav": SOUND}
    write_part(
        tmp_path / "s/0.tar", {**pair, "b.jpg": PICTURE, "c.jpg": PICTURE, "b.wav": SOUND, "c.wav": SOUND}
    )
    write_part(tmp_path / "s/1.tar", {**pair, "d.jpg": PICTURE, "d.wav": SOUND})
    assert list(classes(opened(source(tmp_path / "s"), tmp_path / "out"))) == ["d"]
    apart = "twice; a sample's members must stand together"
    assert rejected(tmp_path / "out") == {
        "a": ("0.tar: a", "duplicate id: 0.tar: a, 1.tar: a"),
        "b": ("0.tar: b", f"duplicate id: 0.tar: b {apart}"),
        "c": ("0.tar: c", f"duplicate id: 0.tar: c {apart}"),
    }


@pytest.mark.parametrize("name", ["0.tar", "0.tar.gz"])
def test_a_shard_that_ends_early_costs_what_is_not_there(tmp_path: Path, name: str) -> None:
    """Promise 12: the member in which the damage lies is named with its shard."""
    noise = [os.urandom(40_000) for _ in range(4)]  # so that gzip leaves its length
    members = {f"{k}.{end}": data for k in range(4)
               for end, data in (("jpg", PICTURE), ("wav", SOUND), ("bin", noise[k]))}  # fmt: skip
    part = tmp_path / "s" / name
    write_part(part, members)
    last = list_part(part).members[-2]
    if name == "0.tar":
        os.truncate(part, last.offset + last.size // 2)
    else:
        os.truncate(part, part.stat().st_size - 44_000)
    opened(source(tmp_path / "s"), tmp_path / "out")
    found = rejected(tmp_path / "out")
    assert set(found) == {"3"}
    file, reason = found["3"]
    assert file in (f"{name}: 3.wav", f"{name}: 3") and reason.startswith(("damaged part: ", "no sound: "))
    assert any(remark.startswith(f"{name}: is damaged: ") for remark in source(tmp_path / "s").remarks())


def test_a_damaged_header_costs_its_sample(tmp_path: Path) -> None:
    part = tmp_path / "s/0.tar"
    write_part(part, {f"{k}.{end}": data for k in "ab" for end, data in (("jpg", PICTURE), ("wav", SOUND))})
    data = bytearray(part.read_bytes())
    data[list_part(part).members[1].offset - 512 + 10] ^= 0xFF
    part.write_bytes(data)
    assert list(classes(opened(source(tmp_path / "s"), tmp_path / "out"))) == ["b"]
    assert rejected(tmp_path / "out") == {"a": ("0.tar: a", "no sound: it has jpg")}


# Options.


def test_the_key_of_the_class_is_chosen_and_a_misspelled_one_refused(tmp_path: Path) -> None:
    note = json.dumps({"label": "owl", "species": 0, "more": None}).encode()
    write_part(tmp_path / "s/0.tar", {"a.jpg": PICTURE, "a.wav": SOUND, "a.json": note, "a.cls": b"bird"})
    for key, expected in ((None, "owl"), ("species", "0"), ("more", "bird")):
        store = opened(source(tmp_path / "s", label_key=key), tmp_path / str(key))
        assert classes(store) == {"a": [expected]}
    with pytest.raises(UserError, match=r"--label-key specie: .* their keys are label, more, species"):
        pack(source(tmp_path / "s", label_key="specie"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lists_and_boxes_name_samples_by_their_keys(root: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("x/t1\ns0\ngone\n")
    (tmp_path / "boxes.json").write_text(json.dumps([{"file": "x/t1", "bbox": [[0.1, 0.1, 0.5, 0.5]]}]))
    chosen = source(root, lists=(tmp_path / "list.txt",), boxes=tmp_path / "boxes.json")
    assert [id for id in make_plan(chosen, 2).ids if id] == ["s0", "x/t1", "gone"]
    store = opened(chosen, tmp_path / "out")
    notes = {note.id: note for note in map(store.annotation, store.indices.tolist())}
    assert notes["x/t1"].boxes == [(0.1, 0.1, 0.5, 0.5)] and notes["x/t1"].class_name == "dog"
    assert notes["s0"].boxes is None and notes["s0"].class_name == "3"
    assert rejected(tmp_path / "out") == {"gone": ("", "missing: no part holds it")}
    (tmp_path / "list.txt").write_text("gone\n")
    with pytest.raises(UserError, match=r"there lie .*: no table or list names any of them"):
        pack(source(root, lists=(tmp_path / "list.txt",)), tmp_path / "none")
    (tmp_path / "pairs.csv").write_text("video,audio,label\ns0,t2,non-sounding\n")
    with pytest.raises(UserError, match=r"--list: has a frame with another clip's sound, s0\+t2"):
        make_plan(source(root, lists=(tmp_path / "pairs.csv",)))


def test_validation_keeps_what_is_of_one_video_together(tmp_path: Path) -> None:
    ids = [f"{letter * 11}_{start:06d}" for letter in "abcdef" for start in (3, 40)]
    members = {f"{id}.{end}": data for id in ids for end, data in (("jpg", PICTURE), ("wav", SOUND))}
    write_part(tmp_path / "s/0.tar", dict(list(members.items())[:11]))
    write_part(tmp_path / "s/1.tar", dict(list(members.items())[12:]))
    found = pack_both(source(tmp_path / "s"), tmp_path / "a", tmp_path / "b", share=0.5, seed=3,
                      shard_size=2, max_rejected=0.5)  # fmt: skip
    sides = [{id[:11] for id in classes(open_store(out))} for out in found]
    assert all(sides) and not sides[0] & sides[1] and len(sides[0] | sides[1]) == 6


def test_where_there_is_no_sample_the_message_says_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UserError, match=r"holds no shard \(\*\.tar.*there lie a\.mp4: cacl pack videos"):
        source(tmp_path).ids()
    write_part(tmp_path / "s/0.tar", {"a.npy": b"1", "b.npy": b"2"})
    with pytest.raises(UserError, match=r"is in 0\.tar; .*2 of \.npy \(0\.tar: a\.npy, 0\.tar: b\.npy\)"):
        source(tmp_path / "s").ids()
    (tmp_path / "s/0.tar").write_bytes(os.urandom(3000))
    with pytest.raises(UserError, match=r"0\.tar: is damaged: at byte 0 there is no header"):
        source(tmp_path / "s", shortest=0.5).ids()


def test_links_in_a_shard_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with tarfile.open(tmp_path / "s/0.tar", "w") as tar:
        add(tar, "a.jpg", PICTURE)
        link = tarfile.TarInfo("a.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    opened(source(tmp_path / "s"), tmp_path / "out")
    assert rejected(tmp_path / "out") == {"a": ("0.tar: a", "no sound: it has jpg")}


def test_real_clips_written_by_the_library_are_packed_by_the_command(real_dir: Path, tmp_path: Path) -> None:
    """Films with classes in json, pairs with numbers in cls, as `webdataset.ShardWriter` writes them."""
    rows = json.loads((real_dir / "manifest.json").read_text())
    names = {row["key"]: row["cls"] for row in rows if row["file"].startswith("vggss/")}
    (tmp_path / "s").mkdir()
    with webdataset.ShardWriter(str(tmp_path / "s/films-%06d.tar"), maxcount=3, verbose=0) as writer:
        for path in sorted((real_dir / "vggss").glob("*.mp4"))[:6]:
            writer.write(
                {"__key__": path.stem, "mp4": path.read_bytes(), "json": {"label": names[path.stem]}}
            )
    with webdataset.ShardWriter(str(tmp_path / "s/pairs-%06d.tar.gz"), maxcount=3, verbose=0) as writer:
        for path in sorted((real_dir / "vggss_pairs").glob("*.jpg"))[:3]:
            sample = {"jpg": path.read_bytes(), "wav": path.with_suffix(".wav").read_bytes(), "cls": 4}
            writer.write({"__key__": path.stem, **sample})
    answer = cacl("pack", "webdataset", "--root", str(tmp_path / "s"), "--out", str(tmp_path / "out"))
    assert answer.returncode == 0, answer.stderr
    found = classes(open_store(tmp_path / "out"))
    assert len(found) == 9 and rejected(tmp_path / "out") == {}
    assert all(
        heard == [names.get(id, "4") if list(found).index(id) < 6 else "4"] for id, heard in found.items()
    )
