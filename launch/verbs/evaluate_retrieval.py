"""`cacl evaluate --protocol retrieval`: whether sounds find their pictures, which needs no boxes."""

from __future__ import annotations

import argparse

from cacl.errors import UserError
from launch.as_json import as_json
from launch.ranks import check_number, run_ranks
from launch.verbs.evaluate_table import retrieval_table

_FOR_MAPS = (
    "model", "boxes", "out", "threshold", "upsampling", "without_quirks", "object_guidance", "object_weights",
    "validation", "negatives", "labels", "tags",
)  # fmt: skip


def measure_retrieval(arguments: argparse.Namespace, words: list[str]) -> int:
    """Measure it and print the numbers; `words` give a rank the same arguments.

    Raises UserError for options of maps.
    """
    from launch.jobs.environment import start_world, stop_world
    from launch.jobs.measuring import read_ids
    from launch.jobs.retrieval import measure_retrieval as measure

    for name in _FOR_MAPS:
        if getattr(arguments, name):
            raise UserError(f"--{name.replace('_', '-')}: is about maps; --protocol retrieval measures none")
    if arguments.nproc_per_node is not None:
        check_number(arguments.nproc_per_node)
        return run_ranks(arguments.nproc_per_node, "evaluate", words)
    world = start_world()
    try:
        record = measure(
            arguments.run,
            world,
            data=arguments.data,
            weights=arguments.weights,
            checkpoint=arguments.checkpoint,
            ids=read_ids(arguments.ids) if arguments.ids else None,
        )
        if record is not None:
            print(as_json(record) if arguments.json else retrieval_table(record))
    finally:
        stop_world()
    return 0
