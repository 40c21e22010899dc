"""Passwords: how long they are, and their hashes (Argon2id, RFC 9106)."""

from __future__ import annotations

import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from hipedge.errors import InputError

# NIST SP 800-63B and OWASP ASVS 2.1.1, 2.1.2: length, and no rule about kinds of characters.
LENGTH = (12, 128)
# Each takes 64 MiB for a twentieth of a second or more.
_AT_ONCE = threading.BoundedSemaphore(2)
_HASHER = PasswordHasher()
# Checked where there is no such user, so that the time of the answer does not tell.
_NOBODY = _HASHER.hash("nobody has this password")


def hash_password(password: str, user: str) -> str:
    """Return the encoded hash of a new password. Raises `InputError` for one that is no good."""
    shortest, longest = LENGTH
    if not shortest <= len(password) <= longest:
        raise InputError(f"a password has {shortest} to {longest} characters")
    if user.lower() in password.lower() or len(set(password)) < 5:
        raise InputError("this password can be guessed: choose several words that nobody expects")
    return _HASHER.hash(password)


def is_password(password_hash: str | None, password: str) -> bool:
    """Return whether a password belongs to a hash; without one it takes as long, and does not."""
    if len(password) > LENGTH[1]:
        return False
    with _AT_ONCE:
        try:
            return _HASHER.verify(password_hash or _NOBODY, password) and password_hash is not None
        except (VerificationError, InvalidHashError):
            return False
