"""Studies in miniature on stamps: many small trainings on cached features of a frozen trunk.

`python -m benchmarks.label_study` (docs/labels.md) and `python -m benchmarks.reproduce` (docs/results.md)
share these parts: `data` packs and labels, `cache` keeps what needs no gradient, `plan` names a training,
`training` trains and measures it with cacl's own trainer, `analysis` reads the runs.
"""
