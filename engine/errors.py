"""The exceptions that end work early on purpose, and sentences for errors of the operating system."""

import errno

DISK_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
FORBIDDEN = {errno.EACCES, errno.EROFS, errno.EPERM}


class UserError(Exception):
    """A user's mistake: one sentence that says what is wrong and what to do.

    Commands print it on stderr and exit with code 2. Nothing on disk has been damaged.
    """


class Stopped(Exception):
    """Work has stopped on request, at a point from which the same command continues."""


def sentence_of(error: UserError | OSError) -> str:
    """The sentence that explains ``error`` to a user."""
    return str(error) if isinstance(error, UserError) else system_mistake(error) or str(error)


def system_mistake(error: OSError) -> str | None:
    """The sentence for a full disk or a missing permission; None for other errors."""
    where = f" while writing {error.filename}" if error.filename else ""
    if error.errno in DISK_FULL or "No space left" in str(error):  # HDF5 has it only in its message
        return f"The disk is full{where}: free some space and run the same command again, it continues."
    if error.errno in FORBIDDEN:
        return f"No permission for {error.filename}: change it or choose another --workspace."
    return None
