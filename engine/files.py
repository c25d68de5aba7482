"""Files: TOML and JSON, atomic writes, content hashes and seals, versions, locks."""

import contextlib
import errno
import functools
import glob
import hashlib
import itertools
import json
import os
import re
import shutil
import time
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from engine.errors import Busy, UserError, reason, refusal
from engine.literal import escaped
from engine.locks import Lock, alive, take
from engine.numbers import size
from engine.records import parse_json
from engine.regular import open_regular

DOCUMENT = 64 << 20  # bytes of a JSON or TOML file, at most; those that a person or a program writes are far smaller


def path_of(given: str | Path) -> Path:
    """``given`` as a path, a home for its leading ``~``. What is nobody's home, as ``~$scan.png``, is a name."""
    return Path(os.path.expanduser(given))


def nearest(path: Path) -> Path:
    """``path``, or of the folders that it is to be in the innermost that is there."""
    return next(one for one in (path, *path.parents) if one.exists())


def no_room(wanted: int, free: int) -> str | None:
    """The warning that ``wanted`` bytes do not fit into the ``free`` ones; None when they do."""
    if wanted <= free:
        return None
    return f"This takes about {size(wanted)} and the disk has {size(free)} free."


def read_bytes(path: str | Path, most: int = DOCUMENT) -> bytes:
    """What the file holds. Raises OSError, and UserError for more than ``most`` bytes."""
    with open_regular(path) as file:
        length = os.fstat(file.fileno()).st_size
        if length > most:
            raise UserError(f"{path} has {length:,} bytes, more than the {most:,} that can be read: give another file.")
        return file.readall()


def read_text(path: str | Path, most: int = DOCUMENT, encoding: str = "utf-8") -> str:
    """The text in a file. Raises OSError, UnicodeDecodeError, and UserError for more than ``most`` bytes."""
    text = read_bytes(path, most).decode(encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")  # as Python reads text


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(read_text(path))
    except ValueError as error:
        way = "write decimals after a point, not a comma" if _has_decimal_comma(path) else "correct it and try again"
        raise UserError(f"{path} is not valid TOML ({reason(error)}): {way}.") from error
    except OSError as error:
        raise refusal(error, path) or error from error


def _has_decimal_comma(path: Path) -> bool:
    """Whether a line of the TOML in ``path``, which is wrong, gives a number like 0,002."""
    with contextlib.suppress(ValueError, OSError):
        return re.search(r"(?m)^[^#\"'\[\n]*=\s*[-+]?\d+,\d", read_text(path)) is not None
    return False


def parse_toml(text: str) -> dict[str, Any]:
    """The TOML in ``text``. ValueError for whatever is wrong with it."""
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error


def to_toml(document: Mapping[str, Any], over: str = "") -> str:
    """``document`` as TOML, merged into the TOML text ``over``, whose comments and layout are kept.

    Top-level keys that only ``over`` has stay; entries of its tables that ``document`` lacks are removed.
    """
    import tomlkit  # takes tens of milliseconds, and reading does not need it

    if not over:
        return tomlkit.dumps(document)
    whole = tomlkit.parse(over)
    for key, value in document.items():
        _merge(whole, key, value)
    return tomlkit.dumps(whole)


def _merge(whole: MutableMapping[str, Any], key: str, value: Any) -> None:
    earlier = whole.get(key)
    if isinstance(value, Mapping) and isinstance(earlier, MutableMapping):
        for removed in [name for name in earlier if name not in value]:
            del earlier[removed]
        for name, one in value.items():
            _merge(earlier, name, one)
    elif earlier != value:
        whole[key] = value


def read_json(path: Path, way: str = "remove it and make it again", most: int = DOCUMENT) -> Any:
    """The JSON in ``path``. Raises UserError when it is missing, damaged, larger than ``most`` bytes, or not as it was
    written (:func:`sealed`); ``way``: what to do then."""
    try:
        return unsealed(parse_json(read_text(path, most)), str(path), way)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the name, or make it first.") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({reason(error)}): {way}.") from error
    except OSError as error:
        raise refusal(error, path) or error from error


SEAL = "content_sha256"


def sealed(value: Any) -> Any:
    """A JSON object with the hash of all else that it says, by which a reader knows that no bit of it has changed.
    Other values as they are."""
    if not isinstance(value, dict):
        return value
    content = json.loads(json.dumps({key: one for key, one in value.items() if key != SEAL}))
    return content | {SEAL: value_sha256(content)}


def unsealed(value: Any, where: str, way: str) -> Any:
    """What was sealed; as it is where it has no seal, as in files of older versions. UserError when it has changed."""
    if not isinstance(value, dict):
        return value
    said = value.pop(SEAL, None)
    if said == value_sha256(value) or (said is None and not any(map(_nearly_seal, value))):
        return value
    raise UserError(
        f"{where} is damaged (a bit of it has changed since it was written): {way}, or take {SEAL} out of it if you "
        "changed it yourself."
    )


def _nearly_seal(key: str) -> bool:
    """Whether the bit that has changed is one of the seal's own name."""
    return len(key) == len(SEAL) and sum(one != other for one, other in zip(key, SEAL, strict=True)) == 1


@contextlib.contextmanager
def open_tensors(path: Path, framework: str, device: str = "cpu") -> Iterator[Any]:
    """A safetensors file, open for reading. Raises OSError for what the system refuses, SafetensorError for damage."""
    from safetensors import safe_open

    open_regular(path).close()  # whatever the system says, safetensors calls it "not found"
    with safe_open(path, framework=framework, device=device) as file:
        yield file


ABANDONED = 86_400.0  # seconds without a write after which a temporary file of an unknown process is nobody's
_TRIAL = 1 << 16  # bytes that show whether the disk, or what the user may take of it, is full
UNSYNCED = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM}
"""What file systems say that sync no folders, or may not."""
_PART = re.compile(r"\.([0-9a-f]{8})-(\d+)(\.\w+)?\.tmp")


@contextlib.contextmanager
def atomic_path(path: Path, durable: bool = True, private: bool = False) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; it becomes ``path`` when the block ends without error.

    ``durable``: also sync it and its folder to disk, so that a power cut leaves neither an empty file nor the one
    before. ``private``: for the user's eyes alone; else its permissions are what the umask says, whoever wrote it.
    """
    make_folder(path.parent, durable)
    sweep(path)
    temporary = temporary_path(path)
    temporary.unlink(missing_ok=True)  # it may be a link
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
        mode = temporary.stat().st_mode
        yield temporary
        if temporary.stat().st_mode != mode:  # safetensors puts a file of its own there
            temporary.chmod(mode)
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    if durable:
        sync_folder(path.parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write to; what is in it is in ``path``, which is new or empty, when the block ends without error.

    However it ends, nothing stands in the way of the next that writes there, but for an end between the files of a
    folder that is held, which must be moved there one by one.
    """
    path = Path(os.path.realpath(path))
    make_folder(path.parent)
    held = path.is_dir() and _is_held(path)
    target = path / path.name if held else path
    temporary = temporary_path(target)
    sweep(target)
    temporary.mkdir()
    try:
        yield temporary
        if held:
            for made in sorted(temporary.iterdir()):
                os.replace(made, path / made.name)
        else:
            if path.is_dir():
                shutil.copymode(path, temporary)
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(path.parent)


def _is_held(folder: Path) -> bool:
    """Whether another folder cannot take its place: someone stands in it, or the one above is not the user's."""
    return folder.samefile(".") or folder.is_mount() or not os.access(folder.parent, os.W_OK)


def is_vacant(path: Path) -> bool:
    """Whether there is nothing at ``path``, or a folder with nothing but what :func:`new_folder` left there."""
    if not path.is_dir():
        return not os.path.lexists(path)
    whole = Path(os.path.realpath(path))
    sweep(whole / whole.name)
    return not any(path.iterdir())


def temporary_path(path: Path, part: str = "") -> Path:
    """Where this process writes what will be ``path``, or a part of it: the name tells who writes there."""
    return path.with_name(f".{path.name}.{_here()}-{os.getpid()}{part and '.'}{part}.tmp")


def check_target(path: Path) -> None:
    """OSError where no file could be written to ``path``, for who would otherwise find that after hours of work."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    home = next(folder for folder in path.absolute().parents if folder.exists())
    trial = home / temporary_path(path, "trial").name
    try:
        with open(trial, "xb") as file:
            file.write(bytes(_TRIAL))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            trial.unlink()


def sweep(path: Path) -> None:
    """Remove what processes that are gone were writing for ``path``."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            if _abandoned(left):
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def sweep_folder(folder: Path) -> None:
    """Remove what any process was writing in ``folder``, on which the caller has the lock."""
    for left in (*folder.glob(".*.tmp"), *folder.glob(".tmp??????")):  # the latter are made by safetensors
        if _lives(left) is not True:
            left.unlink(missing_ok=True)


def _abandoned(temporary: Path) -> bool:
    """Whether nobody writes there any more, as far as can be told without a lock."""
    lives = _lives(temporary)
    return time.time() - temporary.stat().st_mtime > ABANDONED if lives is None else not lives


def _lives(temporary: Path) -> bool | None:
    """Whether the process lives that writes there; None where that cannot be known, as of another host's."""
    told = _PART.search(temporary.name)
    return alive(int(told[2])) if told and told[1] == _here() else None


@functools.cache
def _here() -> str:
    """Stands for all processes that see each other's numbers: those of one boot of one host, or of one container."""
    told = [os.uname().nodename]
    with contextlib.suppress(OSError):
        told += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return value_sha256(told)[:8]


def make_folder(folder: Path, durable: bool = True) -> None:
    """Make ``folder`` and those above it where they are missing; ``durable``: as for atomic_path."""
    missing = list(itertools.takewhile(lambda one: not one.exists(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing if durable else ():
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in ``folder`` to disk, where its file system can: a file is not there without its name."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in UNSYNCED:
            error.filename = str(folder)
            raise


def write_text(path: Path, text: str, durable: bool = True, private: bool = False) -> None:
    """Replace ``path`` by ``text`` in one step: a reader sees the old text or the new, never a part."""
    with atomic_path(path, durable, private) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, durable: bool = True, private: bool = False, seal: bool = True) -> None:
    """Replace ``path`` by ``value`` in one step, with a ``seal`` that :func:`read_json` checks and takes off."""
    text = json.dumps(sealed(value) if seal else value, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, utf8(text).decode() + "\n", durable, private)


def open_private(path: Path | str, flags: int) -> int:
    """The opener of files that are for the user's eyes alone, those that were written before included."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o600)  # of a pipe nobody waits for the other end
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, 0o600)
    return descriptor


def utf8(text: str) -> bytes:
    r"""JSON text as UTF-8. What would act on a terminal, and a byte of a file name that is not UTF-8 (in Python a lone
    surrogate), becomes a \u escape, which JSON reads back unchanged."""
    return escaped(text).encode()


def xdg(variable: str, default: str) -> Path:
    """A user's own folder: what the environment ``variable`` says, else ``default`` in the home directory."""
    given = os.environ.get(variable, "")
    return Path(given) if os.path.isabs(given) else Path.home() / default


Stamp = tuple[int, int, int, int]


def stamp(path: Path) -> Stamp | None:
    """What tells versions of a file apart. None without a file."""
    try:
        return stamp_of(path.stat())
    except OSError:
        return None


def stamp_of(status: os.stat_result) -> Stamp:
    """Modification, size, inode and change: the last time cannot be set, as ``cp -p`` and ``tar`` set the first."""
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns


def file_sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def value_sha256(value: Any) -> str:
    """Hash of a JSON value in its canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check_version(found: Any, newest: int, path: Path) -> None:
    """Raise UserError for a file whose format is newer than ``newest``."""
    if not isinstance(found, int):
        raise UserError(f"{path} has no format version: it is damaged or not one of saetui's files.")
    if found > newest:
        raise UserError(f"{path} has format version {found}, this saetui reads up to {newest}: upgrade saetui.")


LOCK = ".lock"


@contextlib.contextmanager
def lock(folder: Path, patience: float = 15.0) -> Iterator[None]:
    """Lock ``folder`` for writing. Raises Busy after waiting ``patience`` seconds for another writer to end."""
    deadline = time.monotonic() + patience
    while (taken := _take(folder)) is None:
        if time.monotonic() > deadline:
            raise Busy(folder)
        time.sleep(0.05)
    try:
        yield
    finally:
        taken.close()


def _take(folder: Path) -> Lock | None:
    """None, too, where whoever had the lock has just removed the ``folder``, as nothing came of it."""
    try:
        make_folder(folder)
        return take(folder / LOCK)
    except FileNotFoundError:
        return None
    except FileExistsError:  # between two looks of mkdir
        if os.path.lexists(folder) and not folder.is_dir():
            raise
        return None
