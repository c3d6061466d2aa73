"""How every command ends: 0 on success, 2 with one sentence on a user's mistake, 130 on Ctrl-C.

And 3 where `fit --gate fail` holds a run back, see data/gate.py.
"""

import argparse
import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from data import interrupted
from data.errors import UserError

EXIT_OK, EXIT_USER_ERROR, EXIT_HELD_BACK, EXIT_INTERRUPTED = 0, 2, 3, 130


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are a UserError: one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:400].rstrip('.')}: '{self.prog} --help' lists what can be given.")


def run(main: Callable[[], None]) -> int:
    """Call `main` and return the exit code that its ending deserves; a mistake is told in one line on stderr.

    A defect of ours is not caught: it keeps its traceback and exit code 1.
    """
    interrupted.begun()
    try:
        main()
    except UserError as mistake:
        return _tell(str(mistake))
    except KeyboardInterrupt as interruption:
        last_words = str(interruption) or "Interrupted: nothing was changed. Run the same command to start over."
        print(f"\n{last_words}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`| head`): no error, and no second one at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as failure:
        sentence = describe_os_error(failure)
        if sentence is None:
            raise
        return _tell(sentence)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else EXIT_OK if ending.code is None else _tell(ending.code)
    return EXIT_OK


def describe_os_error(failure: OSError) -> str | None:
    """One sentence for a machine's limits that the user can mend (full or read-only disk, permission), else None."""
    where = failure.filename2 or failure.filename or "the disk"  # of a copy it is the second that is written
    number = failure.errno
    if number is None and "No space left" in str(failure):
        number = errno.ENOSPC
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"No space left while writing {where}: free some space or set MARQUEE_HOME to a larger disk, then retry."
    if number == errno.EROFS:
        return f"{where} is on a read-only disk: set MARQUEE_HOME to a folder that can be written."
    if number in (errno.EACCES, errno.EPERM):
        return f"No permission for {where}: change its permissions or set MARQUEE_HOME to a folder that can be written."
    if number in (errno.ENOTDIR, errno.EEXIST):
        return f"{where} is in the way: it should be a folder, so move it or set MARQUEE_HOME to another one."
    if number == errno.EISDIR:
        return f"{where} is a folder where a file should be: move it away, then retry."
    if number in (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE):
        return f"{where} cannot be used ({os.strerror(number)}): mend that or set MARQUEE_HOME to another disk."
    return None


def _tell(sentence: object) -> int:
    print(f"error: {' '.join(str(sentence).split())}", file=sys.stderr)
    return EXIT_USER_ERROR
