"""Each clip once on any number of ranks; results sorted by index; the same numbers from 1, 2 and 3 ranks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cacl.annotation import Annotation, SoundSource
from cacl.errors import UserError
from cacl.evaluation.measure import measure, measure_annotated, measure_batch
from cacl.evaluation.protocols import CONTROLS, PROTOCOLS
from cacl.evaluation.summary import breakdown
from cacl.evaluation.systems import centered_box, maps_of, system_of
from cacl.resumable import UNIT
from cacl.types import Batch, Embeddings
from cacl.world import World
from tests.helpers.ranks import run_ranks

CLIPS = 11
CPU = torch.device("cpu")


class BrightestPlace:
    """A real, tiny localizer: channel 0 of an image is where it looks, the sound says which sign."""

    def prepare(self, images, waveforms):
        return images.float() / 255, waveforms.mean(1, keepdim=True)

    def __call__(self, images, spectrograms):
        cells = torch.nn.functional.adaptive_avg_pool2d(images[:, :1], 14).flatten(1)
        vectors = torch.stack([cells, (1 - cells**2).sqrt()], dim=-1)[:, None]
        audio = torch.cat([spectrograms.sign(), torch.zeros_like(spectrograms)], dim=1)[:, None]
        return Embeddings(image=vectors, audio=audio)


def clip(index):
    """A frame with a bright object where its box is and a dark one where the silent object's is."""
    x, y = 28 * (index % 4), 56 * (index % 3)
    mask = np.zeros((224, 224), bool)
    mask[y : y + 56, x : x + 42] = True
    image = torch.full((3, 224, 224), 128, dtype=torch.uint8)
    image[:, torch.from_numpy(mask)] = 250
    image[:, 168:, 168:] = 5
    box = (x / 224, y / 224, (x + 42) / 224, (y + 56) / 224)
    dark = SoundSource("dark", ((0.75, 0.75, 1, 1),), audible=False, audio="other.wav")
    return image, Annotation(f"clip-{index}", sources=(SoundSource("bright", (box,), mask), dark))


def batches(indices, audio=1.0, invalid=()):
    for start in range(0, len(indices), UNIT):
        chosen = indices[start : start + UNIT]
        images, notes = zip(*map(clip, chosen), strict=True)
        valid = torch.tensor([index not in invalid for index in chosen])
        index = torch.tensor(chosen)
        yield Batch(index, torch.stack(images), torch.full((len(chosen), 8), audio), valid, list(notes))


def measured(folder, clips, protocol=PROTOCOLS["stamps"], model=None, world=None):
    """The model's results on the batches `clips`, by the driver that every evaluation goes through."""
    clips = list(clips)
    return measure(
        {"model": system_of(maps_of(model or BrightestPlace()))},
        protocol,
        torch.cat([batch.index for batch in clips]).numpy(),
        lambda some: (batch for batch in clips if batch.index[0] in some),
        folder,
        {},
        world or World(),
    ).get("model")


def all_columns(results):
    return results.facts | dict(results.columns)


def measure_on_rank(world, folder):
    return measured(folder, batches(range(3 * UNIT - 5)), world=world)


def test_one_two_and_three_ranks_give_the_same_rows(tmp_path):
    alone = measure_on_rank(World(), tmp_path / "1")
    assert alone.index.tolist() == list(range(3 * UNIT - 5))
    for size in (2, 3):
        main, *others = run_ranks(size, measure_on_rank, tmp_path / str(size))
        assert others == [None] * (size - 1)
        assert set(main.columns) == set(alone.columns)
        for name, column in all_columns(alone).items():
            np.testing.assert_array_equal(all_columns(main)[name], column, err_msg=name)


def test_a_localizer_that_sees_the_object_is_measured_as_right(tmp_path):
    columns = measured(tmp_path, batches(range(CLIPS)))
    summary = PROTOCOLS["stamps"].summarize(columns)
    assert summary["peak_in_box"] == 1
    assert summary["ciou"] == 1
    assert summary["pixel_ap"] > 0.9
    # a box of 42×56 pixels can reach 2352 / 25088 when half the image is predicted
    np.testing.assert_allclose(columns["ceiling_ciou_top50"], 42 * 56 / 25088)


def test_the_other_sound_is_looked_for_at_the_other_object(tmp_path):
    control = CONTROLS["stamps"]["other_sound"]
    right = measured(tmp_path / "right", batches(range(CLIPS), audio=-1.0), control)
    assert control.summarize(right) == {"peak_in_sounding_box": 1, "peak_in_first_box": 0}
    deaf = measured(tmp_path / "deaf", batches(range(CLIPS), audio=1.0), control)
    assert control.summarize(deaf) == {"peak_in_sounding_box": 0, "peak_in_first_box": 1}


def extended(heard):
    """Every clip with its own sound, then the same frame where nothing in view sounds and `heard` is played."""
    images, notes = zip(*[clip(k) for k in range(6)], strict=True)
    silent = [Annotation(f"clip-{k}-silence", sources=()) for k in range(6)]
    index = torch.cat([torch.arange(0, 12, 2), torch.arange(1, 12, 2)])
    waveforms = torch.tensor([1.0] * 6 + [heard] * 6)[:, None].expand(12, 8)
    yield Batch(
        index, torch.stack(2 * images), waveforms, torch.ones(12, dtype=torch.bool), [*notes, *silent]
    )


def test_the_extended_form_counts_a_silent_clip_that_is_detected_as_a_mistake(tmp_path):
    """Hand-made: a model whose cosines are 0 in silence tells it apart, a deaf one never does."""
    protocol = PROTOCOLS["extended-stamps"]
    hears = measured(tmp_path / "hears", extended(heard=0.0), protocol)
    numbers = protocol.summarize(hears)
    assert (numbers["ciou"], numbers["ap"], numbers["max_f1"]) == pytest.approx((1, 1, 1))
    assert (numbers["ciou_all"], numbers["silent_false_positives"]) == (0.5, 0)
    assert breakdown(hears, protocol)["silent"] == {"silence": {"n": 6, "false_positives": 0}}
    deaf = measured(tmp_path / "deaf", extended(heard=1.0), protocol)
    numbers = protocol.summarize(deaf)
    assert (numbers["ciou"], numbers["peak_in_box"], numbers["ciou_all"]) == (1, 1, 0.5)
    assert numbers["silent_false_positives"] > 0.8  # of a pair with equal confidence both count or neither
    assert numbers["max_f1"] < 0.75


def test_the_centered_box_hears_nothing():
    (batch,) = batches(range(CLIPS))
    centered = measure_batch({"box": centered_box}, batch, PROTOCOLS["stamps"], CPU)["box"]
    corners = [(28 * (k % 4), 56 * (k % 3)) for k in range(CLIPS)]
    inside = [x <= 111 < x + 42 and y <= 111 < y + 56 for x, y in corners]  # four middle pixels tie
    assert centered["peak_in_box"].tolist() == inside
    assert centered["ciou_top50"].max() < 0.1


def test_a_batch_without_a_decodable_clip_has_the_same_columns_and_no_row():
    (empty,) = batches([0, 1], invalid={0, 1})
    (whole,) = batches([0, 1])
    systems = {"model": system_of(maps_of(BrightestPlace()))}
    none, some = (measure_batch(systems, b, PROTOCOLS["stamps"], CPU)["model"] for b in (empty, whole))
    assert set(none.columns) == set(some.columns)
    assert {len(column) for column in all_columns(none).values()} == {0}


def test_an_official_list_restricts_and_names_what_is_missing(tmp_path):
    results = measured(tmp_path, batches([0, 1, 2]))
    chosen, missing = results.restrict(["clip-2", "clip-9", "clip-0"])
    assert chosen.id.tolist() == ["clip-0", "clip-2"]
    assert missing == ["clip-9"]
    with pytest.raises(UserError, match="holds 'clip-2' twice"):
        results.restrict(["clip-2", "clip-2"])


def test_an_id_that_the_test_set_holds_twice_is_refused(tmp_path):
    def renamed():
        for batch in batches([0, 1]):
            batch.annotations[1] = replace(batch.annotations[1], id="clip-0")
            yield batch

    with pytest.raises(UserError, match="the test set holds the id 'clip-0' twice"):
        measured(tmp_path, renamed())


def test_a_clip_that_could_not_be_decoded_has_no_row(tmp_path):
    results = measured(tmp_path / "some", batches(range(CLIPS), invalid={4, 5}))
    assert results.index.tolist() == [k for k in range(CLIPS) if k not in (4, 5)]
    assert results.id.tolist() == [f"clip-{k}" for k in results.index]
    assert measured(tmp_path / "none", batches(range(CLIPS), invalid=set(range(CLIPS)))) is None


def test_a_clip_that_could_not_be_decoded_takes_no_sound_of_another(tmp_path):
    """Each second clip is heard with the sign turned, so that its map is turned too."""

    def alternating(invalid=()):
        for batch in batches(range(CLIPS), invalid=invalid):
            signs = torch.tensor([1.0, -1.0]).repeat(CLIPS)[:CLIPS, None]
            yield replace(batch, waveforms=batch.waveforms * signs)

    whole, some = (
        measured(tmp_path / str(len(invalid)), alternating(invalid)) for invalid in ((), {0, 5, 6})
    )
    assert whole["peak_in_box"].tolist() == [True, False] * 5 + [True]
    kept = [k for k in range(CLIPS) if k not in {0, 5, 6}]
    for name, column in all_columns(some).items():
        np.testing.assert_array_equal(column, all_columns(whole)[name][kept], err_msg=name)


def test_a_clip_measured_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match="clip 2 was measured twice"):
        measured(tmp_path, batches([0, 1, 2, 2]))


def test_an_annotation_without_its_mask_names_clip_and_field(tmp_path):
    bell = SoundSource("bell", ((0, 0, 1, 1),), np.ones((224, 224), bool))

    def without_mask(*more):
        for batch in batches([7]):
            (note,) = batch.annotations
            batch.annotations[0] = replace(note, sources=(replace(note.heard[0], mask=None), *more))
            yield batch

    with pytest.raises(UserError, match="clip clip-7: the annotation has no 'mask'"):
        measured(tmp_path / "none", without_mask())
    with pytest.raises(UserError, match="clip clip-7: the annotation has no 'mask'"):
        measured(tmp_path / "half", without_mask(bell))


def test_a_diverged_model_is_refused_with_the_clips_named(tmp_path):
    class Diverged(BrightestPlace):
        def __call__(self, images, spectrograms):
            good = super().__call__(images, spectrograms)
            return Embeddings(image=good.image * float("nan"), audio=good.audio)

    with pytest.raises(UserError, match=r"clips clip-0 to clip-2: .*NaN"):
        measured(tmp_path, batches([0, 1, 2]), model=Diverged())


def test_the_example_of_the_docs_measures_maps_of_any_origin():
    """Promise 17, as docs/evaluation.md shows it."""
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    (example,) = (part for part in page.split("```python\n")[1:] if "cacl.evaluate(" in part)
    names: dict[str, Any] = {}
    exec(example.partition("```")[0], names)
    results, numbers = names["results"], names["numbers"]
    assert results.id.tolist() == ["0", "1"] and results.boxes.tolist() == [1, 0]
    assert {"ciou", "auc", "ap", "max_f1"} <= set(numbers)
    assert numbers["ciou"] == np.mean(results["ciou_top50"][:1] >= 0.5)


def test_maps_of_other_clips_are_refused():
    notes = [Annotation(f"clip-{k}", sources=()) for k in range(2)]
    with pytest.raises(ValueError, match="same clips"):
        measure_annotated(torch.zeros(1, 7, 7), notes, PROTOCOLS["vggss"])
