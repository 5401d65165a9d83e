"""DALI behind the loader: the clips and crops of the torch decoder, for any threads, ranks, restarts and faults."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from cacl.errors import UserError
from shards.decoders.augmentation import Augmentation
from shards.decoders.clip import DecodeSpec, Request
from shards.decoders.dali import DaliDecoder
from shards.decoders.torch import TorchDecoder
from shards.loader import evaluation_batches, training_batches
from shards.order import LaneOrder
from tests.shards.tiny import notes_of, smooth_picture, tiny_store

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")

SMALL = Augmentation(size=32, short_side=40, duration=0.2, sample_rate=1000)
DALI = DaliDecoder(device="cpu")
TOLERANCE = 2
"""Of 255: both resize in two passes, and torchvision rounds to 8 bits in between."""


def train(store, decoder, position=(0, 0), epochs=2, rank=0, size=1, workers=0, **options):
    order = LaneOrder(store.shards, global_batch_size=24, lanes=24, seed=3)
    return training_batches(
        store,
        order,
        position,
        epochs=epochs,
        rank=rank,
        size=size,
        decoder=decoder,
        augmentation=SMALL,
        workers=workers,
        **options,
    )


def join_labels(batches):
    return [
        (int(index), hashlib.sha256(image.numpy().tobytes() + audio.numpy().tobytes()).hexdigest())
        for batch in batches
        for index, image, audio in zip(batch.index, batch.images, batch.waveforms, strict=True)
    ]


def assert_agree(ours, torchs):
    assert torch.equal(ours.index, torchs.index) and torch.equal(ours.valid, torchs.valid)
    assert torch.equal(ours.waveforms, torchs.waveforms)
    assert ours.images.shape == torchs.images.shape and ours.images.is_contiguous()
    assert (ours.images.int() - torchs.images.int()).abs().max() <= TOLERANCE


@pytest.mark.parametrize(("views", "square"), [(1, False), (2, False), (2, True)])
@pytest.mark.parametrize(("height", "width"), [(360, 640), (256, 256), (256, 455), (300, 200), (100, 150)])
def test_both_decoders_deliver_the_same_training_views(height, width, views, square):
    store = tiny_store(range(8), height=height, width=width, seconds=4, rate=16000)
    requests = [Request(np.arange(8), (0, epoch)) for epoch in range(3)]
    spec = DecodeSpec(Augmentation(views=views, square=square))
    pairs = zip(
        DALI.stream(store, requests, spec, 2),
        TorchDecoder().stream(store, requests, spec, 0),
        strict=True,
    )
    for ours, torchs in pairs:
        assert_agree(ours, torchs)


def test_both_decoders_deliver_the_same_evaluation_batches():
    """37 clips in batches of 16: a last batch of 5 is neither padded nor dropped (DALI's default fills it)."""
    store = tiny_store(range(37))
    ours, torchs = (
        list(evaluation_batches(store, store.indices, 16, decoder, 0, augmentation=SMALL))
        for decoder in (DALI, TorchDecoder())
    )
    assert [len(batch.index) for batch in ours] == [16, 16, 5]
    for one, other in zip(ours, torchs, strict=True):
        assert_agree(one, other)
        assert [note.id for note in notes_of(one)] == [note.id for note in notes_of(other)]
        assert all(note.mask is not None and note.mask.sum() == 200 for note in notes_of(one))


@pytest.mark.parametrize(("size", "threads"), [(1, 2), (2, 1), (3, 1), (4, 2), (8, 1)])
def test_ranks_and_threads_change_no_pixel(size, threads):
    store = tiny_store(range(80))
    reference = [join_labels([batch]) for batch in train(store, DALI)]
    ranks = [list(train(store, DALI, rank=rank, size=size, workers=threads)) for rank in range(size)]
    assert [join_labels(parts) for parts in zip(*ranks, strict=True)] == reference


def test_resuming_at_every_batch_gives_the_rest():
    """DALI's own checkpointing is not used: a pipeline at a position is fed from there."""
    store = tiny_store(range(80))
    reference = [join_labels([batch]) for batch in train(store, DALI)]
    assert len(reference) == 6
    for start in range(len(reference)):
        assert [join_labels([b]) for b in train(store, DALI, divmod(start, 3))] == reference[start:]


def test_a_broken_clip_is_black_in_both_views():
    store = tiny_store(range(4))
    store.clips[2]["jpg"] = store.clips[2]["jpg"][:200] + bytes(50) + b"\xff\xd9"
    spec = DecodeSpec(replace(SMALL, views=2), "mask")
    request = Request(np.arange(4), (1, 1))
    (ours,), (torchs,) = (
        list(decoder.stream(store, [request], spec, 0)) for decoder in (DALI, TorchDecoder())
    )
    assert_agree(ours, torchs)
    assert ours.images.shape == (4, 2, 3, 32, 32) and not ours.images[2].any() and ours.images[3].any()


BREAKS = {
    "garbage in the frame": lambda clip: clip.update(jpg=clip["jpg"][:200] + bytes(50) + b"\xff\xd9"),
    "cut frame": lambda clip: clip.update(jpg=clip["jpg"][: len(clip["jpg"]) // 2]),
    "text as frame": lambda clip: clip.update(jpg=b"<html>404</html>" * 50),
    "no sound": lambda clip: clip.pop("wav"),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_corrupt_input_neither_ends_the_run_nor_touches_other_clips(kind):
    """Stock DALI ends the run (#3913); here the clip is named, or masked alone, and the stream goes on."""
    store, whole = tiny_store(range(80)), tiny_store(range(80))
    BREAKS[kind](store.clips[50])
    with pytest.raises(UserError, match=r"tiny/shard-000007.tar: 000000050: the clip cannot be decoded"):
        list(train(store, DALI))
    masked = []
    pairs = zip(train(store, DALI, policy="mask"), train(whole, TorchDecoder()), strict=True)
    for ours, torchs in pairs:
        assert torch.equal(ours.index, torchs.index)
        masked += ours.index[~ours.valid].tolist()
        assert not ours.images[~ours.valid].any() and not ours.waveforms[~ours.valid].any()
        difference = (ours.images.int() - torchs.images.int())[ours.valid].abs()
        assert difference.max() <= TOLERANCE
    assert masked == [50] * len(masked) and len(masked) >= 1


def test_exif_orientation_turns_no_frame():
    """DALI's decoder turns frames by default, torchvision does not: boxes would no longer fit."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    Image.fromarray(smooth_picture(np.random.default_rng(0), 48, 64)).save(buffer, "JPEG", exif=exif)
    store = tiny_store([0])
    store.clips[0]["jpg"] = buffer.getvalue()
    request = Request(np.array([0]), None)
    (ours,), (torchs,) = (
        list(decoder.stream(store, [request], DecodeSpec(SMALL), 0)) for decoder in (DALI, TorchDecoder())
    )
    assert_agree(ours, torchs)


def test_clips_of_different_sizes_in_one_batch():
    store = tiny_store(range(4))
    for index, (height, width) in enumerate([(48, 64), (200, 100), (33, 90), (256, 256)]):
        store.clips[index]["jpg"] = tiny_store([index], height=height, width=width).clips[index]["jpg"]
    request = Request(np.arange(4), (1, 1))
    (ours,), (torchs,) = (
        list(decoder.stream(store, [request], DecodeSpec(SMALL), 0)) for decoder in (DALI, TorchDecoder())
    )
    assert_agree(ours, torchs)
