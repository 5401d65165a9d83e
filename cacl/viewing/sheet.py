"""Many frames on one sheet, with what is known of where their sound comes from."""

from __future__ import annotations

from collections.abc import Iterable

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from cacl.annotation import Annotation, SoundSource

TILE, CAPTION, COLUMNS = 224, 16, 8
"""Pixels of a frame's side and of the line below it; frames in a row."""
HEARD, SILENT, INK, PAPER = (255, 140, 0), (90, 170, 255), (30, 30, 30), (255, 255, 255)


def draw_sheet(clips: Iterable[tuple[Image.Image, Annotation]]) -> Image.Image:
    """Return the frames in rows of eight: orange what is heard, blue what is visible and silent.

    Outlined are masks where there are any, boxes where there are none; below stands what is heard.
    """
    tiles = [_tile(frame, note) for frame, note in clips]
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (min(len(tiles), COLUMNS) * TILE, rows * (TILE + CAPTION)), PAPER)
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % COLUMNS * TILE, number // COLUMNS * (TILE + CAPTION)))
    return sheet


def _tile(frame: Image.Image, note: Annotation) -> Image.Image:
    tile = Image.new("RGB", (TILE, TILE + CAPTION), PAPER)
    tile.paste(frame.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS))
    # What is heard is drawn last, so that nothing lies over it.
    for source in sorted(note.sources or (), key=lambda source: source.audible):
        _outline(tile, source, HEARD if source.audible else SILENT)
    names = [f"({one.class_name})" if not one.visible else one.class_name for one in note.heard]
    caption = " + ".join(names) if note.sources is not None else "?"
    text = ImageDraw.Draw(tile)
    text.text((3, TILE + 1), caption or "silence", INK, ImageFont.load_default(11))
    return tile


def _outline(tile: Image.Image, source: SoundSource, color: tuple[int, int, int]) -> None:
    if source.mask is not None:
        mask = (
            Image.fromarray(source.mask)
            .convert("L")
            .resize((TILE, TILE))
            .point(lambda value: 255 * (value > 0))
        )
        inner = mask.filter(ImageFilter.MinFilter(3))
        edge = Image.composite(Image.new("L", mask.size), mask, inner)
        tile.paste(color, (0, 0), edge)
        return
    for x0, y0, x1, y1 in source.boxes or ():
        corners = [TILE * min(max(edge, 0.0), 1.0) for edge in (x0, y0, x1, y1)]
        if corners[0] < corners[2] and corners[1] < corners[3]:
            ImageDraw.Draw(tile).rectangle(corners, outline=color, width=2)
