"""A case as a picture: the film, a box around each hip, and a heat map of its finding."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hipedge.dicom.read import load, read
from hipedge.errors import InputError, Refused
from hipedge.locate.upright import turns_of
from hipedge.review.worklist import caption
from hipedge.rules.flags import softmax
from hipedge.store.rows import Case
from hipedge.types import (
    CATEGORIES,
    HARDWARE,
    Box,
    Finding,
    Hip,
    Mark,
    Priority,
    ScoredHip,
    Scores,
)

# Of the longer side: large enough for the text in the boxes, small enough for a screen.
SIDE_PX = (900, 1400)
# Of the caption and of the text in a box, at a text scale of 1; lines are higher than letters.
CAPTION_PX, FOOTER_LINE_PX = 14, 22
LABEL_PX, LABEL_LINE_PX = 18, 23
# Of the text in a box, which wraps at the box's width: beyond it the other hip's text begins.
CHARACTER_PX = 9
# The palette of Okabe and Ito, which colour-blind readers tell apart.
COLOURS = {
    Priority.URGENT: (213, 94, 0),
    Priority.ROUTINE: (240, 228, 66),
    Priority.RECORDED: (86, 180, 233),
    Priority.NONE: (0, 158, 115),
}
HEAT = np.array((255.0, 60.0, 0.0))
HEAT_OPACITY = 0.55


def case_picture(case: Case) -> Image.Image:
    """Draw a screened case from its film, turned as it was for the network.

    Raises `InputError` as `upright_pixels` does.
    """
    pixels = upright_pixels(case.path, case.content_hash, case.marks)
    return draw_case(pixels, case.hips, case.findings, caption(case))


def upright_pixels(
    path: Path, content_hash: str | None, marks: Collection[Mark]
) -> NDArray[np.uint16]:
    """Read a screened film again (H, W), turned as it was for the network.

    Raises `InputError` where the film can no longer be read, or is another one by now.
    """
    try:
        payload = load(path)
        pixels = read(path, payload).pixels
    except Refused as refused:
        raise InputError(f"the film can no longer be read from {path}: {refused}") from refused
    if not payload.is_named(content_hash):
        raise InputError(f"{path} no longer holds the film that was screened")
    return np.rot90(pixels, turns_of(marks))


def draw_case(
    pixels: NDArray[np.uint16],
    hips: Sequence[ScoredHip],
    findings: Sequence[Finding],
    caption: Sequence[str],
    *,
    heat_maps: bool = True,
    text_scale: float = 1.0,
) -> Image.Image:
    """Draw a film (H, W), bone bright, with the boxes, findings and heat maps of its hips.

    The lines of `caption` go under the film. `text_scale` enlarges all text.
    """
    longest = max(pixels.shape)
    scale = min(max(longest, SIDE_PX[0]), SIDE_PX[1]) / longest
    height, width = (max(1, round(length * scale)) for length in pixels.shape)
    gray = Image.fromarray(pixels.astype(np.float32) / 257).resize(
        (width, height), Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    )
    film = np.repeat(np.asarray(gray)[..., None], 3, axis=2)
    if heat_maps:
        for scored, finding in zip(hips, findings, strict=True):
            blend_heat(film, _scaled(scored.hip.box, scale), heat_map(scored, finding))
    line_px = round(FOOTER_LINE_PX * text_scale)
    footer_px = line_px * (len(caption) + 1)
    picture = Image.new("RGB", (max(width, SIDE_PX[0]), height + footer_px))
    picture.paste(Image.fromarray(np.rint(film).astype(np.uint8)))
    draw = ImageDraw.Draw(picture)
    for scored, finding in zip(hips, findings, strict=True):
        box = _scaled(scored.hip.box, scale)
        _outline(draw, scored.hip, box, finding, (width, height), text_scale)
    font = ImageFont.load_default(CAPTION_PX * text_scale)
    for number, line in enumerate(caption):
        draw.text((8, height + 8 + line_px * number), line, fill=(200, 200, 200), font=font)
    return picture


def heat_map(scored: ScoredHip, finding: Finding) -> NDArray[np.float32]:
    """Return the map (h, w) of the found category, oriented as on the film, scaled to 0–1.

    Of a hip that was scored both ways it is the map of the way that makes the category likelier.
    """
    label = CATEGORIES.index(finding.category)

    def probability(scores: Scores) -> float:
        return float(softmax(scores.logits, 1.0)[label])

    way = max(range(len(scored.scores)), key=lambda way: probability(scored.scores[way]))
    # A hip of unknown side is scored plain first, then mirrored.
    mirrored = scored.hip.mirrored or way == 1
    evidence: NDArray[np.float32] = np.maximum(scored.scores[way].maps[label], 0)
    evidence /= max(float(evidence.max()), 1e-9)
    return evidence[:, ::-1] if mirrored else evidence


def blend_heat(film: NDArray[np.float32], box: Box, heat: NDArray[np.float32]) -> None:
    """Blend a heat map (h, w), 0 to 1, into the part of `film` (H, W, 3) that lies in `box`.

    Each of its cells is drawn as one: smoothed, it would seem to point more exactly than it does.
    """
    x0, y0, x1, y1 = (round(edge) for edge in (box.x0, box.y0, box.x1, box.y1))
    whole = np.asarray(
        Image.fromarray(np.ascontiguousarray(heat, np.float32)).resize(
            (max(1, x1 - x0), max(1, y1 - y0)), Image.Resampling.NEAREST
        )
    )
    top, left = max(0, y0), max(0, x0)
    part = film[top : max(top, y1), left : max(left, x1)]
    visible = whole[top - y0 :, left - x0 :][: part.shape[0], : part.shape[1]]
    opacity = HEAT_OPACITY * np.clip(visible, 0, 1)[..., None] ** 1.5
    part[:] = part * (1 - opacity) + HEAT * opacity


def _outline(
    draw: ImageDraw.ImageDraw,
    hip: Hip,
    box: Box,
    finding: Finding,
    size_px: tuple[int, int],
    text_scale: float,
) -> None:
    """Draw a hip's box, and its finding as text below the box's upper edge."""
    colour = COLOURS[finding.priority]
    x0, y0 = max(1, round(box.x0)), max(1, round(box.y0))
    x1, y1 = min(size_px[0] - 2, round(box.x1)), min(size_px[1] - 2, round(box.y1))
    if x1 <= x0 or y1 <= y0:
        return
    draw.rectangle((x0, y0, x1, y1), outline=colour, width=3)
    font = ImageFont.load_default(LABEL_PX * text_scale)
    width = max(12, int((x1 - x0 - 16) / (CHARACTER_PX * text_scale)))
    lines = [part for text in describe_finding(hip, finding) for part in textwrap.wrap(text, width)]
    for number, line in enumerate(lines):
        top = y0 + 6 + round(LABEL_LINE_PX * text_scale * number)
        draw.text((x0 + 8, top), line, fill=colour, font=font, stroke_width=2,
                  stroke_fill=(0, 0, 0))  # fmt: skip


def describe_finding(hip: Hip, finding: Finding) -> list[str]:
    """Return the lines that describe a hip: side and category, why it is flagged, a note."""
    probability = finding.probabilities[CATEGORIES.index(finding.category)]
    lines = [f"{hip.side.value}: {finding.category.value.replace('_', ' ')} {probability:.0%}"]
    if finding.flagged:
        reasons = [category.value.replace("_", " ") for category in finding.flagged_for]
        reasons += ["uncertain"] if finding.uncertain else []
        lines.append(f"flagged ({finding.priority.value}): {', '.join(reasons)}")
    else:
        lines.append("not flagged")
    if finding.category in HARDWARE:
        lines.append("implant itself not assessed")
    return lines


def _scaled(box: Box, scale: float) -> Box:
    return Box(box.x0 * scale, box.y0 * scale, box.x1 * scale, box.y1 * scale)
