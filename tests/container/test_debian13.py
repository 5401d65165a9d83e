"""The README's two commands on a bare Debian 13: its own Python, gcc, make, and nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.container.test_build import CACHE, ROOT, Images, pip_mounts, require_builders

pytestmark = [pytest.mark.debian13, pytest.mark.timeout(7200)]
HERE = Path(__file__).parent
BASE = "localhost/debian13"
BARE = "python3,python3-venv,gcc,libc6-dev,make,ca-certificates,passwd"


def test_the_two_commands_on_a_bare_debian_13(tmp_path: Path) -> None:
    """A checkout of what is committed, a user without rights, two commands; what they print is shown."""
    require_builders()
    store = Images(tmp_path)
    tar = CACHE / "container" / "debian13.tar"
    subprocess.run(["bash", HERE / "stand_in.sh", tmp_path, tar, BASE, BARE], check=True)
    container = store.buildah("from", "--pull-never", BASE).strip()
    source = tmp_path / "cacl"
    subprocess.run(["git", "clone", "--quiet", ROOT, source], check=True)
    store.buildah("run", "--isolation", "chroot", container, "--", "useradd", "--uid", "1000", "user")
    subprocess.run(["chown", "-R", "1000:1000", source], check=True)
    where = [
        "--isolation",
        "chroot",
        "--user",
        "user",
        "--workingdir",
        "/cacl",
        "--volume",
        f"{source}:/cacl:rw",
    ]
    command = ["buildah", "--root", store.store / "root", "--runroot", store.store / "run", "run", *where]
    command += [*pip_mounts(tmp_path), container, "--", "make"]
    for target in ("demo", "test"):
        done = subprocess.run([*map(str, command), target], env={**os.environ, "HOME": "/tmp"}, check=False)
        assert done.returncode == 0, target
    assert (source / "runs/demo/report.html").is_file()
