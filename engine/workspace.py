"""The directory a user works in: names, paths, atomic writes, content hashes, provenance, locks."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.errors import UserError

MARKER = "workspace.toml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@=:-]*")


def check_name(name: str, what: str) -> str:
    """``name`` if it can be a file name that a shell and a table show unharmed, else a UserError."""
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} cannot name {what}: use letters, digits and . _ + @ = : -")
    return name


def slug(text: str) -> str:
    """``text`` as a name: every run of other characters becomes one hyphen."""
    return re.sub(r"[^A-Za-z0-9._+@=]+", "-", text).strip("-.") or "unnamed"


@dataclass(frozen=True)
class Workspace:
    """A directory with the artefacts of one study. Nothing is created before something is written."""

    root: Path

    @classmethod
    def find(cls, given: str | Path | None = None) -> "Workspace":
        """``given``, else the nearest directory upwards with a workspace.toml, else the current one."""
        if given is not None:
            root = Path(given).expanduser().resolve()
            if root.exists() and not root.is_dir():
                raise UserError(f"The workspace {root} is not a directory: give a directory to --workspace.")
            return cls(root)
        here = Path.cwd()
        for directory in (here, *here.parents):
            if (directory / MARKER).is_file():
                return cls(directory)
        return cls(here)

    def defaults(self) -> dict[str, Any]:
        """What workspace.toml says (device, dtype, model, images, seed, ...); empty without the file."""
        path = self.root / MARKER
        if not path.is_file():
            return {}
        return read_toml(path)

    def activations(self, name: str) -> Path:
        return self.root / "activations" / check_name(name, "activations")

    def embeddings(self, name: str) -> Path:
        return self.root / "embeddings" / check_name(name, "embeddings")

    def sae(self, name: str) -> Path:
        return self.root / "saes" / check_name(name, "an SAE")

    def neurons(self, sae: str, images: str) -> Path:
        return self.root / "neurons" / f"{check_name(sae, 'an SAE')}--{check_name(images, 'images')}.h5"

    def labels(self, sae: str) -> Path:
        return self.root / "labels" / f"{check_name(sae, 'an SAE')}.toml"

    def recipe(self, name: str) -> Path:
        return self.root / "recipes" / f"{check_name(name, 'a recipe')}.toml"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def existing(self, kind: str, given: str) -> Path:
        """The artefact that the user means by ``given``: a name in this workspace, or a path to one.

        ``kind`` is ``activations``, ``embeddings`` or ``saes``.
        """
        as_path = Path(given).expanduser()
        if (os.sep in given or given.startswith(".")) and as_path.exists():
            return as_path.resolve()
        folder = self.root / kind
        if (folder / given).exists():
            return folder / given
        known = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
        has = f"it has {', '.join(known[:8])}" + (" ..." if len(known) > 8 else "") if known else "it has none yet"
        raise UserError(f"No {kind} named {given!r} in {self.root}: {has}; give one of these or a path.")


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


def provenance(made_from: Sequence[dict[str, str]] = (), **more: Any) -> dict[str, Any]:
    """What every artefact tells of its origin.

    ``made_from`` names its sources: dicts with ``kind``, ``name``, ``path`` and ``sha256``. There is no time in it,
    so that an interrupted and continued piece of work ends with the same bytes.
    """
    versions = {"python": sys.version.split()[0]}
    for package in ("saetui", "torch", "transformers", "open_clip_torch", "numpy", "h5py"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {"made_from": list(made_from), "versions": versions, **more}


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
