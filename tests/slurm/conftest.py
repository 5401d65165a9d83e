"""One SLURM for the session, started where the tests of this folder ask for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A controller and two nodes."""
    if os.geteuid() != 0 or not shutil.which("slurmctld"):
        pytest.skip("a SLURM of the tests needs root and Debian's slurm-wlm and munge (make test-slurm)")
    folder = tmp_path_factory.mktemp("slurm")
    for parent in [folder, *folder.parents[:2]]:
        parent.chmod(0o755)  # munge refuses a socket in a folder that only its owner may enter
    workspace = folder / "workspace"
    workspace.mkdir()
    cluster = Cluster(folder, workspace)
    cluster.start()
    yield cluster
    cluster.stop()
