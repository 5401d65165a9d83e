"""Who is in a scene and who is heard, drawn before anything is read or painted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from cacl.errors import UserError
from shards.scenes.collections import Instance
from shards.scenes.world import Material

Random = np.random.Generator
T = TypeVar("T")


@dataclass(frozen=True)
class Wish:
    """What scenes hold."""

    fewest: int = field(default=1, metadata={"help": "fewest objects in a frame, each of another class"})
    most: int = field(default=4, metadata={"help": "most objects in a frame"})
    sounding: int = field(default=1, metadata={"help": "most of them that are heard at once"})
    off_screen: float = field(
        default=0.0, metadata={"help": "share of scenes in which only something out of view is heard"}
    )
    silence: float = field(default=0.0, metadata={"help": "share of scenes in which nothing is heard"})
    clip_per_object: bool = field(
        default=False, metadata={"help": "a clip for each object of a frame, under one image key"}
    )


class Role(NamedTuple):
    """An object in the frame and the recording that is its voice in this scene."""

    picture: Instance
    recording: Instance


class Cast(NamedTuple):
    """One frame, and who is heard in each of its clips."""

    background: Instance
    roles: tuple[Role, ...]
    heard: tuple[tuple[int, ...], ...]
    """Of each clip, which of the roles are heard."""
    off_screen: Instance | None
    """The recording of a class that is not in view, heard in the only clip."""


def draw_cast(random: Random, material: Material, wish: Wish) -> Cast:
    """Draw classes without repetition, then a picture and a recording of each."""
    kind = random.random()
    absent = wish.silence <= kind < wish.silence + wish.off_screen
    count = int(random.integers(wish.fewest, wish.most + 1))
    chosen = [material.classes[k] for k in random.permutation(len(material.classes))[: count + 1]]
    roles = tuple(
        Role(draw_one(random, material.pictures[name]), draw_one(random, material.recordings[name]))
        for name in chosen[:count]
    )
    background = draw_one(random, material.backgrounds)
    if absent:
        return Cast(background, roles, ((),), draw_one(random, material.recordings[chosen[count]]))
    if kind < wish.silence:
        heard: tuple[tuple[int, ...], ...] = ((),)
    elif wish.clip_per_object:
        heard = tuple((k,) for k in range(count))
    else:
        heard = (tuple(range(int(random.integers(1, min(wish.sounding, count) + 1)))),)
    return Cast(background, roles, heard, None)


def check_wish(wish: Wish, material: Material) -> None:
    """Raise UserError for what no scene can be, naming the option."""
    if not 1 <= wish.fewest <= wish.most <= 8:
        raise UserError(
            f"--fewest {wish.fewest} --most {wish.most}: both must be 1 to 8, and --most not below --fewest"
        )
    if not 1 <= wish.sounding <= wish.most:
        raise UserError(f"--sounding {wish.sounding}: must be 1 to --most {wish.most}")
    if wish.clip_per_object and wish.sounding > 1:
        raise UserError("--clip-per-object: one object is heard in each clip; leave out --sounding")
    for option, value in (("--off-screen", wish.off_screen), ("--silence", wish.silence)):
        if not 0 <= value <= 1:
            raise UserError(f"{option} {value:g}: is not a share from 0 to 1, such as 0.1")
    if wish.off_screen + wish.silence > 1:
        raise UserError("--off-screen and --silence: are more than 1 together")
    needed = wish.most + (wish.off_screen > 0)
    if len(material.classes) < needed:
        raise UserError(
            f"--most {wish.most}: needs {needed} classes that have a picture and a recording, and there are "
            f"{len(material.classes)}; add --objects or --sounds, or see: cacl scenes classes"
        )
    if not material.backgrounds:
        raise UserError("--backgrounds: this split has no photograph; add some")


def draw_one(random: Random, things: Sequence[T]) -> T:
    """Draw one of several."""
    return things[int(random.integers(len(things)))]
