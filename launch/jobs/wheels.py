"""Wheels for a machine without a network: what its Python lacks for cacl, in folders that travel one by one.

What the machine holds stays as it is: a torch that a vendor built for its GPUs is not replaced.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.parser import HeaderParser
from importlib.metadata import requires
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from cacl.errors import UserError
from cacl.files import regular
from launch.jobs import Say

_EARLIER_VERSIONS = 8
"""How many versions of a package are tried for one that fits what the machine holds."""


@dataclass(frozen=True)
class Machine:
    """The machine that wheels are for: Linux, with this one's kind of processor."""

    python: str
    """Such as 3.12."""
    installed: Mapping[str, str]
    """Version of each package, by its normalized name."""
    glibc: int = 28
    """Minor version of its glibc 2, which decides the wheels that run."""

    @property
    def version(self) -> tuple[int, int]:
        """Return Python's version as two numbers."""
        major, minor = self.python.split(".")
        return int(major), int(minor)

    @property
    def platforms(self) -> list[str]:
        """Return the platforms whose wheels run there, as pip names them, the newest first."""
        kind = platform.machine()
        names = [f"manylinux_2_{minor}_{kind}" for minor in range(self.glibc, 4, -1)]
        return [*names, *(f"manylinux{name}_{kind}" for name in ("2014", "2010", "1"))]

    def takes(self, wheel: str) -> bool:
        """Say whether a wheel of this name runs there."""
        platforms = list(self.platforms)
        if sys.version_info[:2] == self.version:
            platforms.append(f"linux_{platform.machine()}")  # built here
        tags = {*cpython_tags(self.version, platforms=platforms)}
        tags |= {*compatible_tags(self.version, f"cp{self.version[0]}{self.version[1]}", platforms)}
        return not tags.isdisjoint(parse_wheel_filename(wheel)[3])

    def needs(self, requirements: Sequence[str], extras: Sequence[str]) -> Iterator[Requirement]:
        """Yield those of a package's requirements that count there, with these of its extras."""
        facts: dict[str, Any] = {**default_environment(), "python_version": self.python}
        facts |= {"python_full_version": f"{self.python}.0", "sys_platform": "linux"}
        for requirement in map(Requirement, requirements):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({**facts, "extra": extra}) for extra in ("", *extras)):
                yield requirement

    def contradicts(self, requirement: Requirement) -> bool:
        """Say whether the package that is there is not the one that is asked for."""
        there = self.installed.get(canonicalize_name(requirement.name))
        return there is not None and not requirement.specifier.contains(there, prereleases=True)


@dataclass
class Collection:
    """What was collected, and what is to be known of it."""

    pieces: list[Path]
    """Folders of wheels, each within the limit."""
    too_large: list[Path]
    """Wheels that are larger than a piece may be."""
    missing: dict[str, str] = field(default_factory=dict)
    """Packages that could not be had, and why."""
    contradictions: list[str] = field(default_factory=list)
    """What the machine holds in another version than is asked for."""


@dataclass
class _Package:
    """A package that the machine lacks, as far as it is known what is asked of it."""

    asked: Requirement
    wheel: Path | None = None

    def suffices(self, requirement: Requirement) -> bool:
        """Say whether the wheel that was fetched is one that `requirement` asks for too."""
        version = parse_wheel_filename(self.wheel.name)[1] if self.wheel else None
        known = requirement.extras <= self.asked.extras
        return version is not None and known and requirement.specifier.contains(version, prereleases=True)


def read_pip_list(path: Path) -> dict[str, str]:
    """Return the versions that `pip list --format=json` wrote, by normalized name. Raises UserError."""
    try:
        entries = json.loads(regular(path, "give a file of JSON").read_text())
        return {canonicalize_name(one["name"]): str(one["version"]) for one in entries}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: is not what `pip list --format=json` writes: {error}") from error


def collect_wheels(
    machine: Machine,
    out: Path,
    *,
    extras: Sequence[str] = (),
    more: Sequence[str] = (),
    limit_mib: float = 64.0,
    say: Say = lambda sentence: None,
) -> Collection:
    """Write what `machine` lacks for cacl with `extras`, and for the requirements `more`, below `out`.

    Source distributions are built here. The wheels lie in the folders `piece-1`, `piece-2`, ... of at most
    `limit_mib` each, larger ones in `too-large`. Raises UserError if `out` is taken, or the machine has no
    torch.
    """
    if "torch" not in machine.installed:
        raise UserError("pip list: names no torch, and torch is the machine's own; say --torch VERSION")
    if out.exists():
        raise UserError(f"{out}: exists already; name another --out, or remove it")
    with tempfile.TemporaryDirectory() as folder:
        packages, collection = _close(machine, Path(folder), extras, more, say)
        wheels = sorted((p.wheel for p in packages.values() if p.wheel), key=lambda path: path.name)
        collection.pieces, collection.too_large = _deal(wheels, out, int(limit_mib * 2**20))
    return collection


def _close(
    machine: Machine, folder: Path, extras: Sequence[str], more: Sequence[str], say: Say
) -> tuple[dict[str, _Package], Collection]:
    """Fetch what is lacking, and what that needs in turn."""
    packages: dict[str, _Package] = {}
    collection = Collection([], [])
    own = Requirement(f"cacl[{','.join(extras)}]" if extras else "cacl")
    waiting, read = [own, *_parse(more)], set[str]()
    while waiting:
        requirement = waiting.pop(0)
        name = canonicalize_name(requirement.name)
        if str(requirement) in read:
            continue
        read.add(str(requirement))
        if name == "cacl":
            waiting += machine.needs(requires("cacl") or [], sorted(requirement.extras))
        elif name in machine.installed:
            if machine.contradicts(requirement):
                collection.contradictions.append(f"{requirement} (there: {machine.installed[name]})")
        elif name not in collection.missing:
            package = packages.setdefault(name, _Package(Requirement(name)))
            sufficed = package.suffices(requirement)
            package.asked.specifier &= requirement.specifier
            package.asked.extras |= requirement.extras
            if sufficed:
                continue
            say(f"{package.asked}")
            try:
                package.wheel = _fetch_fitting(package.asked, machine, folder)
            except _Unavailable as error:
                collection.missing[name] = str(error)
                continue
            waiting += machine.needs(_requirements_of(package.wheel), sorted(package.asked.extras))
    return packages, collection


def _parse(requirements: Sequence[str]) -> list[Requirement]:
    try:
        return [Requirement(text) for text in requirements]
    except InvalidRequirement as error:
        raise UserError(f"{error}; write it as in: deepspeed==0.19.8") from error


class _Unavailable(Exception):
    """No wheel can be had that runs on the machine."""


def _fetch_fitting(asked: Requirement, machine: Machine, folder: Path) -> Path:
    """Return the newest wheel that asks for nothing but what the machine holds, or else the newest."""
    tried: list[Path] = []
    for _ in range(_EARLIER_VERSIONS):
        passed_over = [f"!={parse_wheel_filename(wheel.name)[1]}" for wheel in tried]
        versions = ",".join(filter(None, [str(asked.specifier), *passed_over]))
        try:
            wheel = _fetch(asked.name + versions, machine, Path(tempfile.mkdtemp(dir=folder)))
        except _Unavailable:
            if not tried:
                raise
            break
        needed = machine.needs(_requirements_of(wheel), sorted(asked.extras))
        if not any(map(machine.contradicts, needed)):
            return wheel
        tried.append(wheel)
    return tried[0]


def _fetch(asked: str, machine: Machine, folder: Path) -> Path:
    """Fetch a wheel, or build it from source, in a `folder` that is empty."""
    words = ["--only-binary=:all:", "--implementation", "cp", "--python-version", machine.python]
    words += [word for name in machine.platforms for word in ("--platform", name)]
    problem = _pip("download", asked, *words, "--dest", str(folder))
    if not list(folder.glob("*.whl")):
        problem = _pip("wheel", asked, "--wheel-dir", str(folder)) or problem
    for wheel in folder.glob("*.whl"):
        if machine.takes(wheel.name):
            return wheel
        problem = f"{wheel.name} was built from source for this Python; run this by Python {machine.python}"
    raise _Unavailable(problem)


def _pip(command: str, asked: str, *words: str) -> str:
    """Run pip for one package without what it needs; return the last thing it complains of."""
    line = [sys.executable, "-m", "pip", command, "--quiet", "--no-deps", *words, asked]
    answer = subprocess.run(line, capture_output=True, text=True, check=False)
    errors = re.findall(r"^ *(?:ERROR|error): (.+)$", answer.stderr, re.MULTILINE)
    return errors[-1] if errors else answer.stderr.strip()[-200:]


def _requirements_of(wheel: Path) -> list[str]:
    with ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        headers = HeaderParser().parsestr(archive.read(name).decode())
    return headers.get_all("Requires-Dist") or []


def _deal(wheels: Sequence[Path], out: Path, limit: int) -> tuple[list[Path], list[Path]]:
    """Move wheels into as few folders as the first that has room gives, the largest first."""
    rooms: list[int] = []
    too_large = []
    for wheel in sorted(wheels, key=lambda path: -path.stat().st_size):
        size = wheel.stat().st_size
        if size > limit:
            folder = out / "too-large"
            too_large.append(folder / wheel.name)
        else:
            number = next((k for k, room in enumerate(rooms) if size <= room), len(rooms))
            rooms += [limit] * (number == len(rooms))
            rooms[number] -= size
            folder = out / f"piece-{number + 1}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(wheel, folder)
    return [out / f"piece-{number + 1}" for number in range(len(rooms))], too_large
