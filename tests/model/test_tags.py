"""The localizer without training: its table, its boxes, and that the map follows the sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cacl
import cacl.model.tags
from benchmarks.tag_table import Seen, WordNet, read_makers, read_seen, words_of
from cacl.errors import UserError
from cacl.evaluation.systems import maps_of
from cacl.model.taggers.base import audioset_classes
from cacl.model.tags.detector import Boxes, Detector
from cacl.model.tags.localizer import GRID, Settings, spoken_for
from cacl.model.tags.table import COCO, IMAGENET_CLASSES, Table, read_table

FOLDER = Path(cacl.model.tags.__file__).parent


@pytest.fixture(scope="module")
def finder(real_dir):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACL_MODELS", str(real_dir / "models"))
        return cacl.load("tags")


def clip(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture and its sound at 32 kHz."""
    audio, rate = soundfile.read(folder / f"{name}.wav", dtype="float32", always_2d=True)
    mono = scipy.signal.resample_poly(audio.mean(1), 32_000, rate).astype("float32")
    return np.asarray(Image.open(folder / f"{name}.jpg").convert("RGB")), mono


def seen() -> Seen:
    return read_seen(WordNet(FOLDER))  # of WordNet only names are asked for below


def test_what_the_table_takes_by_hand_is_what_makers_says():
    makers, known, table = read_makers((FOLDER / "makers.txt").read_text("utf-8")), seen(), read_table()
    parts = {"imagenet": table.imagenet, "coco": table.coco}
    for heard, name in enumerate(makers):
        for word in words_of(name, makers):
            if (plain := word.lstrip("~"))[0] in "=@":
                dataset, one = known.named(plain)
                assert parts[dataset][:, heard, one].any(), (name, word)


@pytest.mark.parametrize(
    ("heard", "made_by", "not_by"),
    [
        ("Dog", {"golden retriever", "@dog"}, {"tabby", "@cat", "timber wolf"}),
        ("Speech", {"@person", "groom"}, {"suit", "@dog"}),
        ("Accordion", {"accordion"}, {"@person", "violin"}),
        ("Animal", {"goose", "@horse", "bee"}, {"@person", "groom"}),
    ],
)
def test_a_heard_class_is_made_by_what_makes_it(heard, made_by, not_by):
    table, names = read_table(), [*seen().imagenet, *(f"@{name}" for name in COCO)]
    maker = torch.cat([table.imagenet[0], table.coco[0]], 1)[audioset_classes().index(heard)]
    found = {name for name, one in zip(names, maker.tolist(), strict=True) if one}
    assert made_by <= found and not not_by & found


def test_no_class_both_sounds_and_is_company():
    table = read_table()
    for part in (table.imagenet, table.coco):
        assert part.max() == 1 and not (part[0] * part[1]).any()


def test_what_many_could_be_speaks_for_less():
    imagenet, coco = torch.zeros(2, 2, 6), torch.zeros(2, 2, 3)
    imagenet[0, 0, :4] = 1  # a broad class
    imagenet[0, 1, 5] = 1  # one of a single kind, in company of another
    coco[1, 1, 2] = 1
    spoken = spoken_for(Table(imagenet, coco), Settings(company=0.5, breadth=0.5))
    assert spoken[0].tolist() == [0.5] * 4 + [0.0] * 5
    assert spoken[1].tolist() == [0.0] * 5 + [1.0, 0.0, 0.0, 0.5]


@given(st.tuples(*[st.integers(0, 100)] * 4), st.integers(1, 8), st.integers(0, len(COCO) - 1))
@settings(deadline=None)
def test_a_raster_holds_the_area_of_its_box(edges, eighths, one):
    left, right = sorted(edges[::2])
    top, bottom = sorted(edges[1::2])
    corners, score = torch.tensor([[left, top, right, bottom]]) / 100, eighths / 8
    cells = Boxes(corners, torch.tensor([score]), torch.tensor([one])).raster(GRID)
    area = (right - left) * (bottom - top) / 100**2
    assert float(cells[one].sum()) / GRID**2 == pytest.approx(score * area, abs=1e-5)  # float32 cells
    assert set(cells.flatten(1).any(1).nonzero().flatten().tolist()) <= {one}
    assert float(cells.max()) <= score + 1e-5


def test_of_two_boxes_of_a_class_the_better_one_counts():
    corners = torch.tensor([[0.0, 0, 1, 1], [0.0, 0, 0.5, 0.5]])
    cells = Boxes(corners, torch.tensor([0.25, 0.75]), torch.tensor([3, 3])).raster(4)[3]
    assert cells.tolist() == [[0.75, 0.75, 0.25, 0.25]] * 2 + [[0.25] * 4] * 2


def test_the_detector_finds_dog_and_person_where_they_are(real_dir):
    detector = Detector(real_dir / "models/yolox_nano.onnx")
    picture, _ = clip(real_dir / "is3", "cello_donkey_3905_cello")
    (found,) = detector(torch.tensor(picture).permute(2, 0, 1)[None])
    person = found.corners[found.classes == COCO.index("person")][0]
    assert person[0] < 0.3 and person[2] < 0.7  # he sits on the left
    with pytest.raises(UserError, match=r"mn04_as_mAP_432.pt: cannot be opened as an ONNX network"):
        Detector(real_dir / "models/mn04_as_mAP_432.pt")


def test_the_map_follows_the_sound(finder, real_dir):
    picture, accordion = clip(real_dir / "is3", "accordion_child_10519_accordion")
    _, lion = clip(real_dir / "is3", "lion_chainsaw_756_lion")
    own, other, silent = (
        finder.map(picture, sound, finder.sample_rate) for sound in (accordion, lion, np.zeros_like(lion))
    )
    assert own.shape == (GRID, GRID) and own.min() >= 0 and own.max() <= 1
    row, column = np.unravel_index(own.argmax(), own.shape)
    assert row > GRID * 0.4 and GRID * 0.3 < column < GRID * 0.8  # the accordion, not the boy's head
    assert own.max() > other.max() and own.max() > silent.max()


def test_it_is_measured_as_a_trained_model_is(finder, real_dir):
    picture, sound = clip(real_dir / "is3", "chicken_beach_chicken")
    images, waveforms = torch.tensor(picture).permute(2, 0, 1)[None], torch.from_numpy(sound)[None]
    seen_, heard = finder.model.prepare(images, waveforms)
    embeddings = finder.model(seen_, heard)
    assert embeddings.image.shape == (1, 1, GRID * GRID, 1 + IMAGENET_CLASSES + len(COCO))
    torch.testing.assert_close(finder.model.hear(waveforms), embeddings.audio)
    maps = maps_of(finder.model)(images, waveforms)
    torch.testing.assert_close(maps[0].flatten(), seen_[0] @ heard[0])
    assert finder.theta is not None and 0 < finder.theta < finder.scale[2] <= 1
