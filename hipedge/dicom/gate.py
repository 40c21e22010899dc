"""The gate: refuse, by the header alone, what is certainly not a frontal hip radiograph.

Only explicit header values count. Where an attribute is missing or has an unknown local value the
film passes, because a hip that is refused by mistake is not screened.
"""

from __future__ import annotations

import re

from pydicom.config import IGNORE
from pydicom.uid import UID

from hipedge.dicom.header import Header
from hipedge.errors import Code, Refused
from hipedge.types import View

# PS3.4 B.5: Computed Radiography, Digital X-Ray for presentation and for processing.
RADIOGRAPH_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.1",
        "1.2.840.10008.5.1.4.1.1.1.1",
        "1.2.840.10008.5.1.4.1.1.1.1.1",
    }
)
SECONDARY_CAPTURE_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.7",
        "1.2.840.10008.5.1.4.1.1.7.1",
        "1.2.840.10008.5.1.4.1.1.7.2",
        "1.2.840.10008.5.1.4.1.1.7.3",
        "1.2.840.10008.5.1.4.1.1.7.4",
    }
)

DIGITISED_FILM = "DF"  # Conversion Type (0008,0064), PS3.3 C.8.6.1

# Modality (0008,0060), PS3.3 C.7.3.1.1.1. Not listed, so accepted: CR, DX, RG, OT, retired and
# local terms.
OTHER_MODALITIES = frozenset(
    {
        "BDUS", "BI", "BMD", "CFM", "CT", "DMS", "EPS", "ES", "FS", "GM",
        "HC", "IO", "IVOCT", "IVUS", "LS", "MG", "MR", "NM", "OAM", "OCT", "OP", "OPM",
        "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "PA", "PT", "PX", "RF", "RTIMAGE", "SM",
        "TG", "US", "VA", "XA", "XC",
    }
)  # fmt: skip
OBJECT_MODALITIES = frozenset(
    {
        "ANN", "ASMT", "AU", "CTPROTOCOL", "DOC", "ECG", "EEG", "EMG", "EOG", "FID", "HD",
        "IOL", "KER", "KO", "LEN", "M3D", "OPMAP", "PLAN", "POS", "PR", "REG", "RESP",
        "RTDOSE", "RTINTENT", "RTPLAN", "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV",
        "SEG", "SMR", "SR", "SRF", "STAIN", "TEXTUREMAP", "XAPROTOCOL",
    }
)  # fmt: skip

# Image Type (0008,0008) value 3 and later (PS3.3 C.7.6.1.1.2): localizers and, by vendors'
# convention, images that show the results of other software.
LOCALIZER_TYPES = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM"})
AI_TYPES = frozenset({"AI", "CAD", "AI_RESULT", "CAD_RESULT", "HEATMAP"})
AI_CODE = ("123110", "DCM")  # Artificial Intelligence, PS3.16 CID 7162

# Manufacturer (0008,0070) of hipedge's own results, and of the item in their Contributing Equipment
# Sequence (0018,A001), which stays when other software makes another image of one (PS3.3 C.12.1).
OWN_MANUFACTURER = "hipedge"

# Body Part Examined (0018,0015), PS3.16 table L-1, without spaces. Not listed, so accepted, are
# all parts that include or adjoin the hip: pelvis, sacrum, sacroiliac joint, femur, thigh, leg,
# whole body, the abdomen together with the pelvis.
NOT_HIP_PARTS = frozenset(
    {
        "ABDOMEN", "ACJOINT", "ANKLE", "ARM", "BRAIN", "BREAST", "BRONCHUS", "CALCANEUS",
        "CALF", "CAROTID", "CERVIX", "CHEEK", "CHEST", "CHESTABDOMEN", "CLAVICLE", "COLON",
        "CSPINE", "CTSPINE", "EAR", "ELBOW", "ESOPHAGUS", "EYE", "FACE", "FACIALBONES",
        "FIBULA", "FINGER", "FOOT", "FOREARM", "GALLBLADDER", "HAND", "HEAD", "HEADNECK",
        "HEART", "HEEL", "HUMERUS", "IAC", "JAW", "KIDNEY", "KNEE", "LARYNX", "LIVER",
        "LOWERLEG", "LSPINE", "LUNG", "MANDIBLE", "MASTOID", "MAXILLA", "MEDIASTINUM",
        "MOUTH", "NASALBONE", "NECK", "NECKCHEST", "NECKCHESTABDOMEN", "NOSE", "OPTICCANAL",
        "ORBIT", "PANCREAS", "PAROTID", "PATELLA", "PHARYNX", "RADIUS", "RADIUSULNA", "RIB",
        "SCAPULA", "SCJOINT", "SELLA", "SHOULDER", "SINUS", "SKULL", "SPLEEN", "STERNUM",
        "STOMACH", "SUBMANDIBULAR", "TARSALJOINT", "TEETH", "THORAX", "THUMB", "THYMUS",
        "THYROID", "TIBIA", "TIBIAFIBULA", "TLSPINE", "TMJ", "TOE", "TONGUE", "TRACHEA",
        "TSPINE", "ULNA", "UPPERARM", "UPPERLIMB", "WRIST", "ZYGOMA",
    }
)  # fmt: skip

# Anatomic Region Sequence (0008,2218), PS3.16 CID 4009, as SNOMED CT and the older SRT codes.
NOT_HIP_REGIONS = frozenset(
    {
        ("818981001", "SCT"), ("113345001", "SCT"), ("T-D4000", "SRT"),  # abdomen
        ("85856004", "SCT"), ("T-15420", "SRT"),    # acromioclavicular joint
        ("70258002", "SCT"), ("T-15750", "SRT"),    # ankle joint
        ("371195002", "SCT"), ("T-D0821", "SRT"),   # bone of upper limb
        ("76752008", "SCT"), ("T-04000", "SRT"),    # breast
        ("80144004", "SCT"), ("T-12770", "SRT"),    # calcaneus
        ("122494005", "SCT"), ("T-11501", "SRT"),   # cervical spine
        ("816094009", "SCT"), ("51185008", "SCT"), ("T-D3000", "SRT"),  # chest
        ("416550000", "SCT"), ("R-FAB55", "SRT"),   # chest and abdomen
        ("51299004", "SCT"), ("T-12310", "SRT"),    # clavicle
        ("16953009", "SCT"), ("T-15430", "SRT"),    # elbow joint
        ("91397008", "SCT"), ("T-11196", "SRT"),    # facial bones
        ("87342007", "SCT"), ("T-12750", "SRT"),    # fibula
        ("7569003", "SCT"), ("T-D8800", "SRT"),     # finger
        ("56459004", "SCT"), ("T-D9700", "SRT"),    # foot
        ("14975008", "SCT"), ("T-D8500", "SRT"),    # forearm
        ("85562004", "SCT"), ("T-D8700", "SRT"),    # hand
        ("69536005", "SCT"), ("T-D1100", "SRT"),    # head
        ("774007", "SCT"), ("T-D1000", "SRT"),      # head and neck
        ("85050009", "SCT"), ("T-12410", "SRT"),    # humerus
        ("661005", "SCT"), ("T-D1213", "SRT"),      # jaw region
        ("72696002", "SCT"), ("T-D9200", "SRT"),    # knee
        ("30021000", "SCT"), ("T-D9400", "SRT"),    # lower leg
        ("122496007", "SCT"), ("T-11503", "SRT"),   # lumbar spine
        ("91609006", "SCT"), ("T-11180", "SRT"),    # mandible
        ("70925003", "SCT"), ("T-11170", "SRT"),    # maxilla
        ("74386004", "SCT"), ("T-11149", "SRT"),    # nasal bone
        ("45048000", "SCT"), ("T-D1600", "SRT"),    # neck
        ("417437006", "SCT"), ("R-FAB52", "SRT"),   # neck and chest
        ("363654007", "SCT"), ("T-D14AE", "SRT"),   # orbital structure
        ("2095001", "SCT"), ("T-22000", "SRT"),     # paranasal sinus
        ("64234005", "SCT"), ("T-12730", "SRT"),    # patella
        ("113197003", "SCT"), ("T-11300", "SRT"),   # rib
        ("79601000", "SCT"), ("T-12280", "SRT"),    # scapula
        ("16982005", "SCT"), ("T-D2220", "SRT"),    # shoulder
        ("89546000", "SCT"), ("T-11100", "SRT"),    # skull
        ("7844006", "SCT"), ("T-15610", "SRT"),     # sternoclavicular joint
        ("56873002", "SCT"), ("T-11210", "SRT"),    # sternum
        ("27949001", "SCT"), ("T-15770", "SRT"),    # tarsal joint
        ("53620006", "SCT"), ("T-15290", "SRT"),    # temporomandibular joint
        ("122495006", "SCT"), ("T-11502", "SRT"),   # thoracic spine
        ("76505004", "SCT"), ("T-D8810", "SRT"),    # thumb
        ("29707007", "SCT"), ("T-D9800", "SRT"),    # toe
        ("44567001", "SCT"), ("T-25000", "SRT"),    # trachea
        ("40983000", "SCT"), ("T-D8200", "SRT"),    # upper arm
        ("53120007", "SCT"), ("T-D8000", "SRT"),    # upper limb
        ("74670003", "SCT"), ("T-15460", "SRT"),    # wrist joint
        ("13881006", "SCT"), ("T-11166", "SRT"),    # zygoma
    }
)  # fmt: skip


def gate(header: Header) -> None:
    """Raise `Refused` with a code of the stage `gate` unless the film may show a hip.

    Checked in this order: `own_result`, `wrong_object`, `secondary_capture`, `wrong_modality` (by
    SOP Class, then by Modality), `localizer`, `ai_result`, `multi_frame`, `wrong_body_part`,
    `lateral_view`.
    """
    if OWN_MANUFACTURER in (name.lower() for name in header.contributors):
        raise Refused(Code.OWN_RESULT)
    _check_object(header)
    _check_image_type(header)
    if header.number_of_frames > 1:
        raise Refused(Code.MULTI_FRAME)
    if _is_elsewhere(header):
        raise Refused(Code.WRONG_BODY_PART)
    if header.view is View.LATERAL:
        raise Refused(Code.LATERAL_VIEW)


def _check_object(header: Header) -> None:
    """Refuse by SOP Class (0008,0016); private and unknown classes pass.

    Film digitisers write Secondary Captures: those of Conversion Type DF are radiographs.
    """
    sop_class = header.sop_class_uid
    is_capture = sop_class in SECONDARY_CAPTURE_CLASSES
    if is_capture and header.conversion_type != DIGITISED_FILM:
        raise Refused(Code.SECONDARY_CAPTURE)
    registered = UID(sop_class or "", IGNORE)
    if registered.type and not is_capture and sop_class not in RADIOGRAPH_CLASSES:
        is_image = "Image Storage" in registered.name
        raise Refused(Code.WRONG_MODALITY if is_image else Code.WRONG_OBJECT)
    if header.modality in OBJECT_MODALITIES:
        raise Refused(Code.WRONG_OBJECT)
    if header.modality in OTHER_MODALITIES:
        raise Refused(Code.WRONG_MODALITY)


def _check_image_type(header: Header) -> None:
    r"""Refuse localizers and the results of other software.

    DERIVED\SECONDARY alone does not refuse a film: recompressed films have it. Nor does an
    algorithm named on an ORIGINAL image: detectors denoise with neural networks.
    """
    types = {value.upper() for value in header.image_type}
    if types & LOCALIZER_TYPES:
        raise Refused(Code.LOCALIZER)
    by_algorithm = header.names_algorithm or AI_CODE in header.derivations
    if types & AI_TYPES or (by_algorithm and "ORIGINAL" not in types):
        raise Refused(Code.AI_RESULT)


def _is_elsewhere(header: Header) -> bool:
    """Return whether every body part and region in the header is listed as not hip."""
    parts = [re.sub(r"[\s_-]", "", part.upper()) for part in header.body_parts]
    regions = [(value, _snomed(scheme)) for value, scheme in header.anatomic_regions]
    named = [part in NOT_HIP_PARTS for part in parts]
    named += [region in NOT_HIP_REGIONS for region in regions]
    return bool(named) and all(named)


def _snomed(scheme: str) -> str:
    """Return SRT for the other names that SNOMED's older codes go by (PS3.16 8.1)."""
    return "SRT" if scheme in ("SNM3", "99SDM") else scheme
