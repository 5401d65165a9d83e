"""Every checksum and every sample of packed shards, read in processes that may die."""

from __future__ import annotations

import io
import tarfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cacl.errors import UserError, shorten
from cacl.media.still import FRAMES, MASKS, open_picture
from shards.annotation import parse_annotation, read_annotation
from shards.checksums import check_sha256
from shards.progress import progress
from shards.sources.media import explain
from shards.store import Places, Store, open_store, read_index
from shards.workers import Done, Report, run_jobs

_AGAIN = "copy it again or pack again"


@dataclass(frozen=True)
class ShardVerifier:
    """The job of a verifying process."""

    store: Store

    def __call__(self, number: int, crashed: dict[int, str], report: Report) -> list[str]:
        """Return what is wrong with shard `number`, a sentence each."""
        store, problems = self.store, []
        try:
            _check_files(store, number)
        except UserError as error:
            return [str(error)]
        for index in map(int, store.shards[number]):
            report(index)
            try:
                if index in crashed:
                    raise ValueError(crashed[index])
                _check_sample(store, index)
            except UserError as error:
                problems.append(str(error))
            # Decoders raise whatever they meet in a broken sample; what the storage raises is none of it.
            except Exception as error:
                problems.append(f"{store.where(index)}: {explain(error)}")
        return problems


def verify(location: str | Path, workers: int) -> Iterator[str]:
    """Yield what is wrong with the shards at `location`, a sentence each, shard by shard."""
    store = open_store(location)
    with progress(desc=f"verifying {location}", total=len(store.indices), unit="clip") as bar:
        rows = [[number] for number in range(len(store.shards))]
        for event in run_jobs(ShardVerifier(store), rows, workers):
            if isinstance(event, Done):
                yield from event.result
            else:
                bar.update()


def _check_files(store: Store, number: int) -> None:
    """Raise UserError when tar or index are not those of the manifest, or the index not that of the tar."""
    shard, files = store.manifest.shards[number], store.files
    tar = files.local(shard.url, shard.sha256, shard.filesize)
    index = files.local(shard.index_url, shard.index_sha256, shard.index_filesize)
    for path, expected in ((tar, shard.sha256), (index, shard.index_sha256)):
        check_sha256(path, expected, _AGAIN)
    places = read_index(index, shard.filesize)
    if sorted(places) != store.shards[number].tolist() or places != _places(tar):
        raise UserError(f"{index}: does not say where the clips lie in {tar.name}; pack again")


def _places(path: Path) -> Places:
    """Return where the members lie, read from the headers of the tar itself. Nothing is extracted.

    A header leads nowhere but within the file: `tarfile` follows some for ever, and reads what others claim.
    """
    found: Places = {}
    end, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place < end:
            file.seek(place)
            head = file.read(tarfile.BLOCKSIZE)
            if not head.strip(b"\0"):
                break
            try:
                member = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
            except (tarfile.HeaderError, ValueError) as error:
                raise UserError(f"{path}: is no tar ({shorten(error)}); {_AGAIN}") from None
            key, _, extension = member.name.partition(".")
            begin = place + tarfile.BLOCKSIZE
            if not (member.isreg() and key.isdecimal() and 0 <= member.size <= end - begin):
                raise UserError(f"{path}: {member.name!r} is no member of a sample; {_AGAIN}")
            found.setdefault(int(key), {})[extension] = (begin, member.size)
            place = begin + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return found


def _check_sample(store: Store, index: int) -> None:
    """Decode every member of a clip; raise for what does not."""
    members = store.read(index)
    width, height = _picture_size(members["jpg"])
    annotation = read_annotation(members, (height, width))
    if annotation.index != index:
        raise ValueError(f"its annotation says that it is clip {annotation.index}")
    if unnamed := members.keys() - parse_annotation(members["json"], members.keys()).members:
        raise ValueError(f"its annotation does not name the member {min(unnamed)}")
    storage = store.manifest.parameters["storage"]
    for extension, data in members.items():
        if extension.endswith("wav"):
            with wave.open(io.BytesIO(data)) as audio:
                form = audio.getnchannels(), audio.getsampwidth(), audio.getframerate()
                if form != (1, 2, storage["sample_rate"]):
                    raise ValueError(f"{extension} has channels, bytes a sample and rate {form}")
                expected = round(storage["seconds"] * storage["sample_rate"])
                if len(audio.readframes(expected + 1)) != 2 * expected:
                    raise ValueError(f"{extension} has not the {expected} samples of the manifest")


def _picture_size(data: bytes) -> tuple[int, int]:
    return open_picture(data, (*FRAMES, *MASKS)).size
