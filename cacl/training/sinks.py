"""Other places that a training's lines may go to, beside train.jsonl."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from cacl.errors import UserError, shorten
from cacl.extras import named_extras
from cacl.runs.directory import Run


class Sink(ABC):
    """Takes the lines of train.jsonl as they are written."""

    @abstractmethod
    def __init__(self, folder: Path) -> None:
        """Write for the run in `folder`."""

    @abstractmethod
    def log(self, line: Mapping[str, Any]) -> None:
        """Take one line."""

    @abstractmethod
    def close(self) -> None:
        """Bring everything to the disk."""


class TensorBoard(Sink):
    """Event files in `<run>/tensorboard`."""

    def __init__(self, folder: Path) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, line: Mapping[str, Any]) -> None:
        for name, value in numbers(line):
            self._writer.add_scalar(name, value, line["step"])

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases(Sink):
    """Weights & Biases, with the recipe as its configuration; WANDB_MODE=offline where there is no network.

    A run that goes on is the same run there: steps that it has already, which are taken again, it ignores.
    """

    def __init__(self, folder: Path) -> None:
        with named_extras("training.log"):
            import wandb

        kept = folder / "wandb-id"
        if not kept.exists():
            kept.write_text(secrets.token_hex(4))
        try:
            self._run = wandb.init(
                project="cacl",
                name=folder.name,
                id=kept.read_text(),
                resume="allow",
                config=Run(folder).recipe(),
                dir=str(folder),
            )
        except wandb.Error as error:  # no key, no network, no permission
            raise UserError(
                f"training.log: wandb: {shorten(error)}; say who you are with: wandb login, or keep files "
                "here with WANDB_MODE=offline, and go on with --resume",
                exit_code=1,
            ) from error

    def log(self, line: Mapping[str, Any]) -> None:
        self._run.log(dict(numbers(line)), step=line["step"])

    def close(self) -> None:
        self._run.finish()


SINKS: dict[str, type[Sink]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
SinkName = Literal["tensorboard", "wandb"]


def numbers(line: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a line under its path, such as `validation/recall_at_1`."""
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield prefix + name, value
