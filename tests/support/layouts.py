"""One set of pictures in each way in which images are kept: a tree, lists, shards and archives."""

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image

Pictures = Mapping[str, bytes]
"""By path in the tree, sorted as a tree is; the folders are the class."""


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), (value, 255 - value, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def tree(root: Path, pictures: Pictures) -> Path:
    for path, data in pictures.items():
        (root / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "tree" / path).write_bytes(data)
    return root / "tree"


def _flat(root: Path, pictures: Pictures) -> list[tuple[str, str]]:
    """All pictures in one folder, and their names and classes."""
    (root / "flat").mkdir(parents=True)
    named = [(f"flat/{i:05d}.png", path.rpartition("/")[0]) for i, path in enumerate(pictures)]
    for (name, _), data in zip(named, pictures.values(), strict=True):
        (root / name).write_bytes(data)
    return named


def text(root: Path, pictures: Pictures, between: str) -> Path:
    lines = [f"{name}{between}{label}" for name, label in _flat(root, pictures)]
    (root / "list.txt").write_text("\n".join(lines))
    return root / "list.txt"


def table(root: Path, pictures: Pictures) -> Path:
    rows = [(label, name) for name, label in _flat(root, pictures)]
    with open(root / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows([("class", "path"), *rows])
    return root / "list.csv"


def levels(root: Path, pictures: Pictures) -> Path:
    rows = [{"file_name": name, **_levels(label)} for name, label in _flat(root, pictures)]
    (root / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root / "list.jsonl"


def hugging_face(root: Path, pictures: Pictures) -> Path:
    rows = [{"file_name": name, "label": label} for name, label in _flat(root, pictures)]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


def with_metadata(root: Path, pictures: Pictures, keep: Callable[[Path, Pictures], Path]) -> Path:
    """A Hugging Face image folder below the top of an archive."""
    named = {f"train/{i:05d}.png": (path, data) for i, (path, data) in enumerate(pictures.items())}
    rows = [["file_name", "label"], *([name[6:], path.rpartition("/")[0]] for name, (path, _) in named.items())]
    table = io.StringIO()
    csv.writer(table).writerows(rows)
    return keep(root, {"train/metadata.csv": table.getvalue().encode()} | {n: data for n, (_, data) in named.items()})


def array(root: Path, pictures: Pictures) -> Path:
    """As Hugging Face writes images, in one JSON array, the class as a list."""
    flat = _flat(root, pictures)
    rows = [{"image": {"path": name, "bytes": None}, "label": label.split("/")} for name, label in flat]
    (root / "list.json").write_text(json.dumps(rows))
    return root / "list.json"


def quoted(root: Path, pictures: Pictures) -> Path:
    (root / "list.txt").write_text("\n".join(f'"{name}" "{label}"' for name, label in _flat(root, pictures)))
    return root / "list.txt"


def linked(root: Path, pictures: Pictures) -> Path:
    """Shards in a folder, and in another that it links to."""
    half = len(pictures) // 2
    _tar(root / "a", dict(list(pictures.items())[:half]), "0.TAR")
    _tar(root / "elsewhere", dict(list(pictures.items())[half:]), "1.tar")
    (root / "a/more").symlink_to(root / "elsewhere")
    return root / "a"


def _levels(label: str) -> dict[str, str]:
    return dict(zip(("category", "subcategory"), label.split("/"), strict=True))


def folders_in_a_tar(root: Path, pictures: Pictures) -> Path:
    return _tar(root, {f"./{path}": data for path, data in pictures.items()})


def samples(root: Path, pictures: Pictures, suffix: str, write: Callable[[str], str]) -> Path:
    """A WebDataset in two shards."""
    root.mkdir(parents=True, exist_ok=True)
    half = len(pictures) // 2
    for number, part in enumerate((list(pictures.items())[:half], list(pictures.items())[half:])):
        members: dict[str, bytes] = {}
        for i, (path, data) in enumerate(part):
            members |= {f"{i:05d}.png": data, f"{i:05d}{suffix}": write(path.rpartition("/")[0]).encode()}
        _tar(root, members, f"{number:03d}.tar")
    return root / "{000..001}.tar"


def _tar(root: Path, members: Pictures, name: str = "shard.tar") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / name, "w") as file:
        for path, data in members.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return root / name


def archive(root: Path, pictures: Pictures) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root / "all.zip", "w") as file:
        for path, data in pictures.items():
            file.writestr(path, data)
    return root / "all.zip"


LAYOUTS: dict[str, Callable[[Path, Pictures], Path]] = {
    "list, tab": lambda root, pictures: text(root, pictures, "\t"),
    "list, comma": lambda root, pictures: text(root, pictures, ","),
    "list, space": lambda root, pictures: text(root, pictures, " "),
    "csv": table,
    "jsonl": levels,
    "hugging face": hugging_face,
    "tar of folders": folders_in_a_tar,
    "shards, cls": lambda root, pictures: samples(root, pictures, ".cls", str),
    "shards, txt": lambda root, pictures: samples(root, pictures, ".txt", str),
    "shards, json": lambda root, pictures: samples(root, pictures, ".json", lambda label: json.dumps(_levels(label))),
    "zip": archive,
    "shards behind a link": linked,
    "zip, hugging face": lambda root, pictures: with_metadata(root, pictures, archive),
    "tar, hugging face": lambda root, pictures: with_metadata(root, pictures, _tar),
    "json": array,
    "list, quoted": quoted,
}
