"""What processes that tests start have in common."""

import signal


def heed_interrupts():
    """Undo what a shell does to jobs in the background: they and their children ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
