"""The CPU image, built from its unchanged Dockerfile on a stand-in for its base, and used as a user would.

buildah builds and runs without an engine (`--isolation chroot`). The machine's own pip settings are mounted into
the build, so that it works behind a mirror; nothing of them stays in the image.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.container, pytest.mark.timeout(3000)]
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BASE = "docker.io/library/python:3.13-slim-trixie"
CACHE = Path(os.environ.get("CACL_CACHE") or ROOT / ".cache")


class Images:
    """buildah with a store of its own."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def buildah(self, *words: str | Path) -> str:
        """Run buildah and return what it prints."""
        command = ["buildah", "--root", self.store / "root", "--runroot", self.store / "run", *words]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    def run(self, container: str, *words: str, mount: Path | None = None) -> str:
        """Run a command in a container as the image's user."""
        volumes = ["--volume", f"{mount}:/work:rw"] if mount else []
        return self.buildah("run", "--isolation", "chroot", *volumes, container, "--", *words)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """A store that holds the stand-in for the base image and the CPU image."""
    require_builders()
    folder = tmp_path_factory.mktemp("images")
    store = Images(folder)
    tar = CACHE / "container" / "trixie-python.tar"
    subprocess.run(
        ["bash", HERE / "stand_in.sh", folder, tar, BASE, "python3,python3-venv,ca-certificates,passwd"],
        check=True,
    )
    store.buildah(
        "build", "--isolation", "chroot", "--pull-never", "--format", "docker", "--file", ROOT / "docker/cpu.Dockerfile",
        "--build-arg", "REVISION=tested", "--tag", "cacl:cpu", *pip_mounts(folder), ROOT,
    )  # fmt: skip
    yield store
    store.buildah("rm", "--all")
    store.buildah("rmi", "--all", "--force")


def require_builders() -> None:
    """Skip where no image can be built."""
    if os.geteuid() != 0 or not shutil.which("buildah") or not shutil.which("mmdebstrap"):
        pytest.skip("building images needs root and Debian's buildah and mmdebstrap (make test-container)")


@pytest.fixture
def container(images: Images) -> Iterator[str]:
    """A container of the CPU image."""
    name = images.buildah("from", "--pull-never", "cacl:cpu").strip()
    yield name
    images.buildah("rm", name)


def pip_mounts(folder: Path) -> list[str]:
    """Return the mounts that give a build this machine's pip settings and the folders that they name."""
    listed = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    settings = dict(re.findall(r"^(?:global|:env:)\.([\w-]+)='(.*)'$", listed, re.M))
    file = folder / "pip.conf"
    lines = [f"{key} = {value}" for key, value in settings.items()]
    file.write_text("[global]\n" + "\n".join(lines) + "\n")
    paths = {re.sub(r"^file://", "", word) for value in settings.values() for word in value.split()}
    roots = {f"/{Path(path).parts[1]}/{Path(path).parts[2]}" for path in paths if path.startswith("/")}
    mounts = [f"{root}:{root}:ro" for root in sorted(roots) if Path(root).exists()]
    return [word for mount in [*mounts, f"{file}:/etc/pip.conf:ro"] for word in ("--volume", mount)]


def test_the_image_says_what_it_is(images: Images) -> None:
    config = json.loads(images.buildah("inspect", "--type", "image", "cacl:cpu"))["Docker"]["config"]
    assert config["User"] == "1000"
    assert config["Labels"]["org.opencontainers.image.revision"] == "tested"
    assert config["Healthcheck"]["Test"] == ["CMD", "cacl", "doctor"]


def test_the_healthcheck_passes(images: Images, container: str) -> None:
    assert "what every job needs is here" in images.run(container, "cacl", "doctor")


def test_nothing_of_the_build_stays(images: Images, container: str) -> None:
    left = images.run(container, "sh", "-c", "id -u; ls -d /source; cat /etc/pip.conf; true")
    assert left == "1000\n", "no sources, and of the mounted settings at most an empty file"


def test_a_tiny_training_runs_as_nobody_special(images: Images, container: str, tmp_path: Path) -> None:
    shutil.chown(tmp_path, 1000, 1000)
    for words in (
        ["cacl", "pack", "generated", "--out", "shards"],
        ["cacl", "train", "tiny.yaml", "--run-dir", "run", "--nproc-per-node", "2", "--max-steps", "2"],
    ):
        (tmp_path / "tiny.yaml").write_text("data: {train: shards}\n")
        images.run(container, *words, mount=tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/train.jsonl").read_text().splitlines()]
    assert steps == [1, 2]
