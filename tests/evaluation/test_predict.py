"""Each clip once on any number of ranks; results sorted by index; the same numbers from 1, 2 and 3 ranks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cacl.errors import UserError
from cacl.evaluation.predict import by_system, maps_of, measure_batch, predict, restrict
from cacl.evaluation.protocols import CONTROLS, PROTOCOLS
from cacl.types import Batch, Embeddings
from cacl.world import World
from tests.helpers.ranks import run_ranks

CLIPS = 11


class BrightestPlace:
    """A real, tiny localizer: channel 0 of an image is where it looks, the sound says which sign."""

    def prepare(self, images, waveforms):
        return images.float() / 255, waveforms.mean(1, keepdim=True)

    def __call__(self, images, sounds):
        cells = torch.nn.functional.adaptive_avg_pool2d(images[:, :1], 14).flatten(1)
        vectors = torch.stack([cells, (1 - cells**2).sqrt()], dim=-1)[:, None]
        audio = torch.cat([sounds.sign(), torch.zeros_like(sounds)], dim=1)[:, None]
        return Embeddings(image=vectors, audio=audio)


def clip(index):
    """A frame with a bright object where its box is and a dark one where the silent object's is."""
    x, y = 28 * (index % 4), 56 * (index % 3)
    mask = np.zeros((224, 224), bool)
    mask[y : y + 56, x : x + 42] = True
    image = torch.full((3, 224, 224), 128, dtype=torch.uint8)
    image[:, torch.from_numpy(mask)] = 250
    image[:, 168:, 168:] = 5
    boxes = [[x / 224, y / 224, (x + 42) / 224, (y + 56) / 224]]
    other = {"class_name": "dark", "boxes": [[0.75, 0.75, 1, 1]]}
    note = {"id": f"clip-{index}", "class_name": "bright", "boxes": boxes, "mask": mask, "other": other}
    return image, note


def batches(indices, size=3, sound=1.0, invalid=()):
    for start in range(0, len(indices), size):
        chosen = indices[start : start + size]
        images, notes = zip(*map(clip, chosen), strict=True)
        valid = torch.tensor([index not in invalid for index in chosen])
        index = torch.tensor(chosen)
        yield Batch(index, torch.stack(images), torch.full((len(chosen), 8), sound), valid, list(notes))


def predict_on_rank(world):
    share = list(range(CLIPS))[world.rank :: world.size]
    return predict(BrightestPlace(), batches(share), PROTOCOLS["stamps"], world)


def test_one_two_and_three_ranks_give_the_same_rows():
    alone = predict_on_rank(World())
    assert alone["index"].tolist() == list(range(CLIPS))
    for size in (2, 3):
        for columns in run_ranks(size, predict_on_rank):
            assert set(columns) == set(alone)
            for name, column in alone.items():
                np.testing.assert_array_equal(columns[name], column, err_msg=name)


def test_a_localizer_that_sees_the_object_is_measured_as_right():
    columns = predict(BrightestPlace(), batches(list(range(CLIPS))), PROTOCOLS["stamps"])
    summary = PROTOCOLS["stamps"].summarize(columns)
    assert summary["peak_in_box"] == 1
    assert summary["ciou"] == 1
    assert summary["pixel_ap"] > 0.9
    # a box of 42×56 pixels can reach 2352 / 25088 when half the image is predicted
    np.testing.assert_allclose(columns["ceiling_ciou_top50"], 42 * 56 / 25088)


def test_the_other_sound_is_looked_for_at_the_other_object():
    control = CONTROLS["stamps"]["other_sound"]
    right = predict(BrightestPlace(), batches(list(range(CLIPS)), sound=-1.0), control)
    assert control.summarize(right) == {"peak_in_sounding_box": 1, "peak_in_first_box": 0}
    deaf = predict(BrightestPlace(), batches(list(range(CLIPS)), sound=1.0), control)
    assert control.summarize(deaf) == {"peak_in_sounding_box": 0, "peak_in_first_box": 1}


def extended(heard):
    """Every clip with its own sound, then the same frame where nothing in view sounds and `heard` is played."""
    for index, sound, silent in [(k, 1.0, False) for k in range(6)] + [(k, heard, True) for k in range(6)]:
        image, note = clip(index)
        number = 2 * index + silent
        if silent:
            note = {"id": f"clip-{index}-silence", "class_name": "silence", "boxes": []}
        waveforms = torch.full((1, 8), sound)
        yield Batch(torch.tensor([number]), image[None], waveforms, torch.ones(1, dtype=torch.bool), [note])


def test_the_extended_form_counts_a_silent_clip_that_is_detected_as_a_mistake():
    """Hand-made: a model whose cosines are 0 in silence tells it apart, a deaf one never does."""
    protocol = PROTOCOLS["extended-stamps"]
    hears = predict(BrightestPlace(), extended(heard=0.0), protocol)
    numbers = protocol.summarize(hears)
    assert (numbers["ciou"], numbers["ap"], numbers["max_f1"]) == pytest.approx((1, 1, 1))
    assert (numbers["ciou_all"], numbers["silent_false_positives"]) == (0.5, 0)
    assert protocol.breakdown(hears)["silent"] == {"silence": {"n": 6, "false_positives": 0}}
    deaf = predict(BrightestPlace(), extended(heard=1.0), protocol)
    numbers = protocol.summarize(deaf)
    assert (numbers["ciou"], numbers["peak_in_box"], numbers["ciou_all"]) == (1, 1, 0.5)
    assert numbers["silent_false_positives"] > 0.8  # of a pair with equal confidence both count or neither
    assert numbers["max_f1"] < 0.75


def test_the_centered_box_hears_nothing():
    (batch,) = batches(list(range(CLIPS)), size=CLIPS)
    rows = measure_batch(
        {"model": maps_of(BrightestPlace())}, batch, PROTOCOLS["stamps"], torch.device("cpu")
    )
    centered = by_system(rows)["centered_box"]
    corners = [(28 * (k % 4), 56 * (k % 3)) for k in range(CLIPS)]
    inside = [x <= 111 < x + 42 and y <= 111 < y + 56 for x, y in corners]  # four middle pixels tie
    assert centered["peak_in_box"].tolist() == inside
    assert centered["ciou_top50"].max() < 0.1


def test_a_batch_without_a_decodable_clip_has_the_same_columns_and_no_row():
    (empty,) = batches([0, 1], invalid={0, 1})
    (whole,) = batches([0, 1])
    cpu, stamps = torch.device("cpu"), PROTOCOLS["stamps"]
    none, some = (measure_batch({"model": maps_of(BrightestPlace())}, b, stamps, cpu) for b in (empty, whole))
    assert set(none) == set(some)
    assert {len(column) for column in none.values()} == {0}


def test_an_official_list_restricts_and_names_what_is_missing():
    columns = predict(BrightestPlace(), batches([0, 1, 2]), PROTOCOLS["stamps"])
    chosen, missing = restrict(columns, ["clip-2", "clip-9", "clip-0"])
    assert chosen["id"].tolist() == ["clip-0", "clip-2"]
    assert missing == ["clip-9"]
    with pytest.raises(UserError, match="holds 'clip-2' twice"):
        restrict(columns, ["clip-2", "clip-2"])


def test_an_id_that_the_test_set_holds_twice_is_refused():
    def renamed():
        for batch in batches([0, 1]):
            batch.annotations[1]["id"] = "clip-0"
            yield batch

    with pytest.raises(UserError, match="the test set holds the id 'clip-0' twice"):
        predict(BrightestPlace(), renamed(), PROTOCOLS["stamps"])


def test_a_clip_that_could_not_be_decoded_has_no_row():
    columns = predict(BrightestPlace(), batches(list(range(CLIPS)), invalid={4, 5}), PROTOCOLS["stamps"])
    assert columns["index"].tolist() == [k for k in range(CLIPS) if k not in (4, 5)]


def test_a_clip_that_could_not_be_decoded_takes_no_sound_of_another():
    """Each second clip is heard with the sign turned, so that its map is turned too."""

    def alternating(invalid=()):
        for batch in batches(list(range(CLIPS)), size=CLIPS, invalid=invalid):
            signs = torch.tensor([1.0, -1.0]).repeat(CLIPS)[:CLIPS, None]
            yield replace(batch, waveforms=batch.waveforms * signs)

    whole, some = (
        predict(BrightestPlace(), alternating(invalid), PROTOCOLS["stamps"]) for invalid in ((), {0, 5, 6})
    )
    assert whole["peak_in_box"].tolist() == [True, False] * 5 + [True]
    kept = [k for k in range(CLIPS) if k not in {0, 5, 6}]
    for name, column in some.items():
        np.testing.assert_array_equal(column, whole[name][kept], err_msg=name)


def test_a_clip_measured_twice_is_refused():
    with pytest.raises(UserError, match="clip 2 was measured twice"):
        predict(BrightestPlace(), batches([0, 1, 2, 2]), PROTOCOLS["stamps"])


def test_an_annotation_without_its_mask_names_clip_and_field():
    def without_mask():
        for batch in batches([7]):
            del batch.annotations[0]["mask"]
            yield batch

    with pytest.raises(UserError, match="clip clip-7: the annotation has no 'mask'"):
        predict(BrightestPlace(), without_mask(), PROTOCOLS["stamps"])


def test_a_diverged_model_is_refused_with_the_clips_named():
    class Diverged(BrightestPlace):
        def __call__(self, images, sounds):
            good = super().__call__(images, sounds)
            return Embeddings(image=good.image * float("nan"), audio=good.audio)

    with pytest.raises(UserError, match=r"clips clip-0 to clip-2: .*NaN"):
        predict(Diverged(), batches([0, 1, 2]), PROTOCOLS["stamps"])
