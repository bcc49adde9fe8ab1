"""Ctrl-C while the command is still importing: it ends at once, as a program in C does, without a traceback.

Imported first by the package, and importing little itself. In a program that only uses the library nothing changes.
"""

from __future__ import annotations

import os
import signal
import sys

_is_quiet = False


def _is_command() -> bool:
    """Whether this process is ``erlangen`` or ``python -m erlangen``, whose own code has not begun yet."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # what Python writes there while it imports the package
        return ("-m", "erlangen") in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    return os.path.basename(program) in ("erlangen", "erlangen.exe")  # noqa: PTH119 - pathlib takes longer to import


def wait_for_command() -> None:
    """Let Ctrl-C end the process, if it is the command, and Ctrl-C is not ignored or taken by others."""
    global _is_quiet
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _is_quiet = True


def begin_command() -> None:
    """From here on Ctrl-C is `KeyboardInterrupt` again."""
    global _is_quiet
    if _is_quiet:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _is_quiet = False


wait_for_command()
