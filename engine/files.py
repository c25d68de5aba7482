"""Files: TOML and JSON, atomic writes, content hashes and seals, versions, locks."""

import contextlib
import errno
import hashlib
import io
import json
import os
import stat
import time
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from engine.errors import UserError, refusal
from engine.literal import escaped
from engine.locks import take
from engine.records import parse_json

DOCUMENT = 64 << 20  # bytes of a JSON or TOML file, at most; those that a person or a program writes are far smaller
_KINDS = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISCHR, "device"), (stat.S_ISBLK, "device"))


def path_of(given: str | Path) -> Path:
    """``given`` as a path, a home for its leading ``~``. What is nobody's home, as ``~$scan.png``, is a name."""
    return Path(os.path.expanduser(given))


def open_regular(path: str | Path) -> io.FileIO:
    """The file for reading, unbuffered. Raises OSError, with a reason in words for what is no file.

    Of pipes, sockets and devices nothing is opened: that may wait for ever, or do something.
    """
    try:
        _check_regular(os.stat(path), path)
    except ValueError as error:  # a zero byte, or half of a character
        raise OSError(errno.EILSEQ, "no file can have such a name", str(path)) from error
    file = open(path, "rb", buffering=0, opener=_without_waiting)  # noqa: SIM115 - closed by whoever asked
    try:
        _check_regular(os.fstat(file.fileno()), path)
    except OSError:
        file.close()
        raise
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _check_regular(found: os.stat_result, path: str | Path) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "special file")
        raise OSError(errno.ENXIO, f"it is a {kind}, not a file", str(path))


def read_bytes(path: str | Path, most: int = DOCUMENT) -> bytes:
    """What the file holds. Raises OSError, and UserError for more than ``most`` bytes."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise UserError(f"{path} has {size:,} bytes, more than the {most:,} that can be read: give another file.")
        return file.readall()


def read_text(path: str | Path, most: int = DOCUMENT, encoding: str = "utf-8") -> str:
    """The text in a file. Raises OSError, UnicodeDecodeError, and UserError for more than ``most`` bytes."""
    text = read_bytes(path, most).decode(encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")  # as Python reads text


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(read_text(path))
    except ValueError as error:
        raise UserError(f"{path} is not valid TOML ({error}): correct it and try again.") from error
    except OSError as error:
        raise refusal(error, path) or error from error


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
        raise UserError(f"{path} is damaged ({error}): {way}.") from error
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


@contextlib.contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; it becomes ``path`` when the block ends without error.

    ``durable``: also sync it to disk, so that a power cut cannot leave an empty file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # it may be a link
    try:
        yield temporary
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Replace ``path`` by ``text`` in one step: a reader sees the old text or the new, never a part."""
    with atomic_path(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, durable: bool = True, seal: bool = True) -> None:
    """Replace ``path`` by ``value`` in one step, with a ``seal`` that :func:`read_json` checks and takes off."""
    text = json.dumps(sealed(value) if seal else value, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, utf8(text).decode() + "\n", durable)


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
    """Lock ``folder`` for writing. Raises UserError after waiting ``patience`` seconds for another writer to end."""
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    while (taken := take(folder / LOCK)) is None:
        if time.monotonic() > deadline:
            raise UserError(f"{folder} is being written by another process: wait for it, or stop it (saetui jobs).")
        time.sleep(0.05)
    try:
        yield
    finally:
        taken.close()
