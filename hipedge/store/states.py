"""The states of a path and the transitions between them, enforced by a trigger in the database."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class PathState(str, Enum):
    """The state of a path. The last five are terminal: nothing is left to do."""

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
# A terminal path is queued again when its content changes, or by `hipedge retry`; `hipedge screen`
# claims every path that it is given. A claim that is released (the film had changed, or the
# service was stopped) settles again.
TRANSITIONS: Mapping[PathState, frozenset[PathState]] = {
    _S.SEEN: frozenset({_S.SETTLING, _S.CLAIMED, _S.VANISHED}),
    _S.SETTLING: frozenset({_S.SEEN, _S.CLAIMED, _S.VANISHED}),
    _S.CLAIMED: TERMINAL | {_S.SETTLING, _S.SEEN},
    **{state: frozenset({_S.SEEN, _S.CLAIMED}) for state in TERMINAL},
}
