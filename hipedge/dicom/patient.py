"""Which films are of one patient, without saying who it is.

The pseudonym is an HMAC (RFC 2104) of the header's identifiers with a site's own key. Without the
key nobody can tell whose films they are, nor whether somebody's are among them: patient IDs alone,
hashed without one, could be tried one by one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Patient:
    """A patient's identifiers as they are in a header (PS3.3 C.7.1.1); "" where missing."""

    issuer: str
    patient_id: str
    birth_date: str

    def pseudonym(self, key: bytes) -> str | None:
        """Return a name that all films with these identifiers share under a key.

        None without ID or birth date: an ID that stands for nobody, such as that of films which
        were made anonymous, seldom has one, and one ID of two hospitals seldom the same.
        """
        if not self.patient_id or not self.birth_date:
            return None
        parts = json.dumps([self.issuer, self.patient_id, self.birth_date]).encode()
        return hmac.digest(key, parts, hashlib.sha256)[:16].hex()
