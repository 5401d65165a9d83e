"""Both published mixings against their formulas on one map at a time."""

import numpy as np
import pytest
import torch

from cacl.evaluation.protocols import PROTOCOLS
from cacl.evaluation.refinement import FixedRange, MinMax, best_alpha, mix_maps, object_maps, once_a_batch
from cacl.evaluation.upsampling import upsample
from cacl.model.image import SmallCnn

VGGSS = PROTOCOLS["vggss"]


def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 14, 14, generator=generator) * 2 - 1, torch.rand(3, 7, 7, generator=generator) * 2.5


def mixed(mixing):
    audio, objects = pair()
    maps = mix_maps(lambda images, spectrograms: audio, lambda images, spectrograms: objects, mixing, VGGSS)
    return maps(torch.zeros(3), torch.zeros(3))


def test_min_max_is_ez_vsl_mixing():
    for mix, audio, objects in zip(mixed(MinMax(0.4)), *pair(), strict=True):
        av, ob = (upsample(one[None], 224, VGGSS.upsampling)[0].numpy() for one in (audio, objects))
        av, ob = ((one - one.min()) / (one.max() - one.min()) for one in (av, ob))
        np.testing.assert_allclose((mix.numpy() + 1) / 2, 0.4 * av + 0.6 * ob, atol=1e-6)


def test_fixed_range_is_slavc_mixing():
    tau = 0.03
    for mix, audio, objects in zip(mixed(FixedRange(0.9)), *pair(), strict=True):
        av = (upsample(audio[None], 224, VGGSS.upsampling)[0].numpy() / tau + 1 / tau) / (2 / tau)
        ob = upsample(objects[None], 224, VGGSS.upsampling)[0].numpy() / 2.5
        np.testing.assert_allclose((mix.numpy() + 1) / 2, 0.9 * av + 0.1 * ob, atol=1e-5)


@pytest.mark.parametrize("mixing", [MinMax, FixedRange])
def test_alpha_one_hears_only_and_alpha_zero_is_deaf(mixing):
    audio, objects = (upsample(one, 224, VGGSS.upsampling) for one in pair())
    for alpha, alone in ((1.0, audio), (0.0, objects)):
        order = mixed(mixing(alpha)).flatten(1).argsort(1)
        ranked = alone.flatten(1).gather(1, order)
        assert (ranked.diff(dim=1) >= -1e-6).all()


def test_object_maps_are_the_mean_absolute_feature():
    trunk = SmallCnn(channels=16, frozen=True).build()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    maps = object_maps(trunk)(images, torch.zeros(2, 8))
    features = trunk(trunk.normalize(images))
    torch.testing.assert_close(maps[1, 2, 3], sum(abs(value) for value in features[1, :, 2, 3]) / 16)


def test_the_best_alpha_is_the_smallest_of_those_that_tie():
    assert best_alpha({0.0: 0.1, 0.5: 0.3, 0.6: 0.3, 1.0: 0.2}) == 0.5


def test_maps_are_remembered_for_the_same_frames_and_sounds_only():
    asked = []

    def maps(images, waveforms):
        asked.append((images, waveforms))
        return images.float().mean(1) + waveforms.mean(1)[:, None, None]

    remembered = once_a_batch(maps)
    images, audio = torch.ones(2, 3, 4, 4), torch.zeros(2, 8)
    for frames, heard in ((images, audio), (images, audio), (images, audio + 1), (images + 1, audio + 1)):
        assert torch.equal(remembered(frames, heard), maps(frames, heard))
    assert len(asked) == 4 + 3
