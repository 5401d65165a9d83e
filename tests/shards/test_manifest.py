"""Promises 2 and 12: the manifest, and shards that nobody vouches for: refused in one sentence, never obeyed."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
import shutil
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacl.errors import UserError
from cacl.files import sha256_file
from shards import manifest as manifests
from shards import verify as verifying
from shards.manifest import Manifest
from shards.pack import merge, pack
from shards.plan import make_plan
from shards.store import LocalFiles, Store, open_store, read_index
from tests.shards.fragile import Fragile


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small clips in three shards, one clip rejected."""
    out = tmp_path_factory.mktemp("once") / "fragile"
    plan = make_plan(Fragile(broken=("clip-06",)), 4)
    pack(plan, out)
    merge(plan.head, out, 1.0)
    return out


@pytest.fixture
def folder(once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(once, tmp_path / "copy"))


def rewritten(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_manifest_is_a_wids_index_with_more_keys(once: Path) -> None:
    values = json.loads((once / "manifest.json").read_text())
    assert values["wids_version"] == 1 and values["__kind__"] == "wids-shard-index-v1"
    for entry in values["shardlist"]:
        assert (once / entry["url"]).stat().st_size == entry["filesize"]
        with tarfile.open(once / entry["url"]) as tar:
            assert len({name.partition(".")[0] for name in tar.getnames()}) == entry["nsamples"]
    assert [entry["missing"] for entry in values["shardlist"]] == [[], [6], []]


def test_the_fingerprint_follows_content_and_parameters_and_nothing_else(once: Path) -> None:
    manifest = manifests.load(once)
    other = dataclasses.replace(manifest.shards[1], sha256="0" * 64)
    gap = dataclasses.replace(manifest.shards[1], missing=(5,))
    for changed in (
        {"source": "other"},
        {"parameters": {**manifest.parameters, "seed": 1}},
        {"ids_sha256": "0" * 64},
        {"shard_size": 5},
        {"shards": (manifest.shards[0], other, manifest.shards[2])},
        {"shards": (manifest.shards[0], gap, manifest.shards[2])},
    ):
        assert dataclasses.replace(manifest, **changed).fingerprint != manifest.fingerprint
    same = dataclasses.replace(manifest, environment={"numpy": "9"})
    assert same.fingerprint == manifest.fingerprint
    assert Manifest.from_json(manifest.to_json(), "copy") == manifest


def test_an_unknown_version_and_a_changed_manifest_are_one_sentence(folder: Path) -> None:
    rewritten(folder, format_version=99)
    with pytest.raises(UserError, match=r"manifest.json: format_version is 99 and this release reads 1"):
        open_store(folder)
    rewritten(folder, format_version=1, source="another")
    with pytest.raises(UserError, match=r"manifest.json: is damaged .*fingerprint"):
        open_store(folder)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_spoiled_manifest_is_refused_or_the_same(once: Path, data: st.DataObject) -> None:
    text = (once / "manifest.json").read_bytes()
    at = data.draw(st.integers(0, len(text) - 1))
    spoiled = data.draw(
        st.sampled_from(
            [text[:at], text[:at] + bytes([text[at] ^ 4]) + text[at + 1 :], text[:at] + text[at + 1 :]]
        )
    )
    original = Manifest.from_json(text, "original")
    try:
        found = Manifest.from_json(spoiled, "spoiled")
    except UserError as error:
        assert str(error).startswith("spoiled: ")
    else:
        # Only what the fingerprint leaves out by design can differ: the environment and the index files.
        assert found.fingerprint == original.fingerprint


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_spoiled_index_is_refused_or_stays_within_the_tar(once: Path, tmp_path_factory, data) -> None:
    text, size = (once / "shard-000000.idx").read_bytes(), (once / "shard-000000.tar").stat().st_size
    at = data.draw(st.integers(0, len(text) - 1))
    byte = data.draw(st.sampled_from(b"019 .\n/a\xff"))
    path = tmp_path_factory.getbasetemp() / "spoiled.idx"
    path.write_bytes(data.draw(st.sampled_from([text[:at], text[:at] + bytes([byte]) + text[at + 1 :]])))
    try:
        places = read_index(path, size)
    except UserError as error:
        assert "is no index of a shard" in str(error)
    else:
        for sample in places.values():
            assert all(0 <= offset <= offset + length <= size for offset, length in sample.values())


@pytest.mark.parametrize(
    "spoiled",
    [
        b"[" * 100_000,
        b'{"format_version": 1, "shardlist": [1]}',
        b'{"format_version": 1}',
        b"[]",
        b"\xff\xfe",
    ],
    ids=["deep", "no-shards", "no-values", "list", "bytes"],
)
def test_what_is_no_manifest_is_one_sentence(spoiled: bytes) -> None:
    with pytest.raises(UserError, match=r"^spoiled: is (not a manifest|damaged)"):
        Manifest.from_json(spoiled, "spoiled")


@pytest.mark.parametrize(
    "claim",
    [{"ids": 10**15, "shard_size": 10**15}, {"ids": 10**15}, {"ids": float("inf")}, {"shard_size": 0}],
)
def test_a_manifest_that_claims_too_much_is_refused_before_anything_is_counted(once: Path, claim) -> None:
    """Its maker knows how to make a fingerprint."""
    shards = manifests.load(once).shards[:1] if "shard_size" in claim else manifests.load(once).shards
    forged = dataclasses.replace(manifests.load(once), shards=shards, **claim)
    with pytest.raises(UserError, match="forged: is damaged"):
        Manifest.from_json(forged.to_json(), "forged")


@pytest.mark.parametrize(
    "url", ["../shard-000000.tar", "/etc/passwd", "http://a/shard-000000.tar", "shard-000001.tar"]
)
def test_a_manifest_cannot_point_elsewhere(folder: Path, url: str) -> None:
    values = json.loads((folder / "manifest.json").read_text())
    values["shardlist"][0]["url"] = url
    rewritten(folder, shardlist=values["shardlist"])
    with pytest.raises(UserError, match="is damaged"):
        open_store(folder)


def evil_tar(path: Path, name: str, kind: bytes = tarfile.REGTYPE) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        member = tarfile.TarInfo(name)
        member.type, member.size, member.linkname = kind, 4 if kind == tarfile.REGTYPE else 0, "/etc/passwd"
        tar.addfile(member, io.BytesIO(b"evil") if kind == tarfile.REGTYPE else None)


@pytest.mark.parametrize("sha256", ["../x", "/tmp/x", "A" * 64, "0" * 63, ""])
@pytest.mark.parametrize("field", ["sha256", "index_sha256"])
def test_a_hash_that_would_name_a_file_elsewhere_is_refused(once: Path, sha256: str, field: str) -> None:
    values = json.loads((once / "manifest.json").read_text())
    values["shardlist"][0][field] = sha256
    with pytest.raises(UserError, match=r"^m: is damaged .*is no sha256"):
        Manifest.from_json(json.dumps(values), "m")


def forge(folder: Path) -> None:
    """Give the manifest size and checksum of the first tar, whatever it holds."""
    manifest, data = manifests.load(folder), (folder / "shard-000000.tar").read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    forged = dataclasses.replace(manifest.shards[0], filesize=len(data), sha256=sha256)
    manifest = dataclasses.replace(manifest, shards=(forged, *manifest.shards[1:]))
    (folder / "manifest.json").write_text(manifest.to_json())


@pytest.mark.parametrize(
    "size",
    [b"\xff" + (2**88 - 512).to_bytes(11, "big"), b"\x80" + (2**80).to_bytes(11, "big"), b"99999999999\0"],
)
@pytest.mark.parametrize("kind", [b"0", b"L", b"x"], ids=["file", "long name", "pax"])
def test_a_header_that_lies_about_its_size_is_a_sentence(folder: Path, size: bytes, kind: bytes) -> None:
    """`tarfile` goes round in a negative size for ever (CVE-2025-8194)."""
    header = bytearray(tarfile.TarInfo("000000003.jpg").tobuf(tarfile.USTAR_FORMAT))
    header[124:136], header[156:157], header[148:156] = size, kind, b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    tar = folder / "shard-000000.tar"
    tar.write_bytes(bytes(header) + tar.read_bytes())
    forge(folder)
    (problem, *others) = verifying.verify(folder, 1)
    assert "shard-000000.tar" in problem and "copy it again or pack again" in problem and "\n" not in problem
    assert not any("shard-000000" in other for other in others)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../../evil.jpg", tarfile.REGTYPE),
        ("/tmp/evil.jpg", tarfile.REGTYPE),
        ("000000000.jpg", tarfile.SYMTYPE),
    ],
)
def test_no_path_in_a_tar_is_followed(folder: Path, name: str, kind: bytes) -> None:
    """The tar's maker also made manifest and index, so every checksum is right."""
    evil_tar(folder / "shard-000000.tar", name, kind)
    forge(folder)
    before = sorted(path.name for path in folder.parent.rglob("*"))
    problems = list(verifying.verify(folder, 1))
    assert problems
    assert sorted(path.name for path in folder.parent.rglob("*")) == before


def test_a_member_over_the_limit_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shards.store.MEMBER_LIMIT", 100)
    with pytest.raises(UserError, match="over 100 bytes"):
        open_store(folder).read(0)


def test_members_far_apart_are_not_read_with_all_that_lies_between(folder: Path, monkeypatch) -> None:
    index = folder / "shard-000000.idx"
    places = read_index(index, (folder / "shard-000000.tar").stat().st_size)
    largest = max(size for sample in places.values() for _, size in sample.values())
    monkeypatch.setattr("shards.store.MEMBER_LIMIT", largest)
    with pytest.raises(UserError, match=r"shard-000000.tar: clip 0 spans \d+ bytes"):
        open_store(folder).read(0)
    assert open_store(folder).annotation(0).id == "clip-00"


@pytest.mark.parametrize(
    "change", [(b'{"format', b'["format'), (b"json", b"yaml")], ids=["spoiled", "missing"]
)
def test_a_clip_without_its_annotation_is_named(folder: Path, change: tuple[bytes, bytes]) -> None:
    for path in (folder / "shard-000001.tar", folder / "shard-000001.idx"):
        path.write_bytes(path.read_bytes().replace(*change))
    with pytest.raises(UserError, match=r"shard-000001.tar: 000000004: has no annotation \(json\)"):
        open_store(folder).annotation(4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_truncation_of_a_tar_gives_other_bytes(once: Path, tmp_path_factory, data) -> None:
    """Under a manifest with the cut tar's size: what is read is right, or the clip is named."""
    whole = (once / "shard-000000.tar").read_bytes()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    folder = tmp_path_factory.mktemp("cut")
    (folder / "shard-000000.idx").write_bytes((once / "shard-000000.idx").read_bytes())
    (folder / "shard-000000.tar").write_bytes(cut)
    manifest = manifests.load(once)
    shards = (dataclasses.replace(manifest.shards[0], filesize=len(cut)), *manifest.shards[1:])
    store = Store(dataclasses.replace(manifest, shards=shards), LocalFiles(folder))
    original = open_store(once)
    for index in range(4):
        try:
            assert store.read(index) == original.read(index)
        except UserError as error:
            assert "shard-000000" in str(error)


def test_nothing_in_the_shards_room_unpickles() -> None:
    root = Path(manifests.__file__).parent
    for path in root.rglob("*.py"):
        text = path.read_text()
        assert "import pickle" not in text and "extractall" not in text, path


# Reading.


def test_missing_and_cut_files_are_named(folder: Path) -> None:
    with (folder / "shard-000000.tar").open("ab") as file:
        file.truncate(2000)
    with pytest.raises(UserError, match=r"shard-000000.tar: has 2000 bytes, not \d+"):
        open_store(folder).read(0)
    (folder / "shard-000001.idx").unlink()
    with pytest.raises(UserError, match=r"shard-000001.idx: is missing"):
        open_store(folder).read(4)
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest.json: there is no manifest; pack first"):
        open_store(folder)


def test_a_store_reads_the_members_of_the_tar(once: Path) -> None:
    store = open_store(once)
    for shard in sorted(once.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None and store.read(int(key))[extension] == file.read()
    assert store.annotation(5).id == "clip-05"
    assert store.where(5).endswith("shard-000001.tar: 000000005")


def test_a_store_is_shared_by_threads_and_pickled(once: Path) -> None:
    store = open_store(once)
    expected = {int(index): store.read(index) for index in store.indices}
    copy = pickle.loads(pickle.dumps(store))
    wrong: list[int] = []

    def read_all(seed: int) -> None:
        for index in np.random.default_rng(seed).choice(store.indices, 200):
            if copy.read(index) != expected[int(index)]:
                wrong.append(int(index))

    threads = [threading.Thread(target=read_all, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("kind", ["fifo", "device"])
@pytest.mark.parametrize("name", ["manifest.json", "shard-000000.tar", "hashes.json"])
def test_a_pipe_or_a_device_in_place_of_a_file_is_one_sentence(tmp_path, kind, name):
    """Opening a FIFO would wait for its writer, and reading /dev/zero never ends."""
    path = tmp_path / name
    os.mkfifo(path) if kind == "fifo" else path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=f"{name}: is no file but a pipe, socket or device"):
        match name:
            case "manifest.json":
                manifests.load(tmp_path)
            case "hashes.json":
                sha256_file(path)
            case _:
                LocalFiles(tmp_path).local(name, "0" * 64, 10)
