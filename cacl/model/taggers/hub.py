"""Audio classifiers of the library transformers: AST and others, from a folder or a hub.

Axes: `n` sounds, `T` samples, `K` classes, `D` numbers of an embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cacl.errors import UserError, shorten
from cacl.limits import MOST_PARAMETERS
from cacl.model.taggers.base import SoundTagger, audioset_classes
from cacl.model.weights import sha256

_SAFE: dict[str, Any] = {"trust_remote_code": False}


class HubTagger(SoundTagger):
    """A classifier with its own feature extractor; an embedding is the mean over the last layer's tokens."""

    def __init__(self, name: str, network: Any, extractor: Any) -> None:
        classes = tuple(str(network.config.id2label[k]) for k in range(network.config.num_labels))
        super().__init__(name, int(extractor.sampling_rate), classes, sha256(network.state_dict()))
        self.network, self.extractor = network.eval().requires_grad_(False), extractor
        self.excludes = _excludes(network.config)

    def _hear(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        sounds = list(waveforms.float().cpu().numpy())
        given = self.extractor(sounds, sampling_rate=self.sample_rate, return_tensors="pt")
        given = {key: value.to(waveforms.device) for key, value in given.items()}
        found = self.network(**given, output_hidden_states=True)
        logits = found.logits.float()
        probabilities = logits.softmax(1) if self.excludes else logits.sigmoid()
        return probabilities, found.hidden_states[-1].mean(1).float()


def load_hub_tagger(name: str) -> HubTagger:
    """Return the tagger "transformers:FOLDER" or "transformers:OWNER/NAME" of the hub.

    Only safetensors are read, and no code that comes with a model is run. A folder needs no network. Raises
    UserError for what cannot be read, is no audio classifier, or is larger than a machine should hold.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    source = name.partition(":")[2]
    options = {**_SAFE, "local_files_only": Path(source).is_dir()}
    classifiers = transformers.AutoModelForAudioClassification
    try:
        config = transformers.AutoConfig.from_pretrained(source, **options)
        with torch.device("meta"):  # counted before anything is allocated
            size = sum(each.numel() for each in classifiers.from_config(config, **_SAFE).parameters())
        if size > MOST_PARAMETERS:
            raise UserError(f"--tagger {name}: has {size} parameters; at most {MOST_PARAMETERS} are loaded")
        extractor = transformers.AutoFeatureExtractor.from_pretrained(source, **options)
        network, found = classifiers.from_pretrained(
            source, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **options
        )
        if missing := sorted(found["missing_keys"]):
            raise UserError(
                f"--tagger {name}: the weights lack {missing[0]!r}, which would be random; name a trained "
                "audio classifier"
            )
        return HubTagger(name, network, extractor)
    except UserError:
        raise
    except Exception as error:  # the library has many kinds
        raise UserError(
            f"--tagger {name}: cannot be loaded ({shorten(error)}); name a folder with config.json, "
            "preprocessor_config.json and model.safetensors of an audio classifier, or such a one on the hub"
        ) from error


def _excludes(config: Any) -> bool:
    """Say whether one class excludes the others: as the model says, else not where they are AudioSet's."""
    if config.problem_type is not None:
        return bool(config.problem_type == "single_label_classification")
    return bool(config.num_labels != len(audioset_classes()))
