"""The two ways in which work ends early on purpose."""


class UserError(Exception):
    """A mistake of the user's: one sentence that names the thing and the way out.

    Commands print it on stderr and exit with code 2; nothing on disk has been harmed.
    """


class Stopped(Exception):
    """Work that was asked to stop did so at a point from which the same command continues."""
