"""How large what a recipe names may be: beyond these no file makes a model or a batch that fits a machine.

Recipes come with runs, exported files and manifests, and are checked before anything is allocated for them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Channels = Annotated[int, Field(gt=0, le=4096)]
"""Of an embedding or of a layer between trunk and embedding."""
MOST_VALUES = 2**14
"""Heads × channels of a layer: SLAVC has two of 512."""
MOST_PARAMETERS = 2**30
"""Of a network that is named: 4 GiB in float32."""
Pixels = Annotated[int, Field(gt=0, le=2048)]
"""Of an image's side."""
Hertz = Annotated[int, Field(gt=0, le=192_000)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
MOST_SAMPLES = 2**24
"""Of one sound: 17 minutes at 16 kHz."""
