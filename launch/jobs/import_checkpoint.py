"""Make a run directory of a released SLAVC, EZ-VSL or FNAC checkpoint."""

from __future__ import annotations

from pathlib import Path

from cacl.errors import UserError
from cacl.evaluation.protocols import get_protocol
from cacl.files import write_json
from cacl.model.weights import read_weights
from cacl.options import plain
from cacl.released.recognize import Method, ReleasedModel, recognize
from cacl.runs.checkpoint import FORMAT_VERSION, seal, write_tensors
from cacl.runs.directory import Run
from launch.jobs.environment import describe
from launch.jobs.recipe import DataOptions, Recipe


def import_checkpoint(
    file: str | Path,
    out: str | Path,
    *,
    method: Method | None = None,
    test: str | None = None,
    protocol: str = "vggss",
) -> ReleasedModel:
    """Write recipe and checkpoint into the run directory `out`, and return what the file holds.

    `method` must be said of EZ-VSL's and FNAC's, whose files look alike. `test` and `protocol` are those of
    later evaluations. Raises UserError if the run directory is taken, or
    if the file does not match a model that we know; then nothing is written.
    """
    get_protocol(protocol)
    run = Run(out)
    if run.is_used():
        raise UserError(f"{out}: holds a run already; name another with --out")
    try:
        released = recognize(read_weights(Path(file)), method)
    except UserError as error:
        raise UserError(f"{file}: {str(error).removeprefix(f'{file}: ')}") from error
    if unmatched := released.unmatched():
        listed = "; ".join(unmatched)
        raise UserError(f"{file}: {len(unmatched)} tensors do not match {released.kind}: {listed}")
    data = DataOptions(train="", test=test, protocol=protocol)
    run.create(plain(Recipe(data=data, model=released.options)), describe())
    folder = run.checkpoints / "step-0"
    for name, state in released.states.items():
        write_tensors(folder / f"{name}.safetensors", state)
    write_json(
        folder / "state.json", {"format_version": FORMAT_VERSION, "step": 0, "imported": released.kind}
    )
    seal(folder)
    return released
