"""Packed shards as they are delivered: by stock readers, and by ours from disk, HTTP and S3."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset

from cacl.errors import UserError
from shards.cache import Cache
from shards.decoders import DecoderOptions
from shards.decoders.augmentation import Augmentation
from shards.decoders.dali import DaliDecoder
from shards.decoders.torch import TorchDecoder
from shards.loader import evaluation_batches, training_batches
from shards.order import LaneOrder
from shards.pack import merge, pack
from shards.plan import make_plan
from shards.remote import RemoteFiles
from shards.sources.generated import Generated
from shards.store import Store, open_store
from tests.shards.servers import MEGABYTE
from tests.shards.tiny import notes_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]

DECODERS: dict[str, DecoderOptions] = {"torch": TorchDecoder(), "dali": DaliDecoder(device="cpu")}
WHOLE, EACH = 48, 24


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Generated test clips in shards of 7."""
    folder = tmp_path_factory.mktemp("packed") / "generated"
    plan = make_plan(Generated(split="test", clips=WHOLE + 2), 7)
    pack(plan, folder, workers=2)
    merge(plan.head, folder, 0.0)
    return folder


def deliver(store, decoder, position=(0, 0), rank=0, size=1, workers=0, seconds=1.0):
    order = LaneOrder(store.shards, global_batch_size=EACH, lanes=24, seed=1)
    return training_batches(
        store,
        order,
        position,
        epochs=2,
        rank=rank,
        size=size,
        decoder=DECODERS[decoder],
        augmentation=Augmentation(size=64, short_side=80, duration=seconds),
        workers=workers,
    )


def hashes(batches) -> list[tuple[int, str]]:
    return [
        (int(index), hashlib.sha256(image.numpy().tobytes() + audio.numpy().tobytes()).hexdigest())
        for batch in batches
        for index, image, audio in zip(batch.index, batch.images, batch.waveforms, strict=True)
    ]


@pytest.fixture(scope="session")
def reference(folder):
    """Two epochs by each decoder, by one rank in one process, from disk."""
    return {name: [hashes([batch]) for batch in deliver(open_store(folder), name)] for name in DECODERS}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("size", "workers"), [(1, 2), (2, 1), (3, 0), (4, 2), (8, 0)])
def test_delivered_clips_do_not_depend_on_ranks_or_workers(folder, reference, decoder, size, workers):
    """As many batches on every rank, so that none waits for ever (webdataset #194, #225); over two epochs no
    iterator changes its size, no share overlaps another, no order shifts (DALI #4440, #2881, #1762)."""
    ranks = [
        list(deliver(open_store(folder), decoder, rank=rank, size=size, workers=workers))
        for rank in range(size)
    ]
    assert {len(batches) for batches in ranks} == {4}
    assert [hashes(parts) for parts in zip(*ranks, strict=True)] == reference[decoder]


def test_both_decoders_deliver_the_same_clips(folder, reference):
    assert [[index for index, _ in batch] for batch in reference["torch"]] == [
        [index for index, _ in batch] for batch in reference["dali"]
    ]
    pairs = zip(*(deliver(open_store(folder), name) for name in DECODERS), strict=True)
    for torchs, dalis in pairs:
        difference = (torchs.images.int() - dalis.images.int()).abs()
        # torchvision rounds and clips to 8 bits between its two passes: most at drawn edges.
        assert difference.max() <= 8 and difference.float().mean() <= 0.5
        assert torch.equal(torchs.waveforms, dalis.waveforms)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("start", range(4))
def test_resuming_with_workers_on_other_ranks(folder, reference, decoder, start):
    """No position to go on from (webdataset #271, #234, #177), begun again (Streaming #437, #880), wrong beyond
    epoch 1 (#869), miscounted with workers (llm-foundry #1277), lost on fewer ranks (torchtitan #811, #816)."""
    ranks = [
        list(deliver(open_store(folder), decoder, divmod(start, 2), rank=rank, size=2, workers=1))
        for rank in range(2)
    ]
    assert [hashes(parts) for parts in zip(*ranks, strict=True)] == reference[decoder][start:]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_server_that_drops_connections_delivers_the_same(
    folder,
    reference,
    server,
    tmp_path,
    decoder,
    workers,
):
    server.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    server.drop_every = 5
    local = open_store(folder)
    store = Store(local.manifest, RemoteFiles(server.url, Cache(tmp_path, 100 * MEGABYTE), first_pause=0.01))
    assert [hashes([batch]) for batch in deliver(store, decoder, workers=workers)] == reference[decoder]
    whole = [name for name, start in server.requests if name.endswith(".tar") and start == 0]
    assert len(whole) <= 2 * len(local.shards), "fetched once a machine, and again where it was dropped"


def test_a_cache_smaller_than_the_data_set_delivers_the_same(folder, reference, server, tmp_path):
    server.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    local = open_store(folder)
    largest = max(shard.filesize for shard in local.manifest.shards)
    files = RemoteFiles(server.url, Cache(tmp_path, 3 * largest), first_pause=0.01)
    assert sum(shard.filesize for shard in local.manifest.shards) > 3 * largest
    batches = [hashes([batch]) for batch in deliver(Store(local.manifest, files), "torch")]
    assert batches == reference["torch"]
    held = sum(path.stat().st_size for path in tmp_path.glob("*") if path.is_file())
    assert held <= 3 * largest


def test_training_from_s3(folder, reference, bucket, tmp_path, monkeypatch):
    for path in folder.iterdir():
        bucket.upload_file(str(path), "clips", f"generated/{path.name}")
    monkeypatch.setenv("CACL_CACHE", str(tmp_path))
    store = open_store("s3://clips/generated")
    assert store.fingerprint == open_store(folder).fingerprint
    assert [hashes([batch]) for batch in deliver(store, "torch", workers=2)] == reference["torch"]
    assert store.where(8) == "s3://clips/generated/shard-000001.tar: 000000008"


def test_an_address_without_shards_is_one_sentence(server, monkeypatch, tmp_path):
    monkeypatch.setenv("CACL_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"http://.*/nothing/manifest.json: is missing"):
        open_store(f"{server.url}/nothing")


@pytest.mark.parametrize("decoder", DECODERS)
def test_evaluation_of_packed_clips(folder, decoder):
    """pytorch #25162: padding to equal shares repeats clips; here 3 ranks see 50 clips once each."""
    store = open_store(folder)
    notes = [
        note
        for rank in range(3)
        for batch in evaluation_batches(store, store.indices[rank::3], 8, DECODERS[decoder], 0)
        for note in notes_of(batch)
    ]
    assert sorted(note.index for note in notes) == store.indices.tolist()
    for note in notes:
        ((x0, y0, x1, y1),) = note.boxes or []
        assert note.mask is not None
        height, width = note.mask.shape
        rows, columns = np.nonzero(note.mask)
        assert abs(rows.min() - y0 * height) <= 1 and abs(rows.max() + 1 - y1 * height) <= 1
        assert abs(columns.min() - x0 * width) <= 1 and abs(columns.max() + 1 - x1 * width) <= 1


def test_a_damaged_shard_is_named(folder, tmp_path):
    """webdataset #142: one corrupt tar stopped the loader; here the clip is named, or masked alone."""
    copy = tmp_path / "damaged"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    shard = copy / "shard-000002.tar"
    data = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        frame = tar.getmember("000000016.jpg")
    data[frame.offset_data : frame.offset_data + frame.size] = bytes(frame.size)
    shard.write_bytes(data)
    with pytest.raises(UserError, match=r"shard-000002.tar: 000000016: the clip cannot be decoded"):
        list(deliver(open_store(copy), "torch"))


def test_stock_webdataset_reads_the_shards(folder):
    store = open_store(folder)
    paths = sorted(map(str, folder.glob("*.tar")))
    samples = list(webdataset.WebDataset(paths, shardshuffle=False))
    assert [int(sample["__key__"]) for sample in samples] == store.indices.tolist()
    for sample in samples[:5]:
        members = store.read(int(sample["__key__"]))
        assert {name: sample[name] for name in members} == members


def stock_dali(folder: Path, extensions: list[str], **options):
    """Yield every sample of DALI's own reader as bytes by extension."""
    from nvidia.dali import fn
    from nvidia.dali.pipeline import Pipeline

    paths = sorted(folder.glob("*.tar"))
    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=None, exec_dynamic=True)
    with pipeline:
        parts = fn.readers.webdataset(
            paths=list(map(str, paths)),
            index_paths=[str(path.with_suffix(".idx")) for path in paths],
            ext=extensions,
            name="reader",
            **options,
        )
        pipeline.set_outputs(*(parts if isinstance(parts, Sequence) else [parts]))
    pipeline.build()
    for _ in range(pipeline.epoch_size("reader")):
        found = pipeline.run()
        yield {name: np.asarray(part[0]).tobytes() for name, part in zip(extensions, found, strict=True)}


def test_stock_dali_reads_the_shards_and_their_index_files(folder):
    store = open_store(folder)
    names = ["jpg", "wav", "json", "0.mask.png"]
    samples = list(stock_dali(folder, names, missing_component_behavior="error"))
    assert [json.loads(sample["json"])["index"] for sample in samples] == store.indices.tolist()
    for sample in samples[:5]:
        members = store.read(json.loads(sample["json"])["index"])
        assert sample == {name: members[name] for name in names}


def test_dalis_defaults_for_missing_members_are_not_relied_on(folder):
    """DALI #5228 and its default: `png` does not match `0.mask.png`, and what is missing becomes empty."""
    assert next(stock_dali(folder, ["png"]))["png"] == b""
    with pytest.raises(RuntimeError):
        next(stock_dali(folder, ["png"], missing_component_behavior="error"))
