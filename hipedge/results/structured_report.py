"""A case as a Measurement Report (PS3.16 TID 1500): Comprehensive 3D SR, or Comprehensive SR.

Each hip is a measurement group (TID 1410) with its region on the film, its category as the finding,
probabilities, and whether and how urgently it is flagged. A group of the whole film (TID 1501)
summarises, and says why a film was not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

import hipedge
from hipedge.errors import CODES, State
from hipedge.results.attributes import (
    MANUFACTURER,
    NOTE,
    PLACEHOLDER_UID,
    STAND_IN_CLASS,
    equipment,
    evidence_of,
    software_versions,
)
from hipedge.results.codes import Codes, Concept, private
from hipedge.results.geometry import stored_box
from hipedge.results.source import Source
from hipedge.results.uids import device_uid, tracking_uid
from hipedge.rules.decide import HARDWARE_NOTE
from hipedge.store.rows import Case
from hipedge.types import CATEGORIES, HARDWARE, Box, Finding, Priority, Side

COMPREHENSIVE_3D = "1.2.840.10008.5.1.4.1.1.88.34"
_YES = Concept("373066001", "SCT", "Yes")  # PS3.16 CID 230
_NO = Concept("373067005", "SCT", "No")


def structured_report(case: Case, source: Source, codes: Codes, sop_class: str) -> Dataset:
    """Return the report of a case; `sop_class` is one of `Kind.STRUCTURED_REPORT.classes`."""
    report = sr.MeasurementReport(
        observation_context=_observer(case),
        procedure_reported=_coded(codes("procedure", "radiograph")),
        imaging_measurements=[
            _film_group(case, source, codes),
            *(_hip_group(case, source, codes, number) for number in range(len(case.hips))),
        ],
        title=dictionary.DCM.ImagingMeasurementReport,
    )
    cls = sr.Comprehensive3DSR if sop_class == COMPREHENSIVE_3D else sr.ComprehensiveSR
    return cls(
        evidence=[evidence_of(source)],
        content=report,
        series_instance_uid=PLACEHOLDER_UID,
        series_number=1,
        sop_instance_uid=PLACEHOLDER_UID,
        instance_number=1,
        is_complete=True,
        is_final=False,
        **equipment(case),
    )


def _observer(case: Case) -> sr.ObservationContext:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(case.model_id),
        name="hipedge",
        manufacturer_name=MANUFACTURER,
        model_name=f"{case.model} {case.model_version}".strip(),
    )
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(dictionary.DCM.Device, device)
    )


def _algorithm(case: Case) -> sr.AlgorithmIdentification:
    """Return the algorithm (TID 4019): hipedge with its model, and what its card says of it."""
    _, model = software_versions(case)
    points = sorted({finding.operating_point for finding in case.findings})
    return sr.AlgorithmIdentification(
        name="hipedge",
        version=f"{hipedge.__version__}, model {model} ({case.model_id[:12]})",
        parameters=[
            NOTE,
            f"{case.model_status}: {case.model_status_text}",
            *(f"operating point {point}" for point in points),
        ],
        family=dictionary.DCM.ArtificialIntelligence,
    )


def _film_group(
    case: Case, source: Source, codes: Codes
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations | sr.MeasurementsAndQualitativeEvaluations:
    """Return the group of the whole film; its region is the film, where that has a size."""
    common: dict[str, Any] = {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=tracking_uid(source.film_uid, case.model_id, "film"), identifier="film"
        ),
        "algorithm_id": _algorithm(case),
        "finding_sites": [_finding_site(codes, Side.UNKNOWN)],
        "qualitative_evaluations": list(_film_evaluations(case, codes)),
    }
    columns, rows = source.header.get("Columns"), source.header.get("Rows")
    if columns and rows:
        region = _region(source, Box(0.0, 0.0, columns, rows))
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **common)
    film = sr.SourceImageForMeasurementGroup(STAND_IN_CLASS, source.film_uid)
    return sr.MeasurementsAndQualitativeEvaluations(source_images=[film], **common)


def _film_evaluations(case: Case, codes: Codes) -> Iterator[sr.QualitativeEvaluation]:
    summary = Concept("111017", "DCM", "CAD Processing and Findings Summary")
    if case.state is not State.SCREENED:
        yield _evaluation(summary, codes("summary", "not_read"))
        assert case.code is not None
        yield _evaluation(
            private("NOT_READ", "Reason why the film was not read"),
            private(case.code.value, CODES[case.code].meaning),
        )
    else:
        flagged = any(finding.flagged for finding in case.findings)
        yield _evaluation(summary, codes("summary", "findings" if flagged else "no_findings"))
    for mark in case.marks:
        yield _evaluation(private("MARK", "Mark: look again"), private(mark.value, _words(mark)))


def _hip_group(
    case: Case, source: Source, codes: Codes, number: int
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    scored, finding = case.hips[number], case.findings[number]
    assert case.shape is not None
    box = stored_box(scored.hip.box, case.shape, case.marks)
    name = f"{scored.hip.side.value} hip" if scored.hip.side is not Side.UNKNOWN else "hip"
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=tracking_uid(source.film_uid, case.model_id, f"{number} {name}"), identifier=name
        ),
        referenced_region=_region(source, box),
        finding_type=_coded(codes("category", finding.category.value)),
        algorithm_id=_algorithm(case),
        finding_sites=[_finding_site(codes, scored.hip.side)],
        measurements=list(_measurements(finding, codes)),
        qualitative_evaluations=list(_hip_evaluations(finding, codes)),
    )


def _region(source: Source, box: Box) -> sr.ImageRegion:
    """Return a box on the stored film as a closed polyline."""
    corners = [(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1)]
    return sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.POLYLINE,
        graphic_data=np.array([*corners, corners[0]], np.float32),
        source_image=sr.SourceImageForRegion(STAND_IN_CLASS, source.film_uid),
    )


def _finding_site(codes: Codes, side: Side) -> sr.FindingSite:
    laterality = None if side is Side.UNKNOWN else _coded(codes("side", side.value))
    return sr.FindingSite(_coded(codes("site", "hip")), laterality)


def _measurements(finding: Finding, codes: Codes) -> Iterator[sr.Measurement]:
    """Yield the certainty of the finding in per cent, and the probability of each category."""
    probabilities = dict(zip(CATEGORIES, finding.probabilities, strict=True))
    yield sr.Measurement(
        name=dictionary.DCM.CertaintyOfFinding,
        value=round(100 * probabilities[finding.category], 1),
        unit=dictionary.UCUM.Percent,
    )
    for category, probability in probabilities.items():
        yield sr.Measurement(
            name=_coded(codes("probability", category.value)),
            value=round(probability, 4),
            unit=dictionary.UCUM.NoUnits,
        )


def _hip_evaluations(finding: Finding, codes: Codes) -> Iterator[sr.QualitativeEvaluation]:
    yield _evaluation(private("FLAGGED", "Flagged for a doctor"), _yes_or_no(finding.flagged))
    for category in finding.flagged_for:
        yield _evaluation(private("FLAGGED_FOR", "Flagged for"), codes("category", category.value))
    yield _evaluation(private("UNCERTAIN", "Uncertain"), _yes_or_no(finding.uncertain))
    if finding.flagged and finding.priority in (Priority.URGENT, Priority.ROUTINE):
        yield _evaluation(private("URGENCY", "Urgency"), codes("priority", finding.priority.value))
    if finding.category in HARDWARE:
        yield _evaluation(private("IMPLANT", "Implant"), private("NOT_ASSESSED", HARDWARE_NOTE))


def _evaluation(name: Concept, value: Concept) -> sr.QualitativeEvaluation:
    return sr.QualitativeEvaluation(_coded(name), _coded(value))


def _yes_or_no(value: bool) -> Concept:
    return _YES if value else _NO


def _coded(concept: Concept) -> sr.CodedConcept:
    return sr.CodedConcept(concept.value, concept.scheme, concept.meaning)


def _words(value: str) -> str:
    return str(getattr(value, "value", value)).replace("_", " ")
