"""Taggers in the formats of other runtimes: ONNX and TFLite files that map waveforms to scores; and YAMNet.

Axes: `n` sounds, `T` samples, `W` windows of a sound, `w` samples of one, `K` classes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cacl.errors import UserError, shorten
from cacl.files import sha256_file
from cacl.model.taggers.base import SoundTagger, audioset_classes
from cacl.model.taggers.windows import windows

Array = npt.NDArray[np.float32]
Run = Callable[[Array], Array]
"""From one sound or window, float32 [T], to its scores [K]."""

YAMNET_RATE = 16_000
YAMNET_HOP = 7_680
"""Samples: 0.48 s, half of what YAMNet looks at."""
_NOT_IN_YAMNET = (
    "Male speech, man speaking",
    "Female speech, woman speaking",
    "Battle cry",
    "Male singing",
    "Female singing",
    "Funny music",
)
_TRIED = 1.0
"""Seconds of silence on which a network of any length is tried."""


class RuntimeTagger(SoundTagger):
    """A network that another runtime computes, on the processor, sound by sound.

    One of a fixed length hears windows, and scores are the mean over them.
    """

    def __init__(
        self,
        name: str,
        sample_rate: int,
        classes: tuple[str, ...],
        file: Path,
        run: Run,
        width: int | None = None,
        hop: int | None = None,
    ) -> None:
        """`width` and `hop` of windows are in samples; without a width the network takes whole sounds."""
        super().__init__(name, sample_rate, classes, sha256_file(file))
        self.run, self.width, self.hop = run, width, hop

    def _hear(self, waveforms: Tensor) -> tuple[Tensor, None]:
        width = self.width or waveforms.shape[1]
        cut = windows(waveforms.float(), width, self.hop or max(1, width // 2)).cpu().numpy()
        scores = np.stack([np.mean([self.run(window) for window in sound], axis=0) for sound in cut])
        return torch.from_numpy(scores.astype(np.float32)).to(waveforms.device), None


def load_yamnet(name: str, file: Path) -> RuntimeTagger:
    """Return YAMNet (github.com/tensorflow/models, `audioset/yamnet`) from its TFLite file.

    Scores are the mean over windows of 0.975 s every 0.48 s, as its authors' own program has them; its
    classes are AudioSet's without six. Raises UserError for another file.
    """
    classes = tuple(each for each in audioset_classes() if each not in _NOT_IN_YAMNET)
    run, width = open_tflite(name, file)
    if width is None or len(run(np.zeros(width, np.float32))) != len(classes):
        raise UserError(f"{file}: is not YAMNet, which has {len(classes)} classes; name its TFLite file")
    return RuntimeTagger(name, YAMNET_RATE, classes, file, run, width, YAMNET_HOP)


def load_runtime(name: str, file: Path, rate: int | None) -> RuntimeTagger:
    """Return the tagger "onnx:FILE" or "tflite:FILE"; `rate` is what it hears, Hz, where the file says none.

    Raises UserError for a file that cannot be read, or has other inputs and outputs than a tagger.
    """
    if name.startswith("onnx:"):
        run, width, said = open_onnx(name, file)
    else:
        run, width = open_tflite(name, file)
        said = None
    rate = rate or said
    if rate is None:
        raise UserError(f"--tagger {name}: does not say which rate it hears; name it by --tagger-rate HZ")
    scores = _tried(name, run, width or round(_TRIED * rate))
    classes = tuple(str(k) for k in range(len(scores)))
    return RuntimeTagger(name, rate, classes, file, run, width)


def open_onnx(name: str, file: Path) -> tuple[Run, int | None, int | None]:
    """Return what runs an ONNX file, its fixed length in samples, and the rate in its metadata, Hz.

    The metadata's key is `sample_rate`. Raises UserError for another network than a tagger.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread: the number of ranks and cores changes no label.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(_there(name, file), options, ["CPUExecutionProvider"])
    except UserError:
        raise
    except Exception as error:  # the runtime has many kinds
        raise UserError(f"{file}: cannot be read as ONNX ({shorten(error)}); export it again") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        raise UserError(f"{file}: {_EXPECTED}, but it takes {[(each.name, each.type) for each in inputs]}")
    shape = [size if isinstance(size, int) else None for size in inputs[0].shape]
    width = _width(file, shape)
    said = session.get_modelmeta().custom_metadata_map.get("sample_rate", "")

    def run(sound: Array) -> Array:
        scores = session.run(None, {inputs[0].name: sound.reshape(_axes(shape))})[0]
        return _scores(file, scores)

    return run, width, int(said) if said.isdecimal() and int(said) > 0 else None


def open_tflite(name: str, file: Path) -> tuple[Run, int | None]:
    """Return what runs a TFLite file, and its fixed length in samples.

    Raises UserError for another network than a tagger.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        network: Any = Interpreter(model_path=str(_there(name, file)), num_threads=1)
        inputs, outputs = network.get_input_details(), network.get_output_details()
        network.allocate_tensors()
    except UserError:
        raise
    except Exception as error:  # the runtime has many kinds
        raise UserError(f"{file}: cannot be read as TFLite ({shorten(error)}); convert it again") from error
    if len(inputs) != 1 or inputs[0]["dtype"] is not np.float32:
        raise UserError(
            f"{file}: {_EXPECTED}, but it takes {[(d['name'], d['dtype'].__name__) for d in inputs]}"
        )
    shape = [size if size > 0 else None for size in inputs[0]["shape_signature"].tolist()]
    width, place = _width(file, shape), inputs[0]["index"]

    def run(sound: Array) -> Array:
        given = sound.reshape(_axes(shape))
        if tuple(network.get_input_details()[0]["shape"]) != given.shape:
            network.resize_tensor_input(place, given.shape)
            network.allocate_tensors()
        network.set_tensor(place, given)
        network.invoke()
        return _scores(file, network.get_tensor(outputs[0]["index"]))

    return run, width


_EXPECTED = "expected one input of waveforms, float32 [T] or [1, T]"


def _there(name: str, file: Path) -> Path:
    if not file.is_file():
        raise UserError(f"--tagger {name}: there is no file {str(file)!r}; name the network's file")
    return file


def _width(file: Path, shape: list[int | None]) -> int | None:
    """Return the samples that an input of this shape takes, None for any number."""
    if not shape or len(shape) > 2 or (len(shape) == 2 and shape[0] not in (None, 1)):
        raise UserError(f"{file}: {_EXPECTED}, but its input is {['?' if n is None else n for n in shape]}")
    return shape[-1]


def _axes(shape: list[int | None]) -> tuple[int, ...]:
    return (1,) * (len(shape) - 1) + (-1,)


def _scores(file: Path, scores: Any) -> Array:
    """Return [K] of what a network gives: [K], [1, K], or the mean of [W, K] over windows of its own."""
    scores = np.asarray(scores)
    if scores.ndim not in (1, 2) or not scores.size or not np.issubdtype(scores.dtype, np.floating):
        raise UserError(
            f"{file}: expected scores of classes, float [1, K], as the first output, but it gives "
            f"{scores.dtype} {list(scores.shape)}"
        )
    return scores if scores.ndim == 1 else scores.mean(0)


def _tried(name: str, run: Run, samples: int) -> Array:
    try:
        return run(np.zeros(samples, np.float32))
    except UserError:
        raise
    except Exception as error:  # the runtimes have many kinds
        raise UserError(
            f"--tagger {name}: fails on {samples} samples of silence ({shorten(error)}); is it a tagger of "
            "waveforms?"
        ) from error
