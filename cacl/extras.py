"""Libraries that not every job needs, and the extra of this package that brings each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cacl.errors import UserError

EXTRA_OF = {
    "ai_edge_litert": "taggers",
    "aiohttp": "data",
    "av": "data",
    "boto3": "s3",
    "deepspeed": "deepspeed",
    "fsspec": "data",
    "imagehash": "data",
    "jinja2": "eval",
    "matplotlib": "eval",
    "nvidia": "dali",
    "packaging": "wheels",
    "pandas": "ray",
    "onnxruntime": "app",
    "PIL": "data",
    "pycocotools": "eval",
    "pyarrow": "data",
    "ray": "ray",
    "s3fs": "s3",
    "sklearn": "labels",
    "soundfile": "data",
    "tensorboardX": "train",
    "timm": "towers",
    "torchmetrics": "eval",
    "torchvision": "towers",
    "transformers": "taggers",
    "tqdm": "data",
    "wandb": "wandb",
}
"""By a library's name in an import, the smallest extra of pyproject.toml that holds it."""


class MissingLibrary(UserError, ImportError):
    """A library that is not installed. Its message names the extra that brings it."""


@contextmanager
def named_extras(field: str = "") -> Iterator[None]:
    """Raise MissingLibrary, one sentence, where an import within finds no library of an extra.

    `field` is the key of a recipe that asks for the library.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRA_OF:
            raise
        asked = field and f"{field}: "
        raise MissingLibrary(
            f"{asked}{library} is not installed; in cacl's folder: pip install '.[{EXTRA_OF[library]}]'"
        ) from error
