"""Promises 3 and 4 as delivered: the same clips, pixels and samples for every number of ranks, workers and restarts."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from cacl.errors import UserError
from shards import loader
from shards.decoders.augmentation import Augmentation, corner, draw, fit_short_side
from shards.decoders.torch import TorchDecoder
from shards.loader import evaluation_batches, training_batches
from shards.order import LaneOrder
from tests.shards.tiny import notes_of, tiny_store

pytestmark = [
    pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]

SMALL = Augmentation(size=32, short_side=40, duration=0.2, sample_rate=1000)
STORE = tiny_store(range(110))
ORDER = LaneOrder(STORE.shards, global_batch_size=24, lanes=24, seed=3)


def train(position=(0, 0), epochs=2, rank=0, size=1, workers=0, store=STORE, **options):
    options = {"decoder": TorchDecoder(), "augmentation": SMALL} | options
    return training_batches(
        store, ORDER, position, epochs=epochs, rank=rank, size=size, workers=workers, **options
    )


def join_labels(batches) -> list[tuple[int, str]]:
    """Every delivered clip with the hash of its pixels and samples."""
    return [
        (int(index), hashlib.sha256(image.numpy().tobytes() + audio.numpy().tobytes()).hexdigest())
        for batch in batches
        for index, image, audio in zip(batch.index, batch.images, batch.waveforms, strict=True)
    ]


@pytest.fixture(scope="module")
def reference():
    """The global batches of two epochs, by one rank in one process."""
    return [join_labels([batch]) for batch in train()]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_world_size_changes_nothing(size, reference):
    ranks = [list(train(rank=rank, size=size)) for rank in range(size)]
    for number, expected in enumerate(reference):
        assert join_labels([batches[number] for batches in ranks]) == expected


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_workers_changes_nothing(workers, reference):
    assert [join_labels([batch]) for batch in train(workers=workers)] == reference


def test_resuming_at_every_batch_gives_the_rest_and_reads_nothing_again(reference):
    per_epoch = ORDER.batches_per_epoch
    for start in range(len(reference)):
        store = tiny_store(range(110))
        rest = [join_labels([b]) for b in train(divmod(start, per_epoch), store=store)]
        assert rest == reference[start:]
        assert len(store.reads) == sum(map(len, rest))


@pytest.mark.parametrize(("before", "after"), [(2, 3), (4, 1), (1, 8)])
def test_resuming_on_another_number_of_ranks(before, after, reference):
    stop = 3
    parts = [list(train(rank=rank, size=before))[:stop] for rank in range(before)]
    rest = [list(train((0, stop), rank=rank, size=after)) for rank in range(after)]
    delivered = [join_labels([batches[k] for batches in parts]) for k in range(stop)]
    delivered += [join_labels([batches[k] for batches in rest]) for k in range(len(rest[0]))]
    assert delivered == reference


def test_epochs_end_where_they_should(reference):
    assert len(reference) == 2 * ORDER.batches_per_epoch
    assert list(train((2, 0))) == []


def test_the_store_hears_of_every_batch_before_it_is_read(reference):
    store = tiny_store(range(110))
    batches = train(store=store)
    next(batches)
    assert len(store.announced) == len(reference), "all of so short a run"
    assert [part.tolist() for part in store.announced] == [[index for index, _ in b] for b in reference]


def test_a_stream_cuts_each_clip_as_its_seed_and_epoch_say():
    """Cut once more by hand, from the numbers alone: `position` 1, 2 is epoch 1, whose views are its own."""
    batch = next(train((1, 2)))
    assert batch.index.tolist() == ORDER.batch(1, 2).tolist()
    height, width = fit_short_side(SMALL, 48, 64)
    elsewhere = 0
    for index, image, audio in zip(batch.index.tolist(), batch.images, batch.waveforms, strict=True):
        view = draw(SMALL, 3, 1, index)
        y, x = corner(SMALL, view, height, width)
        stored_frame = Image.open(io.BytesIO(STORE.clips[index]["jpg"]))
        picture = stored_frame.resize((width, height), Image.Resampling.BICUBIC).crop((x, y, x + 32, y + 32))
        if view.mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        # Two 8-bit rounding steps in both libraries.
        assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - np.asarray(picture)).max() <= 2
        stored = np.frombuffer(STORE.clips[index]["wav"][44:], "<i2").astype(np.float32) / 32768
        start = min(int(view.start * (len(stored) - 200 + 1)), len(stored) - 200)
        assert (audio.numpy() == stored[start : start + 200]).all()
        elsewhere += view != draw(SMALL, 3, 0, index)
    assert elsewhere == 24, "a case that can tell the epochs apart"


@pytest.mark.parametrize("ahead", [24, 60])
def test_the_store_hears_of_so_many_clips_ahead_and_of_no_more(monkeypatch, ahead):
    """A prefetch of the whole data set would throw out of a small cache what is read next."""
    monkeypatch.setattr(loader, "_AHEAD", ahead)
    store = tiny_store(range(110))
    for number, _ in enumerate(train(store=store), 1):
        unread = sum(map(len, store.announced)) - 24 * number
        assert unread <= ahead
        assert unread > ahead - 24 or len(store.announced) == 2 * ORDER.batches_per_epoch


def test_a_batch_has_the_types_that_the_trainer_expects():
    batch = next(train(size=2))
    assert batch.index.dtype == torch.int64 and batch.index.shape == (12,)
    assert batch.images.dtype == torch.uint8 and batch.images.shape == (12, 3, 32, 32)
    assert batch.waveforms.dtype == torch.float32 and batch.waveforms.shape == (12, 200)
    assert batch.valid.dtype == torch.bool and batch.valid.all()
    assert batch.annotations is None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_clip_ends_training_by_name_or_is_masked(workers):
    store = tiny_store(range(110))
    store.clips[50]["jpg"] = b"no picture"
    with pytest.raises(UserError, match=r"^tiny/shard-000007.tar: 000000050: .*set broken_clips to mask$"):
        list(train(store=store, workers=workers))
    masked = [
        int(index)
        for batch in train(store=store, workers=workers, policy="mask")
        for index in batch.index[~batch.valid]
    ]
    assert masked and set(masked) == {50}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("size", [1, 3])
def test_evaluation_delivers_each_clip_once(workers, size):
    batches = [
        batch
        for rank in range(size)
        for batch in evaluation_batches(
            STORE, STORE.indices[rank::size], 16, TorchDecoder(), workers, augmentation=SMALL
        )
    ]
    indices = [int(index) for batch in batches for index in batch.index]
    assert sorted(indices) == STORE.indices.tolist()
    assert [note.index for batch in batches for note in notes_of(batch)] == indices
    masks = [note.mask for batch in batches for note in notes_of(batch)]
    assert all(mask is not None and mask.shape == (48, 64) for mask in masks)


def test_evaluation_hears_the_silent_object_on_request():
    own, other = (
        next(
            evaluation_batches(STORE, STORE.indices[:4], 4, TorchDecoder(), 0, augmentation=SMALL, audio=name)
        )
        for name in ("wav", "other.wav")
    )
    assert torch.equal(own.images, other.images)
    assert not torch.equal(own.waveforms, other.waveforms)


def test_an_empty_share_is_no_batch():
    empty = np.zeros(0, dtype=np.int64)
    assert list(evaluation_batches(STORE, empty, 4, TorchDecoder(), 0, augmentation=SMALL)) == []


def test_ranks_that_do_not_fit_the_lanes_are_refused_at_once():
    with pytest.raises(UserError, match="24 clips cannot be dealt to 5 ranks"):
        train(size=5)
