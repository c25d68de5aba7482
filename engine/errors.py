"""The two ways in which work ends early on purpose, and what the system's own refusals mean to a user."""

import errno

DISK_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
FORBIDDEN = {errno.EACCES, errno.EROFS, errno.EPERM}


class UserError(Exception):
    """A mistake of the user's: one sentence that names the thing and the way out.

    Commands print it on stderr and exit with code 2; nothing on disk has been harmed.
    """


class Stopped(Exception):
    """Work that was asked to stop did so at a point from which the same command continues."""


def sentence_of(error: UserError | OSError) -> str:
    """What to tell a user of ``error``."""
    return str(error) if isinstance(error, UserError) else system_mistake(error) or str(error)


def system_mistake(error: OSError) -> str | None:
    """The sentence for a full disk or a missing permission; None for what is no mistake of the user's."""
    where = f" while writing {error.filename}" if error.filename else ""
    if error.errno in DISK_FULL or "No space left" in str(error):  # HDF5 says it in words alone
        return f"The disk is full{where}: free some space and run the same command again, it continues."
    if error.errno in FORBIDDEN:
        return f"No permission for {error.filename}: change it or choose another --workspace."
    return None
