"""Files: TOML and JSON, atomic writes, content hashes, versions, locks."""

import contextlib
import fcntl
import hashlib
import json
import os
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.errors import UserError


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML ({error}): correct it and try again.") from error
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error


def to_toml(document: Mapping[str, Any]) -> str:
    """Scalars, lists of scalars, tables of these and lists of such tables, as TOML."""
    plain = {key: value for key, value in document.items() if not _is_table(value)}
    parts = [_toml_lines(plain)]
    for key, value in document.items():
        if isinstance(value, Mapping):
            parts.append(f"[{_toml_key(key)}]\n{_toml_lines(value)}")
        elif _is_table(value):
            parts += [f"[[{_toml_key(key)}]]\n{_toml_lines(table)}" for table in value]
    return "\n".join(part for part in parts if part)


def read_json(path: Path) -> Any:
    """The JSON in ``path``; a UserError that names it when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the name, or make it first.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}): remove it and make it again.") from error
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error


@contextlib.contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; it becomes ``path`` when the block ends without error.

    ``durable``: also wait until the disk has it, so that a power cut cannot leave an empty file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
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
    """Replace ``path`` by ``text`` in one step: a reader sees the old or the new, never a part."""
    with atomic_path(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, utf8(text).decode() + "\n", durable)


def utf8(text: str) -> bytes:
    r"""JSON text as UTF-8. A byte of a file name that is none (Python's lone surrogate) becomes its \u escape, which
    JSON reads back as it was."""
    return text.encode("utf-8", "backslashreplace")


Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp | None:
    """What differs between two versions of a file: time of change, bytes, inode. None without a file."""
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
    """Refuse a file of a format that this program does not know yet."""
    if not isinstance(found, int):
        raise UserError(f"{path} has no format version: it is damaged or not one of saetui's files.")
    if found > newest:
        raise UserError(f"{path} has format version {found}, this saetui reads up to {newest}: upgrade saetui.")


@contextlib.contextmanager
def lock(folder: Path, patience: float = 15.0) -> Iterator[None]:
    """Hold ``folder`` for writing. Waits ``patience`` seconds for a writer that is just dying, then gives up."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"{folder} is being written by another process: wait for it, or stop it (saetui jobs)."
                    ) from None
                time.sleep(0.05)
        yield


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and bool(value) and isinstance(value[0], Mapping))


def _toml_lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{_toml_key(key)} = {_toml_value(value)}\n" for key, value in table.items())


def _toml_key(key: str) -> str:
    bare = key and all(c.isascii() and (c.isalnum() or c in "_-") for c in key)
    return key if bare else _toml_value(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        # TOML strings escape as JSON's do, and DEL too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(_toml_value(item) for item in value)}]"
