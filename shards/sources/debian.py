"""Debian packages as plain files: fetched by apt-get without root, with lists and a cache of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from cacl.errors import UserError
from shards.progress import progress


class Unavailable(UserError):
    """Debian's packages cannot be had on this machine. `cacl pack` exits 3 then."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=3)


def fetch(packages: list[str], folder: Path) -> dict[str, str]:
    """Download and unpack `packages` into `folder / "files"`; return the version of each.

    Raises Unavailable, in one sentence, where apt-get is missing or cannot reach an archive.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unavailable(
                f"{tool}: is not on this machine, so the packages {', '.join(packages)} cannot be had"
            )
    apt = _apt(folder / "apt")
    _run([*apt, "update"], packages)
    _download(apt, packages, folder)
    versions = {}
    for name in progress(packages, desc="unpacking", unit="package"):
        archive = str(next(folder.glob(f"{name}_*.deb")))
        _run(["dpkg-deb", "-x", archive, str(folder / "files")], packages)
        versions[name] = _run(["dpkg-deb", "-f", archive, "Version"], packages).strip()
    return versions


def _apt(folder: Path) -> list[str]:
    """Return apt-get with everything that it writes under `folder`."""
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    options = {
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": folder / "cache",
        "Debug::NoLocking": "true",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "20",
    }
    return ["apt-get", "-q", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]


def _download(apt: list[str], packages: list[str], folder: Path) -> None:
    # A line is: 'URI' name size checksum.
    listed = _run([*apt, "download", "--print-uris", *packages], packages)
    total = sum(int(line.split()[2]) for line in listed.splitlines() if line.startswith("'"))
    with (
        subprocess.Popen(
            [*apt, "download", *packages],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        progress(desc="downloading", total=total, unit="B", unit_scale=True) as bar,
    ):
        while process.poll() is None:
            time.sleep(0.2)
            here = [*folder.glob("*.deb"), *(folder / "apt").rglob("partial/*")]
            bar.update(sum(file.stat().st_size for file in here if file.exists()) - bar.n)
        assert process.stderr is not None
        if process.returncode:
            raise _unavailable(process.stderr.read(), packages)


def _run(command: list[str], packages: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode:
        raise _unavailable(done.stderr, packages)
    return done.stdout


def _unavailable(stderr: str, packages: list[str]) -> Unavailable:
    lines = [line for line in stderr.splitlines() if line.startswith("E:")] or [
        stderr.strip() or "no message"
    ]
    return Unavailable(f"the packages {', '.join(packages)} cannot be had from Debian's archive: {lines[-1]}")
