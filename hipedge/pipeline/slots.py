"""Memory that a worker shares with the main process: the large parts of its results lie there.

By pickle's protocol 5 (PEP 574) the pixels of a crop stay out of the pickle. They are copied once
into a slot and once out of it, where a pipe takes two more copies and many system calls.
"""

from __future__ import annotations

import mmap
import os
import pickle
from multiprocessing.reduction import DupFd
from typing import Any

# Copying less than this takes no longer by the pipe.
SMALL_BYTES = 1024


class Slots:
    """`count` slots of `slot_bytes`, in memory that belongs to two processes and to no file.

    Pickled while a process is being started, it is the same memory in there. It ends with the last
    of the two (memfd_create(2)), so one that is killed leaves nothing behind. What finds no room in
    its slot stays in the pickle.
    """

    def __init__(self, count: int, slot_bytes: int, file: int | None = None) -> None:
        self._count, self._slot_bytes = count, slot_bytes
        if file is None:
            file = os.memfd_create("hipedge", os.MFD_CLOEXEC)
            os.ftruncate(file, count * slot_bytes)
        self._file = file
        self._memory = mmap.mmap(file, count * slot_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self._count, self._slot_bytes, DupFd(self._file))

    def pack(self, slot: int, value: object) -> bytes:
        """Return a message that stands for `value` until its slot is packed again."""
        start = slot % self._count * self._slot_bytes
        lengths = list[int]()

        def stays(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            taken = sum(lengths)
            if raw.nbytes < SMALL_BYTES or taken + raw.nbytes > self._slot_bytes:
                return True
            self._memory[start + taken : start + taken + raw.nbytes] = raw
            lengths.append(raw.nbytes)
            return False

        message = pickle.dumps(value, protocol=5, buffer_callback=stays)
        return pickle.dumps((lengths, message))

    def unpack(self, slot: int, message: bytes) -> Any:
        """Return the value of a message, which then needs its slot no more."""
        lengths, pickled = pickle.loads(message)
        at = slot % self._count * self._slot_bytes
        buffers = list[bytearray]()
        for length in lengths:
            buffers.append(bytearray(memoryview(self._memory)[at : at + length]))
            at += length
        return pickle.loads(pickled, buffers=buffers)

    def close(self) -> None:
        """Give the memory up in this process."""
        self._memory.close()
        os.close(self._file)


def _opened(count: int, slot_bytes: int, file: Any) -> Slots:
    return Slots(count, slot_bytes, file.detach())
