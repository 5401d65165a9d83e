"""One SLURM for the session, started where the tests of this folder ask for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Cluster


def may_unshare() -> bool:
    """Say whether a node can get a host name of its own: some containers forbid it even to root."""
    return subprocess.run(["unshare", "--uts", "--mount", "true"], capture_output=True).returncode == 0


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A controller and two nodes."""
    if os.geteuid() != 0 or not shutil.which("slurmctld") or not may_unshare():
        pytest.skip("a SLURM of the tests needs root and Debian's slurm-wlm and munge (make install-slurm)")
    folder = tmp_path_factory.mktemp("slurm")
    for parent in [folder, *folder.parents[:2]]:
        parent.chmod(0o755)  # munge refuses a socket in a folder that only its owner may enter
    workspace = folder / "workspace"
    workspace.mkdir()
    cluster = Cluster(folder, workspace)
    cluster.start()
    yield cluster
    cluster.stop()
