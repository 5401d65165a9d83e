"""One sentence on every number that a protocol gives: what a reader sees beside it."""

from __future__ import annotations

import re

_NUMBERS = {
    "ciou": "Share of sounding clips whose CIoU is 0.5 or more.",
    "auc": "The area under the share of clips over all thresholds of CIoU.",
    "ciou_adaptive": "Share of clips with CIoU of 0.5 or more, if as many pixels are taken as the truth has.",
    "auc_adaptive": "The area under that share over all thresholds of CIoU, by the same rule.",
    "ciou_absolute": "Share of clips with CIoU of 0.5 or more, if pixels with a positive cosine are taken.",
    "auc_absolute": "The area under that share over all thresholds of CIoU, by the same rule.",
    "ciou_top50": "Share of clips with CIoU of 0.5 or more, if the brighter half of the map is taken.",
    "auc_top50": "The area under that share over all thresholds of CIoU, by the same rule.",
    "ciou_median": "Share of clips with CIoU of 0.5 or more, if the brighter half of the map is taken.",
    "auc_median": "The area under that share over all thresholds of CIoU, by the same rule.",
    "mean_ciou": "The mean CIoU.",
    "ap": "Clips ranked by confidence: how early the right ones come; silent clips are mistakes.",
    "max_f1": "The best balance of finding sounding clips and being right, at a threshold of the test set.",
    "ciou_all": "Share of all clips that are right; silent ones never are.",
    "silent_false_positives": "Share of silent clips that are taken for sounding, at max_f1's threshold.",
    "peak_in_box": "Share of sounding clips in which the map's highest pixel lies in a box.",
    "pixel_ap": "Pixels ranked by the map: how early those of the sounding object come.",
    "miou": "The mean overlap of what the map outlines with the mask.",
    "miou_median": "The same, if what is above each map's own median is taken.",
    "f": "The best mean F (precision counts more) over thresholds, which the test set chooses.",
    "f_threshold": "The threshold of f.",
    "iiou": "Share of pictures in which every sounding clip is right (brighter half of the map).",
    "iauc": "The area under that share over all thresholds of CIoU.",
    "iiou_adaptive": "Share of pictures in which every clip is right, at as many pixels as the truth has.",
    "iauc_adaptive": "The area under that share over all thresholds of CIoU, by the same rule.",
    "region_miou": "The mean overlap of the model's own region with the boxes.",
    "region_iou_50": "Share of sounding clips in which that overlap is 0.5 or more.",
    "region_auc": "The area under that share over all thresholds.",
    "region_share_of_silent": "The share of the picture that is marked where nothing in view sounds.",
    "peak_in_sounding_box": "Share of clips in which the peak lies in the box of what sounds now.",
    "peak_in_first_box": "Share of clips in which the peak stays in the box of what sounded before.",
    "precision_at_50": "SLAVC's LocAcc: share of clips with CIoU above 0.5.",
    "ap_at_50": "SLAVC's AP, of a thinned curve.",
    "f1_at_50_conf0.5": "SLAVC's F1 at confidence 0.5.",
}
_FAMILIES = (
    (r"(?:ciou|auc)_best_of_\d+_on_test_set", "The best of these thresholds, chosen on the test set itself."),
    (r"threshold_of_best_\w+", "The threshold that the test set chose."),
    (r"Precision-\w+@\d+", "SLAVC's share of right clips of this size at this CIoU, in percent."),
    (r"AP-\w+@\d+", "SLAVC's AP of clips of this size at this CIoU, of a thinned curve, in percent."),
    (r"AUC-\w+@\d+", "SLAVC's area over thresholds of CIoU, of clips of this size, in percent."),
    (r"F1-\w+@\d+", "SLAVC's best F1 of clips of this size at this CIoU, of a thinned curve, in percent."),
    (r"(?:mean_ciou|auc)_at_theta", "What the own sound gets at θ."),
    (r"(?:mean_ciou|auc)_-?[\d.]+dB", "What the own sound in so much noise gets at θ."),
    (r"iou_positive_-?[\d.]+dB", "Overlap of the maps of the own sound with and without noise."),
    (r"pia_\w+", "Share of the picture that is marked while it should be nothing."),
    (r"aoc_\w+", "How little is marked while it should be nothing, over all shares."),
    (r"f_(?:loc|auc)(?:_\w+)?", "The balance of finding the own sound and marking nothing for others."),
    (r"iou_positive_\w+", "Overlap of the maps of own and negative sound: does the model listen?"),
)  # fmt: skip


def sentence(number: str) -> str:
    """Return what a number says. Raises KeyError for one that no protocol gives."""
    if number in _NUMBERS:
        return _NUMBERS[number]
    for family, text in _FAMILIES:
        if re.fullmatch(family, number):
            return text
    raise KeyError(number)
