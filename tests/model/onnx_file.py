"""A tiny ONNX file, written field by field: a tagger of two classes, how loud a sound gets and is on average."""

from __future__ import annotations

from pathlib import Path


def varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def field(number: int, value: int | str | bytes) -> bytes:
    """Return a field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def value_info(name: str, sizes: list[int | str]) -> bytes:
    dimensions = b"".join(field(1, field(2 if isinstance(size, str) else 1, size)) for size in sizes)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dimensions)))


def node(kind: str, inputs: list[str], output: str, **whole: int | list[int]) -> bytes:
    attributes = b""
    for name, value in whole.items():
        several = isinstance(value, list)
        numbers = b"".join(field(8, each) for each in value) if isinstance(value, list) else field(3, value)
        attributes += field(5, field(1, name) + numbers + field(20, 7 if several else 2))
    return b"".join(field(1, each) for each in inputs) + field(2, output) + field(4, kind) + attributes


def write_loudness(path: Path, samples: int | None = None, rate: int | None = None) -> Path:
    """Write a network of `samples` (None: any number) at `rate` Hz (None: it does not say)."""
    nodes = [
        node("Abs", ["waveforms"], "size"),
        node("ReduceMax", ["size"], "peak", axes=[1], keepdims=1),
        node("ReduceMean", ["size"], "mean", axes=[1], keepdims=1),
        node("Concat", ["peak", "mean"], "scores", axis=1),
    ]
    graph = b"".join(field(1, each) for each in nodes) + field(2, "loudness")
    graph += field(11, value_info("waveforms", [1, samples or "T"])) + field(12, value_info("scores", [1, 2]))
    model = field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))
    if rate:
        model += field(14, field(1, "sample_rate") + field(2, str(rate)))
    path.write_bytes(model)
    return path
