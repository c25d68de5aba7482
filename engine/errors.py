"""The exceptions that end work early on purpose, sentences for errors of the operating system, and counts in words."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

DISK_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
FORBIDDEN = {errno.EACCES, errno.EROFS, errno.EPERM}
PASSING = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EBUSY, errno.ETXTBSY),
    *(errno.ETIMEDOUT, errno.ENODEV, errno.ENOTCONN, errno.EHOSTDOWN),
}
"""What the system says where the machine is at fault, not the file: another time it may be read."""
UNREAD = {errno.EIO, errno.ESTALE, errno.EREMOTEIO}
"""What it says where a place on the disk cannot be read, and where the whole disk is gone."""
OURS = {errno.EBADF, errno.EFAULT, errno.EPIPE, errno.ECHILD}
"""What the system says to a program with a bug."""

_TOLD = re.compile(r"\b(?:os error|errno =|Errno) (\d+)")  # by safetensors, HDF5, and Python itself
_AGAIN = "run the same command again, it continues"
_WAYS = {
    errno.ENOENT: f"it was moved or removed; put it back and {_AGAIN}",
    errno.ELOOP: "it is a symbolic link that leads to itself; remove the link",
    errno.EAGAIN: f"another program holds it; close it there and {_AGAIN}",
    errno.EMFILE: f"raise the limit (ulimit -n) and {_AGAIN}",
    errno.ENFILE: f"end programs that have many files open and {_AGAIN}",
    errno.ENOMEM: f"free some memory and {_AGAIN}",
    errno.EIO: f"look after the disk; when it works, {_AGAIN}",
    errno.ESTALE: f"the network file system has lost it; when it is back, {_AGAIN}",
    errno.EEXIST: "something else has that name; move it away",
    errno.ENOTDIR: "a part of its path is a file; move that away",
    errno.EISDIR: "it is a folder; move it away, or give a file",
    errno.ENXIO: "it is a pipe, a socket or a device; move it away, or give a file",
    errno.EILSEQ: "no file can have such a name; correct it",
    errno.ENAMETOOLONG: "give a shorter one",
}


class UserError(Exception):
    """A user's mistake: one sentence that says what is wrong and what to do.

    Commands print it on stderr and exit with code 2. Nothing on disk has been damaged.
    """


class Refused(UserError):
    """The operating system did not let a file be read or written. What is in it may well be intact."""


class Busy(UserError):
    """Another process writes in the ``folder``."""

    def __init__(self, folder: Path):
        super().__init__(f"{folder} is being written by another process: wait for it, or stop it (saetui jobs).")
        self.folder = folder


class Unrecorded(UserError):
    """Nothing is recorded with which a file could be compared: it may be as it was written, or not."""

    def __init__(self, path: Path, again: str):
        super().__init__(
            f"{path} has no hash to compare it with (an older version wrote it, or it was taken out): {again}."
        )


class Notice(UserWarning):
    """What whoever asked for the work should hear, in one sentence, from where nothing is known of them."""


class Stopped(Exception):
    """Work has stopped on request, at a point from which the same command continues.

    ``kept``: what was finished by then, as in "step 12 is kept"; empty where nothing was.
    """

    def __init__(self, kept: str = ""):
        super().__init__(kept)
        self.kept = kept


@contextlib.contextmanager
def keeping(kept: str) -> Iterator[None]:
    """Whatever stops in here says that ``kept``, unless it knows better."""
    try:
        yield
    except Stopped as stopped:
        raise Stopped(stopped.kept or kept) from stopped


def counted(count: int, thing: str) -> str:
    """``1 latent``, ``1,234 latents``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def sentence_of(error: UserError | OSError) -> str:
    """The sentence that explains ``error`` to a user."""
    return str(error) if isinstance(error, UserError) else system_mistake(error) or str(error)


def refusal(error: BaseException, path: Path | None = None) -> Refused | None:
    """What to say where ``error`` is, or tells of, a refusal of the system to let ``path`` be used; None for others.

    Whoever reads a file asks this before it says that the file is damaged. Libraries pass some refusals on as errors of
    their own, which have the system's number in their text alone.
    """
    if isinstance(error, Refused):
        return error
    told = _TOLD.search(str(error))
    number = error.errno if isinstance(error, OSError) else None
    number = int(told[1]) if number is None and told else number
    if number is None:
        return None
    where = path or (_place(error) if isinstance(error, OSError) else None)
    sentence = system_mistake(OSError(number, os.strerror(number), str(where) if where else None))
    return Refused(sentence) if sentence else None


def passing(error: BaseException, path: str | Path) -> Refused | None:
    """What to say where ``path`` could not be read for a fault of the machine, not of the file; None for others."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():  # Pillow's decoders say it
        number = errno.ENOMEM
    return refusal(OSError(number, os.strerror(number), str(path))) if number in PASSING else None


_BRIEF = 160  # characters of what a library says that are quoted
_MEANS = (
    (re.compile("weights_only|allow_pickle"), "it holds Python objects, which may run code and are never read"),
    (re.compile("codec can't decode"), "it is no text in UTF-8"),
    (re.compile("set_int_max_str_digits"), "it holds a number of thousands of digits"),
    (
        re.compile(
            "NoneType|object (is not|does not|has no len)|not supported between|indices must be|unsupported operand|"
            "unhashable|not iterable|cannot unpack|values to unpack|must be (str|int|real number)"
        ),
        "a value in it is of another form than it should be",
    ),
)
"""What advice to programmers, and complaints about objects of Python, mean to who has only the file."""


def reason(error: BaseException) -> str:
    """What a library says is wrong, to quote inside a sentence: its first line, or what that means to a user."""
    said = str((isinstance(error, OSError) and error.strerror) or error).strip()
    if missing := re.search(r"(?:has no attribute|positional arguments?:) ('\w+')", said):
        return f"it has no {missing[1]}"
    if words := next((words for pattern, words in _MEANS if pattern.search(said)), ""):
        return words
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}" if error.args else "a value is missing in it"
    if isinstance(error, RecursionError):
        return "its values are nested too deeply"
    plain = _OBJECT.sub("data", (said.splitlines() or [""])[0]).rstrip(".:")
    return plain[:_BRIEF] or "it is damaged"


_OBJECT = re.compile(r"<[^<>]* at 0x[0-9a-fA-F]+>|<(class|function|module) [^<>]*>")


def system_mistake(error: OSError) -> str | None:
    """The sentence for what the system refused: what, why and the way out; None where it did not."""
    place = _place(error)
    if error.errno in DISK_FULL or "No space left" in str(error):  # HDF5 has it only in its message
        where = f" while writing {place}" if place else ""
        return f"The disk is full{where}: free some space and {_AGAIN}."
    if error.errno is None or error.errno in OURS:
        return None
    if error.errno in FORBIDDEN:
        return f"No permission for {place or 'a file'}: change it or choose another --workspace."
    why = os.strerror(error.errno)
    way = _WAYS.get(error.errno, f"mend that and {_AGAIN}")
    return f"The system does not let {place or 'a file'} be used ({why}): {way}."


def _place(error: OSError) -> str | None:
    """Where it happened: of a rename, what was to be replaced, not the temporary file."""
    return error.filename2 or error.filename
