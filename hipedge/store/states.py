"""What a path goes through, as a table: the database refuses every other step by a trigger."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class PathState(str, Enum):
    """Where a path stands. The last five are terminal: nothing is left to do."""

    SEEN = "seen"
    SETTLING = "settling"
    CLAIMED = "claimed"
    SCREENED = "screened"
    NOT_APPLICABLE = "not_applicable"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    VANISHED = "vanished"


_S = PathState
TERMINAL = frozenset({_S.SCREENED, _S.NOT_APPLICABLE, _S.DUPLICATE, _S.QUARANTINED, _S.VANISHED})
# A terminal path is seen again when it holds something new, or by `hipedge retry`; `hipedge
# screen` claims whatever it is given. A claim given back (the film had changed, or the service
# was told to end) settles again.
TRANSITIONS: Mapping[PathState, frozenset[PathState]] = {
    _S.SEEN: frozenset({_S.SETTLING, _S.CLAIMED, _S.VANISHED}),
    _S.SETTLING: frozenset({_S.SEEN, _S.CLAIMED, _S.VANISHED}),
    _S.CLAIMED: TERMINAL | {_S.SETTLING, _S.SEEN},
    **{state: frozenset({_S.SEEN, _S.CLAIMED}) for state in TERMINAL},
}
