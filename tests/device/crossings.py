"""Where the product lets the host read what is on the device or wait for it, and why: nowhere else.

Each test says which of them it goes through, so that none is here in vain.
"""

from __future__ import annotations

LOSS_ALONE = {
    "cacl.loss.module.AudioVisualContrast._refusal": "refuses labels beyond what the positives hold",
    "cacl.loss.module._check_lengths": "refuses vectors that are not of unit length",
}
ONCE = {
    "cacl.model.spectrograms._mel_filters": "made once a process",
    "cacl.model.spectrograms._tukey": "made once a process",
}
"""Uploads of the first step."""
COPY = {"cacl.training.host_copy.HostCopy.__init__": "sends numbers on their way, and waits for none"}
METER = {
    **COPY,
    "cacl.training.host_copy.HostCopy.read": "a step's numbers, and whether to stop, when the next step is under way",
}
BAD_STEP = {"cacl.training.meter._bad_clips": "names the clips of a step that was not finite"}
VALIDATION = {
    "cacl.training.validation._embed": "whether any rank has batches left, or is to stop",
    "cacl.training.validation.retrieval": "the figures",
}
FITTING = {
    "launch.jobs.fitting.Fitting._partners": "whose sound is off-screen to whom",
    "launch.jobs.fitting.Fitting.fit": "a value a sound",
}
CHECKPOINT = {"cacl.runs.checkpoint.to_host": "copies what a thread then writes"}
EVALUATION = {
    "cacl.evaluation.measure.clip_results": "a few numbers of each clip",
    "cacl.evaluation.metrics.validate": "refuses maps that are not finite",
    "cacl.evaluation.metrics.ceiling_ciou": "finds the clips that annotators marked in more pixels than a prediction has",
    "cacl.evaluation.metrics.pixel_ap_per_clip": "ranks the pixels of each clip's mask, whose number it must know",
}
NEGATIVES = {
    "launch.jobs.calibrate.highest": "a value a sound",
    "launch.jobs.negative_numbers.at_theta": "a few numbers of each clip",
}
EVALUATOR = {
    "cacl.evaluation.evaluator._check_finite": "refuses maps that are not finite",
    "cacl.evaluation.evaluator._mask": "masks of one's own, compared as those of packed clips",
}
LABELS = {
    "cacl.labels.classify.predictions": "the columns of a label table",
    "cacl.labels.classify.ClassifyFrames.__call__": "vectors of frames",
    "cacl.labels.features.ClipFeatures.__call__": "vectors of sounds",
    "cacl.labels.features.ModelFeatures.__call__": "vectors of a trained model",
    "cacl.labels.tag.ClassifyAudio.__call__": "refuses what is no probability; the distribution",
    "cacl.model.weights.sha256": "the identity of a tagger's weights",
}
LABEL_JOB = {"launch.jobs.label.prepare_frames": "how pictures are normalized, for the table's header"}
VIEWING = {"cacl.viewing.finder.SoundFinder.maps": "maps that are drawn over pictures"}
REPORT = {"launch.jobs.report.examples": "pictures for a page, whatever decoded them"}
