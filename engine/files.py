"""Files: TOML and JSON, atomic writes, content hashes, versions, locks."""

import contextlib
import errno
import functools
import glob
import hashlib
import itertools
import json
import os
import re
import time
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from engine.errors import UserError, refusal
from engine.locks import Lock, alive, take


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML ({error}): correct it and try again.") from error
    except OSError as error:
        raise refusal(error, path) or error from error


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


def read_json(path: Path) -> Any:
    """The JSON in ``path``. Raises UserError when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the name, or make it first.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}): remove it and make it again.") from error
    except OSError as error:
        raise refusal(error, path) or error from error


@contextlib.contextmanager
def open_tensors(path: Path, framework: str, device: str = "cpu") -> Iterator[Any]:
    """A safetensors file, open for reading. Raises OSError for what the system refuses, SafetensorError for damage."""
    from safetensors import safe_open

    with open(path, "rb"):  # whatever the system says, safetensors calls it "not found"
        pass
    with safe_open(path, framework=framework, device=device) as file:
        yield file


ABANDONED = 86_400.0  # seconds without a write after which a temporary file of an unknown process is nobody's
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
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o666))
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


def temporary_path(path: Path, part: str = "") -> Path:
    """Where this process writes what will be ``path``, or a part of it: the name tells who writes there."""
    return path.with_name(f".{path.name}.{_here()}-{os.getpid()}{part and '.'}{part}.tmp")


def sweep(path: Path) -> None:
    """Remove what processes that are gone were writing for ``path``."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            if _abandoned(left):
                left.unlink()


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


def write_json(path: Path, value: Any, durable: bool = True, private: bool = False) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, utf8(text).decode() + "\n", durable, private)


def open_private(path: Path | str, flags: int) -> int:
    """The opener of files that are for the user's eyes alone, those that were written before included."""
    descriptor = os.open(path, flags, 0o600)
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, 0o600)
    return descriptor


def utf8(text: str) -> bytes:
    r"""JSON text as UTF-8. A byte of a file name that is not UTF-8 (a lone surrogate in Python) becomes a \u escape,
    which JSON reads back unchanged."""
    return text.encode("utf-8", "backslashreplace")


def xdg(variable: str, default: str) -> Path:
    """A user's own folder: what the environment ``variable`` says, else ``default`` in the home directory."""
    given = os.environ.get(variable, "")
    return Path(given) if os.path.isabs(given) else Path.home() / default


Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp | None:
    """What tells versions of a file apart: modification time, size, inode. None without a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
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
    """Lock ``folder`` for writing. Raises UserError after waiting ``patience`` seconds for another writer to end."""
    deadline = time.monotonic() + patience
    while (taken := _take(folder)) is None:
        if time.monotonic() > deadline:
            raise UserError(f"{folder} is being written by another process: wait for it, or stop it (saetui jobs).")
        time.sleep(0.05)
    try:
        yield
    finally:
        taken.close()


def _take(folder: Path) -> Lock | None:
    """None, too, where whoever had the lock has just removed the ``folder``, as nothing came of it."""
    make_folder(folder)
    try:
        return take(folder / LOCK)
    except FileNotFoundError:
        return None
