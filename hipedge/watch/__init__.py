"""The unattended service: `screen` in a loop that loses no file. See `docs/safety.md`."""

from hipedge.watch.service import watch

__all__ = ["watch"]
