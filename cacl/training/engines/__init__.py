"""Engines that a recipe can name: a new one is a module here and one more member of the union."""

from typing import Annotated

from pydantic import Field

from cacl.training.engines.base import Engine
from cacl.training.engines.ddp import DDP
from cacl.training.engines.deepspeed import DeepSpeed

EngineOptions = Annotated[DDP | DeepSpeed, Field(discriminator="name")]

__all__ = ["DDP", "DeepSpeed", "Engine", "EngineOptions"]
