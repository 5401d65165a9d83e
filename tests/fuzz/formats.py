"""Files that cacl reads, whole ones to begin with, and how the product reads each.

A format is a folder of files of which one is changed. Checksums would stop nearly every change at the door;
`seal` brings them up to date, as whoever makes a bad file on purpose does.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import reject

from cacl.errors import UserError
from cacl.evaluation.protocols import PROTOCOLS
from cacl.files import sha256_file
from cacl.labels import table_file
from cacl.labels.table import LabelHeader, LabelTable
from cacl.options import parse
from cacl.runs import checkpoint
from cacl.runs.directory import Run
from cacl.runs.export import export, open_export
from cacl.runs.load import build_model, open_model
from cacl.training import trainer
from cacl.training.engines import DDP
from cacl.training.optimization import AdamW
from cacl.world import World
from launch.config import load_recipe
from launch.jobs.recipe import Recipe
from launch.main import main
from shards import manifest as manifests
from shards.annotation import BrokenAnnotation, read_annotation
from shards.decoders.augmentation import Augmentation
from shards.decoders.clip import DecodeSpec, Request
from shards.decoders.torch import TorchDecoder
from shards.store import open_store
from shards.verify import ShardVerifier
from tests.launch.tiny import write_recipe

SIDE = 32
"""Pixels of frames and of truths."""

Files = dict[str, bytes]


@dataclass(frozen=True)
class Format:
    """Whole files, which of them are changed, how they are read and how they are sealed."""

    files: Files
    changed: tuple[str, ...]
    readers: tuple[str, ...]
    """Modules whose covered lines are counted."""
    read: Callable[[Path], object]
    seal: Callable[[Path], None] | None = None


def make_formats(folder: Path) -> dict[str, Format]:
    """Make whole files of every format below `folder`."""
    data, run = folder / "data", folder / "run"
    words = [
        "--clips",
        "8",
        "--shard-size",
        "4",
        "--frame-side",
        str(SIDE),
        "--seconds",
        "0.5",
        "--workers",
        "1",
    ]
    assert main(["pack", "generated", "--out", str(data), *words]) == 0
    recipe = write_recipe(
        folder,
        data,
        data={"order": {"name": "lanes", "lanes": 2}, "workers": 0, "augmentation": AUGMENTATION},
        training={"global_batch_size": 4, "micro_batch_size": 4, "epochs": 1, "ema_decay": 0.5},
    )
    assert main(["train", str(recipe), "--run-dir", str(run), "--max-steps", "2"]) == 0
    export(Run(run), folder / "export" / "model.safetensors")
    shards, trained = _files_of(data), _files_of(run)
    step, payload = "checkpoints/step-2", payload_of(folder / "export" / "model.safetensors")
    return {
        "manifest": Format(shards, ("manifest.json",), ("shards.manifest",), read_shards, seal_manifest),
        "index": Format(shards, ("shard-000000.idx",), ("shards.store",), read_shards, seal_shards),
        "tar": Format(
            shards,
            ("shard-000000.tar",),
            ("shards.verify", "cacl.media.still", "shards.decoders.clip", "shards.decoders.torch"),
            read_shards,
            seal_shards,
        ),
        "annotation": Format(
            {"1.json": ANNOTATION_1, "2.json": ANNOTATION_2, "mask.png": _mask(data)},
            ("1.json", "2.json"),
            ("shards.annotation", "cacl.annotation"),
            read_annotations,
        ),
        "label table": Format(
            {"table.parquet": _table(folder)}, ("table.parquet",), ("cacl.labels.table_file",), read_table
        ),
        "label table by another program": Format(
            {"table.json": _table_as_json(folder)},
            ("table.json",),
            ("cacl.labels.table_file", "cacl.labels.table"),
            read_made_table,
        ),
        "recipe": Format(
            {"tiny.yaml": recipe.read_bytes(), "above.yaml": ABOVE},
            ("tiny.yaml", "above.yaml"),
            ("cacl.runs.strict_yaml", "launch.config", "cacl.options"),
            lambda place: (load_recipe(place / "tiny.yaml", []), load_recipe(place / "above.yaml", [])),
        ),
        "checkpoint": Format(
            trained,
            (f"{step}/state.json", f"{step}/model.safetensors", f"{step}/engine/optimizer.safetensors",
             f"{step}/ema.safetensors", f"{step}/hashes.json", "recipe.yaml", "train.jsonl"),
            ("cacl.runs.checkpoint", "cacl.runs.directory", "cacl.runs.load", "cacl.runs.log"),
            Resume(recipe),
            lambda place: checkpoint.seal(place / step),
        ),
        "export": Format(
            _files_of(folder / "export"),
            ("model.safetensors",),
            ("cacl.runs.export", "cacl.runs.load", "cacl.runs.renamed"),
            lambda place: open_export(place / "model.safetensors"),
            lambda place: seal_safetensors(place / "model.safetensors", payload),
        ),
    }  # fmt: skip


AUGMENTATION = {"size": SIDE, "short_side": SIDE, "duration": 0.5}
ANNOTATION_1 = json.dumps(
    {
        "index": 3,
        "id": "clip",
        "class_name": "dog",
        "boxes": [[0.1, 0.2, 0.5, 0.6]],
        "frame_seconds": 5.0,
        "other": {"class_name": "cat", "boxes": [[0.6, 0.6, 0.9, 0.9], [0, 0, 0.1, 0.1]]},
        "sounding": True,
    }
).encode()
ANNOTATION_2 = json.dumps(
    {
        "format_version": 2,
        "index": 3,
        "id": "clip",
        "image": "frame",
        "film": "film",
        "time": 5.0,
        "seconds": 3.0,
        "sources": [
            {"class_name": "dog", "boxes": [[0.1, 0.2, 0.5, 0.6]], "mask": "0.mask.png"},
            {"class_name": "cat", "boxes": [], "audible": False, "visible": True, "audio": "other.wav"},
        ],
    }
).encode()
ABOVE = b"base: tiny.yaml\nloss:\n  objective: {name: margin-nce, margin: 0.2}\ntraining: {epochs: 2}\n"


def _files_of(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- shards ----------------------------------------------------------------------------------------------------


def read_shards(folder: Path) -> None:
    """Check shards as `cacl shards verify` does, and decode every clip as a training does."""
    store = open_store(folder)
    problems = [
        problem
        for number in range(min(len(store.shards), 4))
        for problem in ShardVerifier(store)(number, {}, _ignore)
    ]
    assert all(isinstance(problem, str) for problem in problems)
    indices = store.indices[:8]
    spec = DecodeSpec(parse(Augmentation, AUGMENTATION, "test"), policy="mask", annotated=False)
    for _ in TorchDecoder().stream(store, [Request(indices, (0, 0))], spec, 0):
        pass
    for index in indices:
        store.annotation(int(index))


def _ignore(index: int) -> None:
    """Nobody waits for a verifier's news."""


def seal_shards(folder: Path) -> None:
    """Give the manifest the sizes and the checksums of shards and index files."""
    values = json.loads((folder / manifests.NAME).read_bytes())
    for shard in values["shardlist"]:
        for name, prefix in ((shard["url"], ""), (shard["url"].replace(".tar", ".idx"), "index_")):
            shard[f"{prefix}filesize"] = (folder / name).stat().st_size
            shard[f"{prefix}sha256"] = sha256_file(folder / name)
    (folder / manifests.NAME).write_text(json.dumps(values))
    seal_manifest(folder)


def seal_manifest(folder: Path) -> None:
    """Give the manifest the fingerprint of its content, where it has one."""
    with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        path = folder / manifests.NAME
        values = json.loads(path.read_bytes())
        named = [values[key] for key in ("source", "parameters", "ids", "ids_sha256", "shard_size")]
        content = [[shard["sha256"], shard["missing"]] for shard in values["shardlist"]]
        values["fingerprint"] = manifests.digest([values["format_version"], named, content])
        path.write_text(json.dumps(values))


# -- annotations -----------------------------------------------------------------------------------------------


def _mask(data: Path) -> bytes:
    store = open_store(data)
    return next(
        value for name, value in store.read(int(store.indices[0])).items() if name.endswith("mask.png")
    )


def read_annotations(folder: Path) -> None:
    """Read both versions, and make every protocol's truth of them."""
    mask = (folder / "mask.png").read_bytes()
    for name, masks in {"1.json": ("mask.png", "other.mask.png"), "2.json": ("0.mask.png",)}.items():
        members = dict.fromkeys(("jpg", "wav", "other.wav"), b"") | dict.fromkeys(masks, mask)
        try:
            annotation = read_annotation({**members, "json": (folder / name).read_bytes()}, (SIDE, SIDE))
        except BrokenAnnotation as error:  # the store names the clip
            raise UserError(str(error)) from None
        for protocol in PROTOCOLS.values():
            protocol.truth(annotation, SIDE)


# -- label tables ----------------------------------------------------------------------------------------------


def _table(folder: Path) -> bytes:
    path = folder / "whole.parquet"
    header = LabelHeader("a classifier", "its weights", "0" * 64, 5, {"size": 224}, {"k": 3})
    rows = np.arange(12)
    top = np.stack([rows % 5, (rows + 1) % 5], 1)
    shares = np.full((12, 2), 0.25, np.float32)
    LabelTable(rows, rows % 5, np.full(12, 0.5, np.float32), header, top=top, top_probability=shares).write(
        path
    )
    return path.read_bytes()


def read_table(folder: Path) -> None:
    """Read a label table and ask it for every clip."""
    table = LabelTable.load(folder / "table.parquet")
    table.lookup(np.arange(20))


def _table_as_json(folder: Path) -> bytes:
    _table(folder)
    header, columns = table_file.read_table(folder / "whole.parquet")
    values = {name: column.tolist() for name, column in columns.items()}
    return json.dumps({"header": {"format_version": 1, **header}, "columns": values}).encode()


def read_made_table(folder: Path) -> None:
    """Read the table that a program with other ideas writes of columns and header."""
    try:
        content = json.loads((folder / "table.json").read_bytes())
        columns = {name: pa.array(rows, _LISTS.get(name)) for name, rows in content["columns"].items()}
        table = pa.table(columns).replace_schema_metadata({b"cacl": json.dumps(content["header"]).encode()})
        pq.write_table(table, folder / "table.parquet")
    except _NO_TABLE:
        reject()
    read_table(folder)


_LISTS = {"top": pa.list_(pa.int64(), 2), "top_probability": pa.list_(pa.float32(), 2)}
_NO_TABLE = (
    pa.ArrowException, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError
)  # fmt: skip
"""What Parquet cannot hold is no case."""


# -- runs ------------------------------------------------------------------------------------------------------


class Resume:
    """Opens a run as `cacl evaluate` and as `cacl train --resume` do, short of the data."""

    def __init__(self, recipe: Path) -> None:
        options = load_recipe(recipe, [])
        model = build_model(options.model, options.loss, seed=0)
        self.average = trainer.Ema(model, 0.5)
        self.engine = DDP().build(model, AdamW(), World())

    def __call__(self, folder: Path) -> None:
        run = Run(folder)
        run.records()
        parse(Recipe, run.recipe(), str(run.recipe_file))
        open_model(folder)
        checkpoint.best(run.checkpoints, "recall_at_1")
        found = checkpoint.latest_valid(run.checkpoints)
        if found is not None:
            trainer.owes_validation(found, 2, 1)
            trainer.resume(self.engine, self.average, found, {})


def seal_safetensors(path: Path, payload: int) -> None:
    """Give the file the length of its header, behind which `payload` bytes of tensors lie."""
    data = path.read_bytes()
    path.write_bytes(max(len(data) - 8 - payload, 0).to_bytes(8, "little") + data[8:])


def payload_of(path: Path) -> int:
    """Return how many bytes of tensors a whole file has."""
    data = path.read_bytes()
    return len(data) - 8 - int.from_bytes(data[:8], "little")
