"""The exceptions of hipedge, and the table of refusal codes.

A broken installation, model or database raises a `HipedgeError`. An expected fault of a single file
is raised inside a stage as `Refused`; the pipeline turns it into a `Refusal` with its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Stage(str, Enum):
    """The stages of the pipeline."""

    DISCOVER = "discover"
    READ = "read"
    GATE = "gate"
    LOCATE = "locate"
    PREPARE = "prepare"
    INFER = "infer"
    DECIDE = "decide"
    RECORD = "record"


class State(str, Enum):
    """The final states of a file."""

    SCREENED = "screened"
    NOT_APPLICABLE = "not_applicable"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"


class Code(str, Enum):
    """Why a file was not screened."""

    UNREADABLE = "unreadable"
    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    MALFORMED_HEADER = "malformed_header"
    NO_PIXELS = "no_pixels"
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported_transfer_syntax"
    UNSUPPORTED_PIXELS = "unsupported_pixels"
    TOO_LARGE = "too_large"
    TRUNCATED = "truncated"
    DECODE_FAILED = "decode_failed"
    WORKER_DIED = "worker_died"
    UNEXPECTED_ERROR = "unexpected_error"
    WRONG_OBJECT = "wrong_object"
    WRONG_MODALITY = "wrong_modality"
    WRONG_BODY_PART = "wrong_body_part"
    LATERAL_VIEW = "lateral_view"
    MULTI_FRAME = "multi_frame"
    LOCALIZER = "localizer"
    SECONDARY_CAPTURE = "secondary_capture"
    AI_RESULT = "ai_result"
    OWN_RESULT = "own_result"
    NO_HIP_FOUND = "no_hip_found"
    HIP_OUTSIDE_IMAGE = "hip_outside_image"
    SCORES_NOT_FINITE = "scores_not_finite"
    SAME_PIXELS = "same_pixels"


@dataclass(frozen=True)
class CodeInfo:
    """One row of the table: the stage that gives the code, the final state, the meaning.

    `other_modality` says that a file refused with this code is neither a radiograph nor a picture,
    or one of hipedge's own results.
    A worklist gives the number of such files; every other file that was not read it lists by name.
    """

    stage: Stage
    state: State
    meaning: str
    other_modality: bool = False


_Q, _N, _D = State.QUARANTINED, State.NOT_APPLICABLE, State.DUPLICATE

CODES: Mapping[Code, CodeInfo] = {
    Code.UNREADABLE: CodeInfo(Stage.READ, _Q, "the file or folder could not be opened or read"),
    Code.EMPTY_FILE: CodeInfo(Stage.READ, _Q, "the file has no bytes"),
    Code.NOT_AN_IMAGE: CodeInfo(Stage.READ, _Q, "neither DICOM nor PNG, JPEG or TIFF"),
    Code.MALFORMED_HEADER: CodeInfo(Stage.READ, _Q, "the DICOM header cannot be parsed"),
    Code.NO_PIXELS: CodeInfo(Stage.READ, _Q, "an image object without pixel data"),
    Code.UNSUPPORTED_TRANSFER_SYNTAX: CodeInfo(
        Stage.READ, _Q, "a transfer syntax that hipedge does not decode"
    ),
    Code.UNSUPPORTED_PIXELS: CodeInfo(
        Stage.READ, _Q, "pixel attributes that contradict each other or are not supported"
    ),
    Code.TOO_LARGE: CodeInfo(Stage.READ, _Q, "more pixels than any radiograph has"),
    Code.TRUNCATED: CodeInfo(Stage.READ, _Q, "fewer bytes of pixel data than the header announces"),
    Code.DECODE_FAILED: CodeInfo(Stage.READ, _Q, "the decoder refused the pixel data"),
    Code.WORKER_DIED: CodeInfo(
        Stage.READ, _Q, "the worker process crashed while decoding this file"
    ),
    Code.UNEXPECTED_ERROR: CodeInfo(Stage.READ, _Q, "an error in hipedge: please report it"),
    Code.WRONG_OBJECT: CodeInfo(
        Stage.GATE, _N, "a DICOM object that is not a radiograph", other_modality=True
    ),
    Code.WRONG_MODALITY: CodeInfo(Stage.GATE, _N, "another modality", other_modality=True),
    Code.WRONG_BODY_PART: CodeInfo(Stage.GATE, _N, "a body part that is not the hip"),
    Code.LATERAL_VIEW: CodeInfo(Stage.GATE, _N, "a lateral view"),
    Code.MULTI_FRAME: CodeInfo(Stage.GATE, _N, "more than one frame"),
    Code.LOCALIZER: CodeInfo(Stage.GATE, _N, "a localizer"),
    Code.SECONDARY_CAPTURE: CodeInfo(Stage.GATE, _N, "a secondary capture"),
    Code.AI_RESULT: CodeInfo(Stage.GATE, _N, "the result of other software"),
    Code.OWN_RESULT: CodeInfo(
        Stage.GATE, _N, "a result that hipedge itself has made", other_modality=True
    ),
    Code.NO_HIP_FOUND: CodeInfo(Stage.LOCATE, _N, "no hip was found on the film"),
    Code.HIP_OUTSIDE_IMAGE: CodeInfo(
        Stage.PREPARE, _Q, "the hip given for this film lies outside its image"
    ),
    Code.SCORES_NOT_FINITE: CodeInfo(Stage.INFER, _Q, "the model returned NaN or infinity"),
    Code.SAME_PIXELS: CodeInfo(
        Stage.RECORD, _D, "same SOP Instance UID and pixels as a file already recorded"
    ),
}


class HipedgeError(Exception):
    """Base class of all exceptions that hipedge raises. The text says what to do."""


class InstallationError(HipedgeError):
    """A required package is not installed, or cannot run on this machine."""


class ConfigError(HipedgeError):
    """A setting is unknown or has an invalid value."""


class ModelError(HipedgeError):
    """A model folder is incomplete, inconsistent, or does not match its hashes."""


class BackendError(HipedgeError):
    """A backend cannot run this model, or failed while running it."""


class BackendLost(BackendError):
    """The device of a backend has failed: only a new process can open it again."""


class StoreError(HipedgeError):
    """The database cannot be opened, read or written."""


class StoreUnavailable(StoreError):
    """The database is temporarily unavailable (locked, disk full, I/O error): try again later."""


class StaleAnswer(StoreError):
    """An answer was not recorded, since it replaces none or another than it was meant to."""


class InputError(HipedgeError):
    """An input named by the user (a path, a CSV file, a manifest) cannot be used."""


class Refused(HipedgeError):
    """A file is refused, for a reason in `CODES`. Raised in a stage, caught by the pipeline.

    `detail` is stored and displayed: it must hold neither patient data nor text from the file.
    """

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(f"{code.value}: {detail or CODES[code].meaning}")
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type[Refused], tuple[Code, str]]:
        return type(self), (self.code, self.detail)
