"""DALI on every device delivers the views of the torch decoder, where the images are wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from shards.decoders.augmentation import Augmentation
from shards.decoders.clip import DecodeSpec, Request
from shards.decoders.dali import DaliDecoder
from shards.decoders.torch import TorchDecoder
from tests.shards.tiny import TinyStore, tiny_store

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")


def pairs(store: TinyStore, device: torch.device, policy: Any = "raise"):
    pytest.importorskip("nvidia.dali", reason="DALI is not installed here")
    requests = [Request(np.arange(8), (0, epoch)) for epoch in range(3)]
    spec = DecodeSpec(Augmentation(), policy)
    dali = DaliDecoder(device="mixed" if device.type == "cuda" else "cpu")
    ours = dali.stream(store, requests, spec, 2)
    return zip(ours, TorchDecoder().stream(store, requests, spec, 0), strict=True)


def test_the_views_are_those_of_the_torch_decoder(device):
    """Of 255: half in the mean, and 8 where the frame has an edge, as DaliDecoder says."""
    store = tiny_store(range(8), height=360, width=640, seconds=4, rate=16000)
    for ours, torchs in pairs(store, device):
        assert ours.images.device.type == device.type
        difference = (ours.images.cpu().int() - torchs.images.int()).abs()
        assert difference.float().mean() <= 0.5 and difference.max() <= 8
        assert torch.equal(ours.index, torchs.index) and torch.equal(ours.waveforms, torchs.waveforms)


def test_a_broken_clip_is_masked_and_alone(device):
    store = tiny_store(range(8), height=100, width=150, seconds=4, rate=16000)
    del store.clips[5]["wav"]
    for ours, _ in pairs(store, device, "mask"):
        assert ours.valid.tolist() == [True] * 5 + [False] + [True] * 2
        assert not ours.images[5].any() and ours.images[4].any()
