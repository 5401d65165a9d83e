"""Decoding against the field's plain way (PIL resize, crop, flip; slice of the sound), and its random views."""

from __future__ import annotations

import io
import os
import resource
import signal
import struct
import time
import wave
import zlib
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cacl.errors import UserError
from shards.decoders.audio import waveform
from shards.decoders.augmentation import MIDDLE, Augmentation, ClipView, corner, draw, fit_short_side
from shards.decoders.clip import DecodeSpec, Request, frame_size
from shards.decoders.dali import DaliDecoder
from shards.decoders.torch import TorchDecoder, crop, decode, decode_frame
from tests.shards.tiny import jpg, notes_of, smooth_picture, tiny_store, wav

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")

SMALL = Augmentation(size=32, short_side=40, duration=0.2, sample_rate=1000)


@given(st.integers(0, 2**40), st.integers(0, 1000), st.integers(0, 2**40))
def test_a_view_depends_on_seed_epoch_and_clip_alone(seed, epoch, index):
    view = draw(SMALL, seed, epoch, index)
    assert view == draw(SMALL, seed, epoch, index)
    assert all(0 <= value < 1 for value in view[:3])
    assert view[:3] != draw(SMALL, seed, epoch + 1, index)[:3]
    assert view[:3] != draw(SMALL, seed + 1, epoch, index)[:3]


def test_views_never_change_between_releases():
    """Runs go on after an upgrade: the raw words of Philox under (seed, epoch, purpose, clip), over 2^64."""
    for seed, epoch, index in ((5, 3, 7), (0, 0, 0), (2**33, 12, 10**6)):
        words = np.random.Philox(np.random.SeedSequence((seed, epoch, 2, index))).random_raw(4)
        left, top, start, flip = (int(word) / 2**64 for word in words)
        assert draw(Augmentation(), seed, epoch, index) == ClipView(left, top, start, flip < 0.5)


def test_views_are_uniform():
    views = np.array([draw(SMALL, 0, 0, index) for index in range(4000)], dtype=float)
    assert np.abs(views.mean(0) - 0.5).max() < 4 * 0.5 / 4000**0.5  # four standard errors, of a coin at most
    assert np.abs(np.corrcoef(views.T) - np.eye(4)).max() < 4 / 4000**0.5


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_crops_lie_inside_the_frame_and_reach_every_edge(left, top):
    height, width = fit_short_side(SMALL, 48, 64)
    assert min(height, width) == SMALL.short_side
    y, x = corner(SMALL, ClipView(left, top, 0, False), height, width)
    assert 0 <= y <= height - SMALL.size and 0 <= x <= width - SMALL.size
    last = corner(SMALL, ClipView(1 - 2**-53, 1 - 2**-53, 0, False), height, width)
    assert last == (height - SMALL.size, width - SMALL.size)


@pytest.mark.parametrize(("height", "width"), [(360, 640), (256, 256), (256, 455), (300, 200), (100, 150)])
@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_training_view_equals_the_fields_own_way(height, width, mirrored, square):
    """Resize, crop, flip by PIL; two 8-bit rounding steps in both libraries may differ by 2 of 255."""
    picture = jpg(smooth_picture(np.random.default_rng(height), height, width))
    store = tiny_store([0], seconds=4, rate=16000)
    store.clips[0]["jpg"] = picture
    augmentation = Augmentation(flip=float(mirrored), square=square)
    batch = decode(store, Request(np.array([0]), (3, 5)), DecodeSpec(augmentation))
    view = draw(augmentation, 3, 5, 0)
    h, w = (246, 246) if square else fit_short_side(augmentation, height, width)
    y, x = corner(augmentation, view, h, w)
    expected = Image.open(io.BytesIO(picture)).resize((w, h), Image.Resampling.BICUBIC)
    expected = expected.crop((x, y, x + 224, y + 224))
    if mirrored:
        expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    difference = batch.images[0].permute(1, 2, 0).numpy().astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 2


def test_two_views_are_a_single_view_and_another_of_the_same_frame():
    """The first is what a training of one view sees, the sound's window too; evaluation has one view."""
    store, request = tiny_store(range(40), seconds=1), Request(np.arange(40), (3, 5))
    one, two = (decode(store, request, DecodeSpec(replace(SMALL, views=views))) for views in (1, 2))
    assert two.images.shape == (40, 2, 3, SMALL.size, SMALL.size)
    assert torch.equal(two.images[:, 0], one.images) and torch.equal(two.waveforms, one.waveforms)
    for index in range(40):
        frame, view = decode_frame(store.clips[index]["jpg"]), draw(SMALL, 3, 5, index, 1)
        assert torch.equal(two.images[index, 1], crop(frame, SMALL, view))
    # 40 pairs of draws from about 20 × 8 corners, and mirrored by their own coin: some pairs may agree.
    assert sum(torch.equal(*pair) for pair in two.images) < 5
    whole = decode(store, Request(np.arange(40), None), DecodeSpec(replace(SMALL, views=2)))
    assert whole.images.shape == (40, 3, SMALL.size, SMALL.size)


def test_views_of_a_clip_are_drawn_apart():
    """Neither corner, start nor mirroring of the second follows from the first: no correlation."""
    draws = np.array([[draw(SMALL, 0, epoch, k, v) for v in (0, 1)] for k in range(300) for epoch in (0, 1)])
    for quantity in range(4):
        # Of 600 independent pairs the coefficient has deviation 0.04.
        assert abs(np.corrcoef(draws[:, 0, quantity], draws[:, 1, quantity])[0, 1]) < 0.16


def test_evaluation_sees_the_whole_frame():
    picture = jpg(smooth_picture(np.random.default_rng(1), 100, 180))
    store = tiny_store([0], seconds=4, rate=16000)
    store.clips[0]["jpg"] = picture
    batch = decode(store, Request(np.array([0]), None), DecodeSpec(Augmentation()))
    expected = np.asarray(Image.open(io.BytesIO(picture)).resize((224, 224), Image.Resampling.BICUBIC))
    assert np.abs(batch.images[0].permute(1, 2, 0).numpy().astype(int) - expected).max() <= 2


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_and_print_frames_become_rgb(mode):
    buffer = io.BytesIO()
    Image.fromarray(smooth_picture(np.random.default_rng(2), 48, 64)).convert(mode).save(buffer, "JPEG")
    store = tiny_store([0])
    store.clips[0]["jpg"] = buffer.getvalue()
    batch = decode(store, Request(np.array([0]), None), DecodeSpec(SMALL))
    assert batch.images.shape == (1, 3, 32, 32) and batch.images.float().std() > 5


def test_the_window_of_a_long_sound():
    samples = np.arange(1000) / 2000
    audio, last = wav(samples, 1000), 1 - 2**-53
    stored = (samples * 32767).astype("<i2") / np.float32(32768)
    for start, first in ((0.0, 0), (0.5, 400), (last, 800)):
        window = waveform(audio, SMALL, ClipView(0, 0, start, False))
        assert window.dtype == np.float32
        np.testing.assert_array_equal(window, stored[first : first + 200])


@pytest.mark.parametrize("length", [1, 70, 199, 200])
def test_a_short_sound_is_tiled(length):
    samples = np.linspace(-1, 1, length)
    window = waveform(wav(samples, 1000), SMALL, MIDDLE)
    stored = (samples * 32767).astype("<i2") / np.float32(32768)
    np.testing.assert_array_equal(window, np.tile(stored, 200)[:200])


def test_evaluation_hears_the_middle_of_what_was_recorded():
    """The packer repeats short sounds; the annotation says how much of the sound is the clip's own."""
    samples = np.arange(400) / 1000
    store = tiny_store([0])
    store.clips[0]["wav"] = wav(np.tile(samples, 3), 1000)
    store.clips[0]["json"] = b'{"index": 0, "seconds": 0.4}'
    stored = (samples * 32767).astype("<i2") / np.float32(32768)
    batch = decode(store, Request(np.array([0]), None), DecodeSpec(SMALL, annotated=True))
    np.testing.assert_array_equal(batch.waveforms[0], stored[100:300])
    store.clips[0]["json"] = b'{"index": 0, "seconds": 0.05}'
    batch = decode(store, Request(np.array([0]), None), DecodeSpec(SMALL, annotated=True))
    np.testing.assert_array_equal(batch.waveforms[0], np.tile(stored[:50], 4))


def test_the_silent_objects_sound_is_heard_whole():
    """The annotation's `seconds` are those of the clip's own sound; the other one's middle is another."""
    store, samples = tiny_store([0]), np.arange(1000) / 2000
    store.clips[0]["other.wav"] = wav(samples, 1000)
    store.clips[0]["json"] = b'{"index": 0, "seconds": 0.3}'
    stored = (samples * 32767).astype("<i2") / np.float32(32768)
    for decoder in (TorchDecoder(), DaliDecoder(device="cpu")):
        spec = DecodeSpec(SMALL, audio="other.wav", annotated=True)
        (batch,) = decoder.stream(store, [Request(np.array([0]), None)], spec, 0)
        np.testing.assert_array_equal(batch.waveforms[0], stored[400:600])


def test_another_sample_rate_is_the_users_to_change():
    with pytest.raises(UserError, match=r"1000 Hz are asked for, but the stored sound has 44100 Hz"):
        waveform(wav(np.zeros(100), 44100), SMALL, MIDDLE)


BREAKS = {
    "no frame": lambda clip: clip.pop("jpg"),
    "no sound": lambda clip: clip.pop("wav"),
    "empty frame": lambda clip: clip.update(jpg=b""),
    "empty sound": lambda clip: clip.update(wav=b""),
    "cut frame": lambda clip: clip.update(jpg=clip["jpg"][: len(clip["jpg"]) // 2]),
    "cut sound": lambda clip: clip.update(wav=clip["wav"][:-1]),
    "sound of no samples": lambda clip: clip.update(wav=wav(np.zeros(0), 1000)),
    "text as frame": lambda clip: clip.update(jpg=b"<html>404</html>" * 50),
    "text as sound": lambda clip: clip.update(wav=b"<html>404</html>" * 50),
    "stereo": lambda clip: clip.update(wav=stereo()),
}


def stereo() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((2, 2, 1000, 0, "NONE", "NONE"))
        file.writeframes(b"\0" * 4000)
    return buffer.getvalue()


def huge(picture: bytes) -> bytes:
    """Let a JPEG's header say 65000 × 65000 pixels, 12 GB once unfolded."""
    at = picture.index(b"\xff\xc0")
    return picture[: at + 5] + struct.pack(">HH", 65000, 65000) + picture[at + 9 :]


def huge_mask() -> bytes:
    """A PNG of a few bytes whose header says 50000 × 50000 pixels."""
    buffer = io.BytesIO()
    Image.new("1", (8, 8)).save(buffer, "PNG")
    header = struct.pack(">4sIIBBBBB", b"IHDR", 50000, 50000, 1, 0, 0, 0, 0)
    data = buffer.getvalue()
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


HOSTILE = {
    "a huge frame": lambda clip: clip.update(jpg=huge(clip["jpg"])),
    "a frame behind a marker that parsers skip": lambda clip: clip.update(
        jpg=clip["jpg"][:2] + b"\xff\xd0" + clip["jpg"][2:]
    ),
    "a huge mask": lambda clip: clip.update({"mask.png": huge_mask()}),
    "a list as annotation": lambda clip: clip.update(json=b"[]"),
    "a deep annotation": lambda clip: clip.update(json=b"[" * 100_000),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("decoder", [TorchDecoder(), DaliDecoder(device="cpu")], ids=["torch", "dali"])
def test_a_hostile_clip_costs_no_memory_and_no_run(kind, decoder):
    store = tiny_store(range(3))
    HOSTILE[kind](store.clips[1])
    spec = DecodeSpec(SMALL, policy="mask", annotated=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (batch,) = decoder.stream(store, [Request(np.arange(3), None)], spec, 0)
    assert batch.valid.tolist() == [True, False, True]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_size_in_a_jpegs_header(mode, progressive):
    buffer = io.BytesIO()
    picture = Image.fromarray(smooth_picture(np.random.default_rng(2), 48, 64)).convert(mode)
    picture.save(buffer, "JPEG", progressive=progressive, comment=b"c" * 300, icc_profile=b"\xff\xc0" * 99)
    assert frame_size(buffer.getvalue()) == (48, 64)


@pytest.mark.parametrize("kind", BREAKS)
def test_a_broken_clip_is_named_or_masked_and_never_replaced(kind):
    store = tiny_store(range(20, 24))
    BREAKS[kind](store.clips[22])
    request = Request(np.array([21, 22, 23]), (0, 0))
    with pytest.raises(UserError, match=r"tiny/shard-000003.tar: 000000022: the clip cannot be decoded"):
        decode(store, request, DecodeSpec(SMALL))
    batch = decode(store, request, DecodeSpec(SMALL, policy="mask"))
    assert batch.index.tolist() == [21, 22, 23]
    assert batch.valid.tolist() == [True, False, True]
    assert not batch.images[1].any() and not batch.waveforms[1].any()
    whole = decode(tiny_store(range(20, 24)), request, DecodeSpec(SMALL))
    for row in (0, 2):
        assert torch.equal(batch.images[row], whole.images[row])
        assert torch.equal(batch.waveforms[row], whole.waveforms[row])


@given(st.sampled_from(["jpg", "wav", "json", "mask.png"]), st.floats(0, 1, exclude_max=True))
@settings(max_examples=40, deadline=None)
def test_a_cut_member_is_a_broken_clip_wherever_it_is_cut(name, share):
    store = tiny_store(range(3))
    members = store.clips[1]
    members[name] = members[name][: int(share * len(members[name]))]
    batch = decode(store, Request(np.arange(3), None), DecodeSpec(SMALL, policy="mask", annotated=True))
    assert [note.index for note in notes_of(batch)] == [0, 1, 2]
    if name == "mask.png" and batch.valid.all():  # only what stands behind a PNG's pixels was cut off
        np.testing.assert_array_equal(notes_of(batch)[1].mask, notes_of(batch)[0].mask)
    else:
        assert batch.valid.tolist() == [True, False, True]


class FailingDisk:
    def read(self, index):
        raise OSError(5, "Input/output error", "tiny/shard-000003.tar")

    def prefetch(self, indices):
        pass

    def where(self, index):
        return "tiny"


@pytest.mark.parametrize("policy", ["raise", "mask"])
def test_an_input_output_error_is_no_broken_clip(policy):
    """Promise 12: masking it would train on silently less."""
    with pytest.raises(OSError, match="Input/output error"):
        decode(FailingDisk(), Request(np.array([1]), (0, 0)), DecodeSpec(SMALL, policy=policy))


def test_annotations_carry_decoded_masks_and_the_other_sound():
    store = tiny_store([4])
    store.clips[4]["other.mask.png"] = store.clips[4]["mask.png"]
    request = Request(np.array([4]), None)
    batch = decode(store, request, DecodeSpec(SMALL, annotated=True))
    (annotation,) = notes_of(batch)
    assert annotation.id == "clip4" and len(annotation.sources or ()) == 2
    for source in annotation.sources or ():
        assert source.mask is not None and source.mask.shape == (48, 64) and source.mask.dtype == np.uint8
        assert (source.mask == 255).sum() == 200
    other = decode(store, request, DecodeSpec(SMALL, audio="other.wav"))
    assert torch.equal(other.images, batch.images) and not torch.equal(other.waveforms, batch.waveforms)
    assert other.annotations is None


def test_the_masks_of_both_objects_are_not_mistaken_for_each_other():
    store = tiny_store([4])
    buffer, other = io.BytesIO(), np.zeros((48, 64), np.uint8)
    other[40:, 50:] = 255
    Image.fromarray(other).save(buffer, "PNG")
    store.clips[4]["other.mask.png"] = buffer.getvalue()
    batch = decode(store, Request(np.array([4]), None), DecodeSpec(SMALL, annotated=True))
    (annotation,) = notes_of(batch)
    first, second = annotation.sources or ()
    assert first.audible and first.mask is not None and not second.audible
    np.testing.assert_array_equal(second.mask, other)
    assert first.mask[:10, :20].min() == 255 and (first.mask == 255).sum() == 200


def pid_of(child: BaseProcess) -> int:
    assert child.pid is not None, "it was started"
    return child.pid


def test_workers_leave_signals_to_the_trainer_and_no_random_state_moves():
    """Launchers signal every process of a job: a worker that died would end the run before its checkpoint."""
    requests = [Request(np.array([index]), (0, 0)) for index in range(20)]
    before = torch.get_rng_state()
    others = set(torch.multiprocessing.active_children())
    stream = TorchDecoder().stream(tiny_store(), requests, DecodeSpec(SMALL), 1)
    first = next(stream)
    for child in set(torch.multiprocessing.active_children()) - others:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            os.kill(pid_of(child), number)
    assert [first.index.item(), *(batch.index.item() for batch in stream)] == list(range(20))
    assert torch.equal(before, torch.get_rng_state())


def _decode_until_killed(answer) -> None:
    requests = [Request(np.array([index]), (0, 0)) for index in range(20)]
    stream = TorchDecoder().stream(tiny_store(), requests, DecodeSpec(SMALL), 1)
    next(stream)
    (worker,) = torch.multiprocessing.active_children()
    os.kill(
        pid_of(worker), signal.SIGSTOP
    )  # it looks for its trainer no more than one that waits to hand over
    answer.send(worker.pid)
    time.sleep(600)


def test_a_worker_ends_when_its_trainer_is_killed():
    context = torch.multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    trainer = context.Process(target=_decode_until_killed, args=(theirs,))
    trainer.start()
    worker = ours.recv()
    trainer.kill()
    trainer.join()
    status, end = Path(f"/proc/{worker}/status"), time.monotonic() + 60
    while status.exists() and "State:\tZ" not in status.read_text():
        assert time.monotonic() < end, "the worker outlives its trainer"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 224, "short_side": 200}, "short_side: 200 is less than augmentation.size"),
        ({"duration": 0}, "duration: must hold"),
        ({"flip": 2.0}, "flip: 2.0 is no probability"),
    ],
)
def test_impossible_augmentation_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Augmentation(**options)
