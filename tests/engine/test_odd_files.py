"""What is no file, or none that can be read, is said in a sentence: nothing waits, and nothing is taken for damage."""

import errno
import io
import os
import socket
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from engine.config import ExtractSettings
from engine.errors import Refused, UserError, refusal
from engine.files import path_of, read_bytes, read_json, read_text, read_toml
from engine.images import BrokenImage, decode, open_images
from engine.images import sources as image_sources
from engine.models.patience import within
from engine.regular import open_regular
from engine.runs.plan import read_plan
from engine.settings import from_mapping
from engine.workspace import Workspace
from tests.support.failing_disk import Disk, failing
from tests.support.layouts import png


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "a.png")
    return tmp_path / "a.png"


def _socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


def test_pipes_sockets_devices_and_folders_are_never_opened(
    pipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    for path, said in ((pipe, "pipe"), (_socket(Path("s")), "socket"), (Path("/dev/zero"), "device")):
        with pytest.raises(OSError, match=said) as refused:
            open_regular(path)
        assert "give a file" in str(refusal(refused.value, path))
        with pytest.raises(UserError, match="give a file"):
            read_json(path)
        with pytest.raises(UserError, match="give a file"):
            read_toml(path)
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


@pytest.mark.parametrize("name", ["a\0b", "half \ud800"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(OSError) as refused:
        open_regular(name)
    assert refused.value.errno == errno.EILSEQ
    with pytest.raises(UserError, match="zero byte") if "\0" in name else pytest.raises(UserError, match="lacks"):
        from_mapping(ExtractSettings, {"model": name}, "the plan")


def test_a_tilde_that_is_nobodys_home_is_a_name() -> None:
    assert path_of("~$scan.png") == Path("~$scan.png")
    assert path_of("~nosuchuser/x") == Path("~nosuchuser/x")
    assert path_of("~/x") == Path.home() / "x"


def test_a_pipe_among_images_is_one_that_cannot_be_read(pipe: Path) -> None:
    (pipe.parent / "b.png").write_bytes(png(1))
    images = open_images(pipe.parent)
    with pytest.raises(BrokenImage, match="it is a pipe, not a file"):
        images.load(0)
    assert images.load(1).size == (9, 9)


def test_odd_names_in_a_list_are_images_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(png(1))
    (tmp_path / "list.txt").write_text("~$scan.png\n~nosuchuser/x.png\nb.png\n")
    (tmp_path / "list.jsonl").write_text('{"path": "a\\u0000.png"}\n{"path": "\\ud800.png"}\n{"path": "b.png"}\n')
    for name in ("list.txt", "list.jsonl"):
        images = open_images(tmp_path / name)
        assert images.load(2).size == (9, 9)
        for index in (0, 1):
            with pytest.raises(BrokenImage):
                images.load(index)


def test_a_file_of_holes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    for name in ("a.png", "list.txt", "list.csv", "workspace.toml", "config.json"):
        with open(tmp_path / name, "wb") as file:
            file.truncate(20 << 30)
    with pytest.raises(BrokenImage, match="more than the"):
        open_images(tmp_path / "a.png").load(0)
    for name in ("list.txt", "list.csv"):
        with pytest.raises(UserError, match="more than the"):
            open_images(tmp_path / name)
    with pytest.raises(UserError, match="more than the"):
        read_toml(tmp_path / "workspace.toml")
    with pytest.raises(UserError, match="more than the"):
        read_json(tmp_path / "config.json")
    with pytest.raises(UserError, match="more than the 10 that"):
        read_bytes(Path(__file__), 10)


def test_a_list_may_have_long_fields(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(png(1))
    (tmp_path / "l.csv").write_text(f'path,caption,class\nb.png,"{"x" * 300_000}",cat\n')
    (tmp_path / "l.txt").write_text(f'"b.png",{"x" * 300_000}\nb.png {"a, " * 100_000}\n')
    assert open_images(tmp_path / "l.csv").entries[0].label == "cat"
    assert [one.path for one in open_images(tmp_path / "l.txt").entries] == ["b.png"] * 2


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '{"a":' * 100_000, "\x00", "nan nan"])
def test_json_and_toml_that_end_python_s_own_readers(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "a.toml").write_text(f"a = {text}")
    with pytest.raises(UserError, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="not valid TOML"):
        read_toml(tmp_path / "a.toml")
    (tmp_path / "x.tar").write_bytes(_tar({"1.png": png(1), "1.json": text.encode()}))
    assert open_images(tmp_path / "x.tar").left_out.get("damaged .json") == 1


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_a_sparse_tar_whose_map_does_not_end(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("GNUSparseFile.0/a.png")
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
        info.size = 512
        tar.addfile(info, io.BytesIO(b"99999999\n0\n".ljust(512, b"1")))
    (tmp_path / "x.tar").write_bytes(out.getvalue()[:2048])
    with pytest.raises(UserError, match="not an intact uncompressed"):
        open_images(tmp_path / "x.tar")


def test_of_a_zip_no_more_is_unpacked_than_it_says(tmp_path: Path) -> None:
    import resource

    for how in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = tmp_path / f"{how}.zip"
        with zipfile.ZipFile(path, "w", how) as archive, archive.open("a.png", "w", force_zip64=True) as file:
            for _ in range(400):
                file.write(bytes(1 << 20))
        whole = bytearray(path.read_bytes())
        at = whole.rindex(b"PK\1\2")
        whole[at + 24 : at + 28] = (9).to_bytes(4, "little")  # its size, as the directory says
        path.write_bytes(whole)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(BrokenImage):
            open_images(path).load(0)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ENODEV])
def test_a_fault_of_the_machine_breaks_no_image(number: int, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "b.png").write_bytes(png(1))
    images = open_images(tmp_path)
    for what in ("open", "read"):
        with failing(Disk(tmp_path, what, 1, number)), pytest.raises(Refused, match=r"b\.png"):
            images.load(0)

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", full)
    with pytest.raises(Refused, match="free some memory"):
        decode(png(1), "b.png")
    assert image_sources.BrokenImage is BrokenImage


@pytest.mark.parametrize("name", ["{arch.x}", "{arch[0].y}", "{arch[x]}", "{", "{}", "{0}"])
def test_odd_names_in_a_plan(name: str, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(f'[[train]]\nactivations = "a"\narch = ["topk"]\nname = "{name}"\n')
    with pytest.raises(UserError, match="the name"):
        read_plan(tmp_path / "p.toml", Workspace(tmp_path))


def test_work_that_does_not_end_is_ended() -> None:
    turns = 0

    def endless() -> None:
        nonlocal turns
        while True:
            turns += 1

    with pytest.raises(TimeoutError):
        within(0.05, endless)
    seen = -1
    while seen != turns:  # it stops
        seen = turns
        within(1.0, lambda: sum(range(200_000)))
    assert within(1.0, lambda: 5) == 5
    with pytest.raises(KeyError):
        within(1.0, lambda: {}["x"])


def test_text_is_read_as_python_reads_it(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes("a\r\nb\rc\nü".encode())
    assert read_text(tmp_path / "t") == (tmp_path / "t").read_text(encoding="utf-8")
