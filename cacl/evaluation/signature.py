"""A result's signature: one line that says what its numbers are, and from which it can be asked for again.

    vggss|v2|n:5158|missing:0|rule:top-half|up:bicubic|without:none|refine:none|alpha:none|theta:none|…

Protocol and version come first, then what was measured (clips, and how many of the set are missing), the
rule by which the main number takes pixels for predicted, upsampling, quirks that are off, refinement of the
maps and its weight, θ, the negative sounds and how they were drawn, which weights and checkpoint, and the
version of cacl.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cacl.errors import UserError, shorten
from cacl.evaluation.protocols import Protocol, get_protocol
from cacl.runs.directory import CHECKPOINT

NONE = "none"
_FIELDS = (
    "n", "missing", "rule", "up", "without", "refine", "alpha", "theta", "negatives", "repetitions", "seed",
    "weights", "checkpoint", "cacl",
)  # fmt: skip
_SHORT = {
    "as many pixels as the truth": "adaptive",
    "highest pixel": "peak",
    "order of pixels": "order",
    "the model's own region": "region",
}
"""What rules are called here, where it is not their words."""
_HEAD = re.compile(r"(?P<protocol>[\w-]+)\|v(?P<version>\d+)")


@dataclass(frozen=True)
class Signature:
    """What a signature says."""

    protocol: str
    version: int
    fields: Mapping[str, str]
    """`n`, `missing`, `rule` and so on, by name."""

    def __str__(self) -> str:
        named = "|".join(f"{name}:{self.fields[name]}" for name in _FIELDS)
        return f"{self.protocol}|v{self.version}|{named}"

    @classmethod
    def of(cls, record: Mapping[str, Any], version: str) -> Signature:
        """Return the signature of an evaluation's record, made by this `version` of cacl."""
        asked, options, rule = record["asked"], record["options"], record["main"]["rule"]
        drawn = record.get("negatives", {})
        fields = {
            "n": record["n"],
            "missing": len(record["missing"]),
            "rule": _SHORT.get(rule, re.sub(r"[^\w.-]+", "-", rule)),
            "up": options["upsampling"],
            "without": asked.get("without") or NONE,
            "refine": asked.get("guidance") or NONE,
            "alpha": asked.get("alpha") or NONE,
            "theta": asked.get("theta") or NONE,
            "negatives": "+".join(drawn.get("kinds", ())) or NONE,
            "repetitions": drawn.get("repetitions", NONE),
            "seed": drawn.get("seed", NONE),
            "weights": record["weights"],
            "checkpoint": asked.get("checkpoint", "latest"),
            "cacl": version,
        }
        return cls(
            record["protocol"],
            record["protocol_version"],
            {name: str(value) for name, value in fields.items()},
        )

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Return what a line says. Raises UserError, naming the part, where it is no signature."""
        head = _HEAD.match(text.strip())
        if head is None:
            raise UserError(
                f"--signature {shorten(text)}: does not begin with a protocol and its version, as vggss|v2"
            )
        parts = [part.partition(":") for part in text.strip()[head.end() :].split("|")[1:]]
        fields = {name: value for name, _, value in parts}
        for name in _FIELDS:
            if not fields.get(name):
                raise UserError(f"--signature {shorten(text)}: has no {name}; copy the whole line")
        if unknown := [name for name in fields if name not in _FIELDS]:
            raise UserError(
                f"--signature: {shorten(unknown[0])}: there is no such part; it has {', '.join(_FIELDS)}"
            )
        return cls(head["protocol"], int(head["version"]), fields)

    def rules(self) -> Protocol:
        """Return its protocol. Raises UserError where this cacl measures by another version of it."""
        found = get_protocol(self.protocol)
        if found.version != self.version:
            raise UserError(
                f"--signature: {self.protocol} was version {self.version} in cacl {self.fields['cacl']} and "
                f"is {found.version} here: its numbers are others; install that cacl to measure by it again"
            )
        return found

    def options(self) -> dict[str, Any]:
        """Return what `launch.jobs.evaluate.evaluate` is asked for by it, None for what it says nothing of.

        Raises UserError as `rules` does, and where a part has no value that there is.
        """
        rules, fields = self.rules(), self.fields
        without = [] if fields["without"] == NONE else fields["without"].split("+")
        rules.alter(fields["up"], without)  # type: ignore[arg-type]  # refused there, if it is none
        for name, known in (("weights", ("model", "ema")), ("refine", (NONE, "min-max", "fixed-range"))):
            if fields[name] not in known:
                raise UserError(f"--signature: {name}: {shorten(fields[name])} is none of {', '.join(known)}")
        if not re.fullmatch(CHECKPOINT, fields["checkpoint"]):
            given = shorten(fields["checkpoint"])
            raise UserError(f"--signature: checkpoint: {given} is none of latest, best, step-N")
        negatives = None if fields["negatives"] == NONE else fields["negatives"].split("+")
        return {
            "protocol": self.protocol,
            "upsampling": fields["up"],
            "without_quirks": without,
            "object_guidance": None if fields["refine"] == NONE else fields["refine"],
            "alpha": "0.4" if fields["alpha"] == NONE else fields["alpha"],
            "weights": fields["weights"],
            "checkpoint": fields["checkpoint"],
            "negatives": negatives,
            "repetitions": self._number("repetitions", 10 if negatives is None else None),
            "seed": self._number("seed", 0 if negatives is None else None),
        }

    def _number(self, name: str, otherwise: int | None) -> int:
        """Return a part that is a whole number, or `otherwise` where it may be none."""
        text = self.fields[name]
        if text == NONE and otherwise is not None:
            return otherwise
        if not re.fullmatch(r"\d{1,9}", text):
            raise UserError(f"--signature: {name}: {shorten(text)} is no whole number")
        return int(text)
