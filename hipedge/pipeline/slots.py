"""Shared memory between a worker and the main process, for the large buffers of results.

With pickle protocol 5 (PEP 574) the pixels of a crop stay out of the pickle. They are copied once
into a slot and once out of it; a pipe would need two more copies and many system calls.
"""

from __future__ import annotations

import mmap
import os
import pickle
from multiprocessing.reduction import DupFd
from typing import Any

# Smaller buffers are copied through the pipe just as fast.
SMALL_BYTES = 1024


class Slots:
    """`count` slots of `slot_bytes`, in anonymous memory that two processes share.

    An instance that is pickled while a process is being started refers to the same memory there.
    The kernel frees it with the last of the two processes (memfd_create(2)), also where they are
    killed. Buffers that do not fit into a slot stay in the pickle.
    """

    def __init__(self, count: int, slot_bytes: int, file: int | None = None) -> None:
        self._count, self._slot_bytes = count, slot_bytes
        if file is None:
            file = os.memfd_create("hipedge", os.MFD_CLOEXEC)
            os.ftruncate(file, count * slot_bytes)
        self._file = file
        self._memory = mmap.mmap(file, count * slot_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._count, self._slot_bytes, DupFd(self._file))

    def pack(self, slot: int, value: object) -> bytes:
        """Return a message for `value`, which is valid until the slot is packed again."""
        start = slot % self._count * self._slot_bytes
        lengths = list[int]()

        def in_band(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            used = sum(lengths)
            if raw.nbytes < SMALL_BYTES or used + raw.nbytes > self._slot_bytes:
                return True
            self._memory[start + used : start + used + raw.nbytes] = raw
            lengths.append(raw.nbytes)
            return False

        message = pickle.dumps(value, protocol=5, buffer_callback=in_band)
        return pickle.dumps((lengths, message))

    def unpack(self, slot: int, message: bytes) -> Any:
        """Return the value of a message; its slot can be packed again afterwards."""
        lengths, pickled = pickle.loads(message)
        offset = slot % self._count * self._slot_bytes
        buffers = list[bytearray]()
        for length in lengths:
            buffers.append(bytearray(memoryview(self._memory)[offset : offset + length]))
            offset += length
        return pickle.loads(pickled, buffers=buffers)

    def close(self) -> None:
        """Unmap the memory in this process."""
        self._memory.close()
        os.close(self._file)


def _reopen(count: int, slot_bytes: int, file: Any) -> Slots:
    return Slots(count, slot_bytes, file.detach())
