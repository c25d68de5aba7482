"""Files: TOML and JSON, atomic writes, content hashes and seals, versions, locks."""

import contextlib
import hashlib
import json
import os
import time
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from engine.errors import UserError, refusal
from engine.literal import escaped
from engine.locks import take


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


def read_json(path: Path, way: str = "remove it and make it again") -> Any:
    """The JSON in ``path``. Raises UserError when it is missing, damaged, or not as it was written (:func:`sealed`);
    ``way``: what to do then."""
    try:
        return unsealed(json.loads(path.read_text(encoding="utf-8")), str(path), way)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the name, or make it first.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
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

    with open(path, "rb"):  # whatever the system says, safetensors calls it "not found"
        pass
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
