"""Make the table from heard to seen classes that the localizer without training has: classes.csv.

    python -m benchmarks.tag_table --wordnet /usr/share/wordnet     # Debian's wordnet-base (WordNet 3.0)

`cacl/model/tags/makers.txt` says by hand what makes each sound of AudioSet, mostly as a meaning of WordNet;
this writes every class of ImageNet and COCO under that meaning, and by which way it came in.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from cacl.errors import UserError
from cacl.files import written
from cacl.model.taggers.base import audioset_classes
from cacl.model.tags.table import COCO

MEANINGS_OF_COCO = {
    "bicycle": "bicycle.n.01", "car": "car.n.01", "motorbike": "motorcycle.n.01",
    "aeroplane": "airplane.n.01", "bus": "bus.n.01", "train": "train.n.01",
    "truck": "truck.n.01", "boat": "boat.n.01",
    "dog": "dog.n.01", "cat": "domestic_cat.n.01", "bird": "bird.n.01", "horse": "horse.n.01",
    "sheep": "sheep.n.01", "cow": "cow.n.01", "elephant": "elephant.n.01", "bear": "bear.n.01",
    "zebra": "zebra.n.01", "giraffe": "giraffe.n.01", "person": "person.n.01", "tie": "necktie.n.01",
    "bed": "bed.n.01", "clock": "clock.n.01", "pizza": "pizza.n.01", "sandwich": "sandwich.n.01",
    "apple": "apple.n.01", "orange": "orange.n.01", "banana": "banana.n.02", "broccoli": "broccoli.n.02",
    "carrot": "carrot.n.03", "cake": "cake.n.03", "donut": "doughnut.n.02", "hot dog": "frank.n.02",
}  # fmt: skip
"""What the classes of COCO that are found through WordNet mean there; the others are named by hand."""


@dataclass(frozen=True)
class WordNet:
    """The nouns of WordNet, from its own two files."""

    folder: Path

    @cached_property
    def senses(self) -> dict[str, list[str]]:
        """The offsets of each lemma's meanings, the first the most common."""
        found = {}
        for line in (self.folder / "index.noun").read_text("ascii").splitlines():
            if not line.startswith(" "):
                words = line.split()
                found[words[0]] = [word for word in words[4:] if re.fullmatch(r"\d{8}", word)]
        return found

    @cached_property
    def under(self) -> dict[str, list[str]]:
        """The offsets of each meaning's kinds and examples, one step down."""
        found = {}
        for line in (self.folder / "data.noun").read_text("ascii").splitlines():
            if not line.startswith(" "):
                found[line[:8]] = re.findall(r"~i? (\d{8}) n", line.split("|")[0])
        return found

    def offset(self, meaning: str) -> str:
        """Return the offset of a meaning such as `dog.n.01`. Raises UserError where there is none."""
        lemma, _, number = meaning.partition(".n.")
        known = self.senses.get(lemma, [])
        if not number.isdigit() or not 1 <= int(number) <= len(known):
            raise UserError(f"{meaning}: WordNet has no such meaning of a noun")
        return known[int(number) - 1]

    def below(self, meaning: str) -> set[str]:
        """Return the offsets of a meaning and of everything under it."""
        found, left = set[str](), [self.offset(meaning)]
        while left:
            one = left.pop()
            if one not in found:
                found.add(one)
                left += self.under[one]
        return found


@dataclass(frozen=True)
class Seen:
    """The classes of ImageNet and COCO, by name and by meaning."""

    wordnet: WordNet
    imagenet: list[str] = field(default_factory=list)
    """Names in the order of the classifier, the first lemma of each."""
    offsets: list[str] = field(default_factory=list)
    """Of the same classes in WordNet."""

    def under(self, meaning: str) -> set[tuple[str, int]]:
        """Return (dataset, class) of all that a meaning takes in."""
        below = self.wordnet.below(meaning)
        found = {("imagenet", k) for k, offset in enumerate(self.offsets) if offset in below}
        known = {name: self.wordnet.offset(one) for name, one in MEANINGS_OF_COCO.items()}
        return found | {("coco", COCO.index(name)) for name, offset in known.items() if offset in below}

    def named(self, word: str) -> tuple[str, int]:
        """Return (dataset, class) of `@person` or `=torch`. Raises UserError for an unknown name."""
        if word.startswith("@"):
            if word[1:] not in COCO:
                raise UserError(f"{word}: COCO has no such class")
            return "coco", COCO.index(word[1:])
        name, _, number = word[1:].removesuffix(")").partition(" (")
        known = [k for k, one in enumerate(self.imagenet) if one == name and number in ("", str(k))]
        if len(known) != 1:
            raise UserError(f"{word}: ImageNet has {known} of this name; give =NAME or =NAME (NUMBER)")
        return "imagenet", known[0]


def read_seen(wordnet: WordNet) -> Seen:
    """Return the classes as timm lists them."""
    folder = files("timm.data") / "_info"
    synsets = (folder / "imagenet_synsets.txt").read_text("utf-8").split()
    rows = (folder / "imagenet_synset_to_lemma.txt").read_text("utf-8").splitlines()
    lemmas = dict(row.split("\t") for row in rows)
    return Seen(wordnet, [lemmas[one].split(",")[0] for one in synsets], [one[1:] for one in synsets])


def read_makers(text: str) -> dict[str, list[str]]:
    """Return the words of each class of AudioSet. Raises UserError unless each class has one line."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = {}
    for line in lines:
        name, _, words = line.partition(":")
        found[name] = [word.strip() for word in words.split(", ") if word.strip()]
    known = audioset_classes()
    if list(found) != list(known) or len(lines) != len(found):
        odd = [*(set(known) - set(found)), *(set(found) - set(known))] or ["their order"]
        raise UserError(f"makers.txt: has not one line for each class of AudioSet: {odd[0]}")
    return found


Rows = dict[tuple[str, int], tuple[str, str]]
"""(dataset, class) → (relation, by which way)."""


def classes_of(name: str, makers: dict[str, list[str]], seen: Seen) -> Rows:
    """Return what a class of AudioSet brings: what sounds wins over what is only seen with it."""
    rows: Rows = {}
    for word in words_of(name, makers):
        relation, plain = ("with", word[1:]) if word.startswith("~") else ("maker", word)
        if plain.startswith("-"):
            for one in seen.under(plain[1:]):
                rows.pop(one, None)
            continue
        by_hand = plain[0] in "=@"
        for one in [seen.named(plain)] if by_hand else seen.under(plain):
            if one not in rows or (rows[one][0], relation) == ("with", "maker"):
                rows[one] = relation, "hand" if by_hand else plain
    return rows


def words_of(name: str, makers: dict[str, list[str]]) -> Iterator[str]:
    """Yield a line's words, with those of the lines that it takes."""
    text = makers[name]
    for word in text:
        if word.startswith("&"):
            yield from words_of(_joined(word[1:], makers), makers)
        else:
            yield word


def _joined(name: str, makers: dict[str, list[str]]) -> str:
    if name not in makers:
        raise UserError(f"makers.txt: &{name}: is no class of AudioSet")
    return name


def main() -> None:
    """Write the table."""
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_it_is)
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), metavar="DIR")
    folder = Path("cacl/model/tags")
    wordnet = WordNet(parser.parse_args().wordnet)
    seen, makers = read_seen(wordnet), read_makers((folder / "makers.txt").read_text("utf-8"))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["heard", "dataset", "class", "relation", "by"])
    for number, name in enumerate(makers):
        for (dataset, one), (relation, by) in sorted(classes_of(name, makers, seen).items()):
            writer.writerow([number, dataset, one, relation, by])
    with written(folder / "classes.csv") as partial:
        partial.write_text(text.getvalue(), "utf-8")


if __name__ == "__main__":
    main()
