"""The boxes and findings as a presentation state (PS3.3 A.33.1): an overlay that can be hidden."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from highdicom import PresentationLUTTransformation, pr
from pydicom.dataset import Dataset

from hipedge.results.anatomy import set_anatomy
from hipedge.results.attributes import NOTE, PLACEHOLDER_UID, equipment, evidence_of
from hipedge.results.geometry import stored_box
from hipedge.results.source import Source
from hipedge.review.picture import describe_finding
from hipedge.store.rows import Case
from hipedge.types import Box, Mark

LABEL = "HIPEDGE"
# Of the film, which highdicom copies into the presentation state.
_GRAYSCALE = (
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "ModalityLUTSequence",
)
_WINDOW = (
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
    "VOILUTFunction",
    "VOILUTSequence",
)
# Of the film's height: room for a line of text.
_LINE = 0.025


def presentation_state(case: Case, source: Source) -> Dataset:
    """Return an overlay with a box, a category and its probability for each hip."""
    film = _film(case, source)
    layer = pr.GraphicLayer(LABEL, order=1, description=NOTE)
    annotation = pr.GraphicAnnotation(
        referenced_images=[film],
        graphic_layer=layer,
        graphic_objects=[_outline(box) for box in _boxes(case)] or None,
        text_objects=list(_texts(case, film)),
    )
    result = pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[film],
        series_instance_uid=PLACEHOLDER_UID,
        series_number=1,
        sop_instance_uid=PLACEHOLDER_UID,
        instance_number=1,
        content_label=LABEL,
        content_description="Findings of hipedge, research use only",
        graphic_annotations=[annotation],
        graphic_layers=[layer],
        presentation_lut_transformation=PresentationLUTTransformation(
            presentation_lut_shape="INVERSE" if _is_inverted(source.header) else "IDENTITY"
        ),
        **equipment(case),
    )
    set_anatomy(result, case, source)
    return result


def _film(case: Case, source: Source) -> Dataset:
    """Return what the presentation state takes from the film: its size and its grayscale."""
    film = evidence_of(source)
    names = _GRAYSCALE if Mark.WINDOW_UNUSABLE in case.marks else (*_GRAYSCALE, *_WINDOW)
    for keyword in ("Rows", "Columns", "SamplesPerPixel", *names):
        if keyword in source.header and source.header[keyword].value not in (None, ""):
            film[keyword] = source.header[keyword]
    return film


def _is_inverted(film: Dataset) -> bool:
    """Return whether low values are bright; a presentation state has to say so (C.11.6.1.2)."""
    return bool(
        film.get("PhotometricInterpretation") == "MONOCHROME1"
        or film.get("PresentationLUTShape") == "INVERSE"
    )


def _boxes(case: Case) -> Iterator[Box]:
    assert case.shape is not None
    for scored in case.hips:
        yield stored_box(scored.hip.box, case.shape, case.marks)


def _outline(box: Box) -> pr.GraphicObject:
    corners = [(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1)]
    return pr.GraphicObject(
        graphic_type=pr.GraphicTypeValues.POLYLINE,
        graphic_data=np.array([*corners, corners[0]], np.float32),
        units=pr.AnnotationUnitsValues.PIXEL,
    )


def _texts(case: Case, film: Dataset) -> Iterator[pr.TextObject]:
    """Yield the finding of each hip below its box's upper edge, and the note at the film's."""
    line = max(1.0, film.Rows * _LINE)
    for box, scored, finding in zip(_boxes(case), case.hips, case.findings, strict=True):
        lines = describe_finding(scored.hip, finding)
        bottom = min(box.y0 + line * (len(lines) + 1), box.y1)
        yield _text("\r\n".join(lines), (box.x0, box.y0, box.x1, bottom))
    model = f"hipedge, model {case.model} {case.model_version}".strip()
    yield _text(f"{model}. {NOTE}", (0.0, 0.0, float(film.Columns), 2 * line))


def _text(text: str, box: tuple[float, float, float, float]) -> pr.TextObject:
    return pr.TextObject(
        text_value=text,
        units=pr.AnnotationUnitsValues.PIXEL,
        bounding_box=box,
        text_justification=pr.TextJustificationValues.LEFT,
    )
