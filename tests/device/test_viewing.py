"""A model on the device shows where the sound is in pictures of the host."""

from __future__ import annotations

import numpy as np

from cacl.model import audio, image
from cacl.model.localizer import Localizer, ModelOptions
from cacl.viewing.localize import SoundFinder, localize_picture
from tests.device.crossings import VIEWING
from tests.device.flow import DEVICE, DeviceFlow


def test_a_picture_is_localized_on_the_device():
    options = ModelOptions(image=image.SmallCnn(channels=16), audio=audio.SmallCnn(channels=16), dimension=8)
    picture = np.zeros((40, 60, 3), np.uint8)
    with DeviceFlow(VIEWING) as flow:
        finder = SoundFinder(Localizer(options).eval().to(DEVICE), image_size=32, duration=0.5)
        drawn, raw = localize_picture(finder, picture, np.zeros(8000, np.float32))
    assert drawn.size == (60, 40) and raw.shape == (2, 2)
    assert flow.crossed == VIEWING.keys()
