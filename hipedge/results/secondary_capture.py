"""The picture of a case as a Secondary Capture (PS3.3 A.8.1): what every PACS can show."""

from __future__ import annotations

import textwrap

import numpy as np
from highdicom.sc import SCImage
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

import hipedge
from hipedge.locate.upright import turns_of
from hipedge.results.anatomy import set_anatomy, upright_orientation
from hipedge.results.attributes import NOTE, PLACEHOLDER_UID, equipment
from hipedge.results.source import Source
from hipedge.review.picture import draw_case, upright_pixels
from hipedge.store.rows import Case

# In a PACS the picture is fitted to the screen, beside others.
TEXT_SCALE = 1.5
BANNER_PX = 44
BANNER_COLOUR = (150, 30, 0)
CAPTION_WIDTH = 88
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


def secondary_capture(case: Case, source: Source, *, heat_maps: bool) -> Dataset:
    """Return the film with boxes, categories and, if asked for, heat maps burnt in.

    Raises `InputError` where the film can no longer be read.
    """
    picture = np.asarray(_picture(case, source, heat_maps=heat_maps))
    result = SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # replaced below: the film may name none
        study_instance_uid=source.study_uid,
        series_instance_uid=PLACEHOLDER_UID,
        series_number=1,
        sop_instance_uid=PLACEHOLDER_UID,
        instance_number=1,
        transfer_syntax_uid=EXPLICIT_LITTLE,
        **equipment(case),
    )
    result.ConversionType = "WSD"  # made by a workstation, PS3.3 C.8.6.1
    result.BurnedInAnnotation = "YES"
    # Value 3 of Image Type is the maker's own (PS3.3 C.7.6.1.1.2); gates look for this one.
    result.ImageType = ["DERIVED", "SECONDARY", "AI_RESULT"]
    _refer_to_film(result, case, source)
    result.PatientOrientation = upright_orientation(source.header, turns_of(case.marks))
    set_anatomy(result, case, source)
    return result


def _picture(case: Case, source: Source, *, heat_maps: bool) -> Image.Image:
    pixels = upright_pixels(source.path, case.content_hash, case.marks)
    film = draw_case(
        pixels,
        case.hips,
        case.findings,
        _caption(case),
        heat_maps=heat_maps,
        text_scale=TEXT_SCALE,
    )
    picture = Image.new("RGB", (film.width, film.height + BANNER_PX), BANNER_COLOUR)
    picture.paste(film, (0, BANNER_PX))
    ImageDraw.Draw(picture).text(
        (10, BANNER_PX // 2),
        f"hipedge: {NOTE.upper()}",
        fill=(255, 255, 255),
        font=ImageFont.load_default(24),
        anchor="lm",
    )
    return picture


def _caption(case: Case) -> list[str]:
    """Return the lines below the picture: marks, model and versions."""
    marks = ", ".join(mark.value.replace("_", " ") for mark in case.marks)
    texts = [f"Look again: {marks}"] if marks else []
    texts += [
        f"Model {case.model} {case.model_version} ({case.model_status}), "
        f"hipedge {hipedge.__version__}, recorded {case.recorded_at[:16].replace('T', ' ')} UTC",
        case.model_status_text,
    ]
    return [line for text in texts for line in textwrap.wrap(text, CAPTION_WIDTH)]


def _refer_to_film(result: Dataset, case: Case, source: Source) -> None:
    """Name the film as the source, and how the picture was made of it (PS3.3 C.7.6.1.1.4)."""
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    film = Dataset()
    film.ReferencedSOPClassUID = source.film_class
    film.ReferencedSOPInstanceUID = source.film_uid
    film.PurposeOfReferenceCodeSequence = [purpose]
    result.SourceImageSequence = [film]
    result.DerivationDescription = (
        f"Reduced to 8 bits, with the findings of hipedge {hipedge.__version__}, model {case.model}"
        f" {case.model_version}. {NOTE}"
    )
    # PS3.3 C.7.6.1.1.5: once compressed with loss, an image stays so.
    result.LossyImageCompression = "00"
    if str(source.header.get("LossyImageCompression") or "") == "01":
        result.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in source.header:
                result[keyword] = source.header[keyword]
