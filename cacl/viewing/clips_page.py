"""What a model makes of clips without boxes: one HTML file of frames, maps and sounds, and no numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cacl.files import write_text
from cacl.viewing.gallery import Example, render_example
from cacl.viewing.pages import TEMPLATES, render
from cacl.viewing.report import training_chart


@dataclass(frozen=True)
class ClipsPage:
    """What the page shows."""

    name: str
    """Of the run."""
    data: str
    """Where the clips lie."""
    clips: int
    """How many there are."""
    seen: int
    """How many of them were looked at, of which some are shown."""
    gallery: Mapping[str, Sequence[Example]]
    """Examples by heading."""
    scale: tuple[float, float]
    """The cosines that are not drawn, and brightest."""
    theta: float | None
    """Above it something sounds, if it was fitted."""
    sample_rate: int
    losses: np.ndarray
    """[N, 2], a training's steps and the loss of each."""
    notes: Sequence[str]
    """Sentences on what the model knows of these clips."""
    facts: Mapping[str, str]


def write_clips_page(path: Path, page: ClipsPage) -> None:
    """Write the page."""
    html = render(
        TEMPLATES / "clips.html",
        name=page.name,
        data=page.data,
        clips=page.clips,
        seen=page.seen,
        notes=page.notes,
        scale=page.scale,
        theta=page.theta,
        chart=training_chart(page.losses),
        gallery={
            heading: [render_example(example, page.sample_rate) for example in examples]
            for heading, examples in page.gallery.items()
        },
        facts=page.facts,
    )
    write_text(path, html)
