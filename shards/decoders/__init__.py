"""Stored clips to tensors, by different libraries behind one interface."""

from typing import Annotated

from pydantic import Field

from shards.decoders.dali import DaliDecoder
from shards.decoders.torch import TorchDecoder

DecoderOptions = Annotated[TorchDecoder | DaliDecoder, Field(discriminator="name")]
"""The recipe's `decoder`."""
