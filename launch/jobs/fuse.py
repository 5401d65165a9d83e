"""Classes from the predictions of two label tables, one of frames and one of sounds."""

from __future__ import annotations

from pathlib import Path

from cacl.errors import UserError
from cacl.labels.pseudo_classes import check_clusters, cluster_table, views_of_tables
from cacl.labels.table import LabelHeader, LabelTable
from launch.jobs.tables import TableFile, table_path
from shards.store import open_store


def fuse(
    image: str | Path,
    audio: str | Path,
    data: str,
    out: str | Path | None = None,
    *,
    clusters: int | None = None,
    soft: bool = False,
    seed: int = 0,
) -> TableFile:
    """Write and return the table that joins the predictions of two tables of the shards at `data`.

    It has the clips that both label. Raises UserError if they have none in common.
    """
    store = open_store(data)
    tables = [LabelTable.load(path, store.fingerprint) for path in (image, audio)]
    index, views = views_of_tables(*tables)
    if not len(index):
        raise UserError(f"{image} and {audio}: have no clip in common")
    check_clusters(clusters, len(index))
    header = LabelHeader(
        classifier="fusion of two tables",
        weights="",
        fingerprint=store.fingerprint,
        classes=0,
        parameters={"tables": [table.fingerprint for table in tables]},
    )
    table = cluster_table(index, views, header, clusters=clusters, seed=seed, soft=soft)
    out = table_path(data, out, "fused-tables")
    table.write(out)
    return TableFile(out, table)
