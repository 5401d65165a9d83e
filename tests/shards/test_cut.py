"""Promises 1, 2 and 11 of a validation split: who lies in it hangs on names and a seed, and films stay whole."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacl.errors import UserError
from docs.reference.commands import parser_of
from launch.jobs.pack import pack_both
from shards.cut import Cut
from shards.plan import make_plan
from shards.sources import SOURCES, source_class
from shards.sources.extended import ExtendedGenerated
from shards.sources.files import FileSource
from shards.sources.flickr import Flickr
from shards.sources.generated import Generated
from shards.sources.prepared import Prepared
from shards.sources.vggsound import VggSound
from shards.sources.vggss import VggSs
from shards.sources.videos import Videos
from shards.store import open_store
from shards.youtube import youtube_video
from tests.shards.classed import Classed
from tests.shards.films import film
from tests.shards.fragile import Fragile

names = st.sets(st.text("abcdef0123456789", min_size=1, max_size=8), max_size=60)
shares = st.floats(0.0, 1.0)


@given(names, shares, st.integers(0, 5))
def test_every_group_lies_on_one_side(groups: set[str], share: float, seed: int) -> None:
    train, validation = Cut("train", share, seed), Cut("validation", share, seed)
    assert all(train.keeps(group) != validation.keeps(group) for group in groups)


@given(names, shares, shares)
def test_a_larger_share_takes_more_beside_those_that_a_smaller_one_took(groups, one: float, two: float):
    small, large = Cut("validation", min(one, two)), Cut("validation", max(one, two))
    assert all(large.keeps(group) for group in groups if small.keeps(group))


def test_the_share_is_kept_up_to_chance_and_seeds_draw_anew() -> None:
    """Of 20,000 names: five standard deviations of a fair draw; two seeds share as much as chance has it."""
    groups = [f"video-{k}" for k in range(20_000)]
    found = [{group for group in groups if Cut("validation", 0.1, seed).keeps(group)} for seed in (0, 1)]
    for chosen in found:
        assert len(chosen) == pytest.approx(2000, abs=5 * (20_000 * 0.1 * 0.9) ** 0.5)
    assert len(found[0] & found[1]) == pytest.approx(200, abs=5 * (20_000 * 0.01 * 0.99) ** 0.5)


def test_the_cut_is_the_one_that_was_published() -> None:
    """Other machines and releases must cut alike; found by `printf "0 film-4" | sha256sum` and so on."""
    taken = [k for k in range(40) if Cut("validation", 0.1).keeps(f"film-{k}")]
    assert taken == [4, 6, 20, 25, 34, 39]


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_can_be_asked_for_a_validation_split(name: str) -> None:
    kind = source_class(name)
    words = ["--root", "x", "--validation", "held"] if issubclass(kind, FileSource) else []
    needed = [field.name for field in dataclasses.fields(kind) if field.metadata.get("required")]
    words += [word for option in needed if option != "root" for word in (f"--{option}", "x")]
    parsed = parser_of("pack").parse_args([name, "--out", "out", *words])
    assert parsed.validation_share == 0.02 and parsed.validation_seed == 0


def sides(source, share: float = 0.5) -> list[list[str]]:
    return [make_plan(source, cut=Cut(side, share)).ids for side in ("train", "validation")]


def divided(source, film_of) -> set[str]:
    """The films of which clips lie on both sides."""
    train, validation = sides(source)
    assert sorted(train + validation) == source.ids()
    return {film_of(id) for id in train} & {film_of(id) for id in validation}


def test_parts_of_one_film_stay_together(tmp_path: Path) -> None:
    table = tmp_path / "parts.csv"
    rows = [f"{folder}/film-{k},{start}" for folder in "ab" for k in range(6) for start in (0, 10, 20.5)]
    table.write_text("\n".join(["id,start", *rows]))
    assert not divided(Videos(root=tmp_path, csv=table), lambda id: id.rpartition("_")[0])


@pytest.mark.parametrize("kind", [VggSound, VggSs, Flickr, Prepared, Videos])
def test_clips_of_one_youtube_video_stay_together(kind, tmp_path: Path) -> None:
    """The list may pair a frame with another clip's sound: the frame decides."""
    ids = [f"{letter * 11}_{start:06d}" for letter in "abcdefghijkl" for start in (0, 10)]
    (tmp_path / "list.txt").write_text("\n".join(ids))
    source = kind(root=tmp_path, lists=(tmp_path / "list.txt",))
    assert not divided(source, youtube_video)
    rows = [f"{frame},{sound},non-sounding" for frame, sound in zip(ids, ids[5:] + ids[:5], strict=True)]
    (tmp_path / "pairs.csv").write_text("\n".join(["video,audio,label", *rows]))
    assert not divided(
        dataclasses.replace(source, lists=(tmp_path / "pairs.csv",)),
        lambda id: youtube_video(id.split("+")[0]),
    )


def test_a_frame_that_stands_there_twice_is_not_divided() -> None:
    assert not divided(ExtendedGenerated(clips=20), lambda id: id[: len("test-000000")])


@pytest.mark.parametrize("kind", [Flickr, Prepared])
def test_a_source_that_grows_moves_no_clip(kind, tmp_path: Path) -> None:
    before: list[set[str]] = [set(), set()]
    for count in (10, 40):
        (tmp_path / "list.txt").write_text("\n".join(f"{k * 7919}" for k in range(count)))
        now = [set(side) for side in sides(kind(root=tmp_path, lists=(tmp_path / "list.txt",)), 0.3)]
        assert before[0] <= now[0] and before[1] <= now[1]
        before = now


def cacl(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


BROKEN = (2, 4)
"""Films that are none: one on each side of the cut."""
SMALL = ["--seconds", "1", "--frame-side", "32", "--workers", "1", "--validation-share", "0.3"]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve films; of each the first and the second second are clips. Two of them are broken."""
    root = tmp_path_factory.mktemp("films")
    for k in range(12):
        tone = 0.5 * np.sin(2 * np.pi * 200 * (k + 1) * np.arange(2 * 16000) / 16000)
        film(root / f"film-{k}.mp4", fps=8, audio=tone)
    rows = [f"film-{k},{start},{'dog' if k % 2 else 'cat'}" for k in range(12) for start in (0, 1)]
    (root / "parts.csv").write_text("\n".join(["id,start,label", *rows]))
    for k in BROKEN:
        (root / f"film-{k}.mp4").write_bytes(b"no film")
    return root


@pytest.fixture(scope="module")
def packed(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both sides of the films, packed by one command."""
    out = tmp_path_factory.mktemp("packed")
    done = cacl(*words_of(films, out))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (
        lines[0].startswith(f"{out}/train: ") and f"2 rejected (see {out}/train/rejected.jsonl)" in lines[0]
    )
    assert f"2 rejected (see {out}/held/rejected.jsonl)" in lines[2]
    return out


def words_of(films: Path, out: Path) -> list[str | Path]:
    into: list[str | Path] = ["--out", out / "train", "--validation", out / "held", "--max-rejected", "0.1"]
    into += SMALL
    return ["pack", "videos", "--root", films, "--csv", films / "parts.csv", *into]


def clips_of(folder: Path) -> dict[int, str]:
    store = open_store(folder)
    return {int(index): store.annotation(index).id for index in store.indices}


def test_each_side_is_a_data_set_of_its_own(packed: Path) -> None:
    """Promise 1 on each side: an index is the place among its own ids, and rejected clips leave gaps."""
    expected: dict[bool, list[str]] = {True: [], False: []}
    for k in range(12):
        held = Cut("validation", 0.3).keeps(f"film-{k}")
        expected[held] += [f"film-{k}_{start:06d}" for start in (0, 1)]
    for folder, held in ((packed / "train", False), (packed / "held", True)):
        ids = sorted(expected[held])
        broken = {f"film-{k}_{start:06d}" for k in BROKEN for start in (0, 1)}
        assert clips_of(folder) == {k: id for k, id in enumerate(ids) if id not in broken}
        reported = [json.loads(line)["id"] for line in (folder / "rejected.jsonl").read_text().splitlines()]
        assert reported == [id for id in ids if id in broken] and reported


def test_a_manifest_says_of_which_side_and_cut_it_is(packed: Path) -> None:
    """Promise 2: another cut is another data set."""
    manifests = [open_store(packed / name).manifest for name in ("train", "held")]
    for manifest, side in zip(manifests, ("train", "validation"), strict=True):
        assert manifest.parameters["cut"] == {"side": side, "share": 0.3, "seed": 0}
    assert manifests[0].fingerprint != manifests[1].fingerprint
    plain, cut = make_plan(Generated(clips=9)), make_plan(Generated(clips=9), cut=Cut("train", 1e-9))
    assert plain.ids == cut.ids and plain.head.fingerprint != cut.head.fingerprint
    assert "cut" not in plain.head.parameters, "what was packed without a cut keeps its fingerprint"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


def test_packing_again_checks_both_sides_and_mends_the_one_that_is_gone(films, packed, tmp_path) -> None:
    out = Path(shutil.copytree(packed, tmp_path / "again"))
    before = contents(out)
    shutil.rmtree(out / "held")
    assert cacl(*words_of(films, out)).returncode == 0
    assert contents(out) == before
    (out / "held" / "shard-000000.tar").write_bytes(b"damaged")
    refused = cacl(*words_of(films, out))
    assert refused.returncode == 2 and f"{out}/held/shard-000000.tar: is damaged" in refused.stderr


def test_parts_on_several_machines_make_the_same_two_data_sets(films: Path, packed: Path, tmp_path: Path):
    for turn in (2, 1):
        done = cacl(*words_of(films, tmp_path), "--part", f"{turn}/2", "--shard-size", "100")
        assert done.returncode == 0, done.stderr
    for name in ("train", "held"):
        assert f"after the last one: cacl pack merge --out {tmp_path / name}" in done.stdout
        assert cacl("pack", "merge", "--out", tmp_path / name).returncode == 0
    assert contents(tmp_path) == contents(packed)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"share": 0.0},
            "--validation-share 0: leaves none of the 12 clips for the validation side; give a larger",
        ),
        (
            {"share": 1.0},
            "--validation-share 1: leaves none of the 12 clips for the train side; give a smaller",
        ),
        ({"validation": "out"}, "is the folder of --out; give another one"),
    ],
)
def test_a_side_without_clips_and_one_folder_for_both_are_refused(more, message, tmp_path: Path) -> None:
    validation = tmp_path / more.pop("validation", "held")
    with pytest.raises(UserError, match=message):
        pack_both(Classed(classes=("a",) * 12), tmp_path / "out", validation, **more)
    assert not list(tmp_path.iterdir()), "refused before anything is written"


def test_too_many_rejected_clips_of_a_side_end_the_run(tmp_path: Path) -> None:
    """The limit is a share of all clips: a small side bears what the whole does. What is packed stays."""
    source, share = Fragile(broken=("clip-01",)), 0.5
    both = [set(side) for side in sides(source, share)]
    assert "clip-01" in both[1] and len(both[1]) < 10, "1 of 12 is less than a tenth, of this side it is more"
    with pytest.raises(UserError, match=r"held/rejected\.jsonl: 1 of 12 clips are rejected"):
        pack_both(source, tmp_path / "train", tmp_path / "held", share=share, max_rejected=0.05)
    assert set(clips_of(tmp_path / "train").values()) == both[0]
    pack_both(source, tmp_path / "train", tmp_path / "held", share=share, max_rejected=0.1)
    assert set(clips_of(tmp_path / "held").values()) == both[1] - {"clip-01"}
