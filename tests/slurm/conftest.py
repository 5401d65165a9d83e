"""The SLURMs of this folder, started where its tests ask for them."""

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


def running(cluster: Cluster) -> Iterator[Cluster]:
    """Start a cluster, and stop it when its tests are done; skip them where it cannot be had."""
    if os.geteuid() != 0 or not shutil.which("slurmctld") or not may_unshare():
        pytest.skip("a SLURM of the tests needs root and Debian's slurm-wlm and munge (make install-slurm)")
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A controller and two nodes."""
    yield from running(Cluster(tmp_path_factory.mktemp("slurm")))


@pytest.fixture(scope="module")
def networked_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A controller and two nodes with a network between them."""
    if not shutil.which("ip"):
        pytest.skip("a network between nodes needs root and Debian's iproute2 (make install-slurm)")
    yield from running(Cluster(tmp_path_factory.mktemp("networked"), port=17100, bridge="cacl-slurm"))
