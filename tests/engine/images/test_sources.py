"""Directory trees, lists, tar shards and zip archives are the same images in the same order."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image, features

from engine.errors import UserError
from engine.images import BrokenImage, open_image, open_images
from engine.images.classes import taxonomy_of


def picture(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 3), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name, value in {"b/2.png": 2, "a/1.PNG": 1, "a/10.jpg": 10, "top.png": 9}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(value))
    (root / "a" / "readme.txt").write_text("no image")
    (root / "a" / ".hidden.png").write_bytes(picture(0))
    (root / ".cache").mkdir()
    (root / ".cache" / "x.png").write_bytes(picture(0))
    return root


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_a_tree_is_sorted_and_folders_are_classes(tree: Path) -> None:
    images = open_images(tree)
    assert [(e.path, e.label) for e in images.entries] == [
        ("a/1.PNG", "a"),
        ("a/10.jpg", "a"),
        ("b/2.png", "b"),
        ("top.png", None),
    ]
    assert images.entries[0].size == (tree / "a/1.PNG").stat().st_size
    assert images.load(2).getpixel((0, 0)) == (2, 0, 0)
    assert open_images(tree, limit=2).entries == images.entries[:2]


def test_identity_is_paths_and_sizes(tree: Path) -> None:
    before = open_images(tree).sha256
    assert open_images(tree).sha256 == before
    (tree / "b/2.png").write_bytes(picture(2) + b" ")
    assert open_images(tree).sha256 != before


def test_taxonomy_from_inaturalist_names_and_nested_folders() -> None:
    name = "00012_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris"
    levels = ("Animalia", "Annelida", "Clitellata", "Haplotaxida", "Lumbricidae", "Lumbricus", "terrestris")
    assert taxonomy_of((name,)) == levels
    assert taxonomy_of(("train", name)) == levels
    assert taxonomy_of(("animal", "bird", "striped_bird")) == ("animal", "bird", "striped_bird")
    assert taxonomy_of(("cat",)) == () and taxonomy_of(()) == () and taxonomy_of(("01_cat",)) == ()


def test_links_are_followed_once(tree: Path) -> None:
    (tree / "c").symlink_to(tree / "b")
    (tree / "b" / "loop").symlink_to(tree)
    assert [e.path for e in open_images(tree).entries if "loop" not in e.path][-2:] == ["c/2.png", "top.png"]


def test_a_link_to_itself_is_a_broken_image_or_nothing(tree: Path) -> None:
    before = [e.path for e in open_images(tree).entries]
    for name, to in (("me", "me"), ("one", "other"), ("other", "one"), ("here", "."), ("z.png", "z.png")):
        (tree / name).symlink_to(to)
    (tree / "b" / "up").symlink_to(tree / "a")
    (tree / "a" / "down").symlink_to(tree / "b")
    images = open_images(tree)
    listed = [e.path for e in images.entries]
    assert [path for path in listed if "/up/" not in path and "/down/" not in path] == [*before, "z.png"]
    with pytest.raises(BrokenImage, match="Too many levels of symbolic links"):
        images.load(listed.index("z.png"))


@pytest.mark.parametrize("separator", ["\t", ","])
def test_a_text_list(tree: Path, separator: str) -> None:
    file = tree / "list.txt"
    file.write_text(f"b/2.png{separator}bee\n\na/1.PNG\n{tree / 'top.png'}{separator}top class\n")
    images = open_images(file)
    assert [e.label for e in images.entries] == ["bee", None, "top class"]
    assert [images.load(i).getpixel((0, 0))[0] for i in range(3)] == [2, 1, 9]


def test_a_comma_may_be_part_of_a_listed_name(tree: Path) -> None:
    (tree / "x,y.png").write_bytes(picture(5))
    (tree / "list.txt").write_text("x,y.png\n")
    assert open_images(tree / "list.txt").load(0).getpixel((0, 0)) == (5, 0, 0)


def test_a_csv_list(tree: Path) -> None:
    file = tree / "list.csv"
    file.write_text('class,path\nbee,b/2.png\n"a, b","a/1.PNG"\n')
    assert [(e.path, e.label) for e in open_images(file).entries] == [("b/2.png", "bee"), ("a/1.PNG", "a, b")]
    file.write_text("name,kind\nb/2.png,bee\n")
    with pytest.raises(UserError, match="no column named path"):
        open_images(file)


def test_listed_files_that_are_missing_are_broken_and_named(tree: Path) -> None:
    (tree / "list.txt").write_text("b/2.png\nnowhere.png\n")
    images = open_images(tree / "list.txt")
    assert len(images) == 2
    with pytest.raises(BrokenImage, match=r"nowhere.png: No such file"):
        images.load(1)


def test_tar_shards_with_folders_and_webdataset_keys(tmp_path: Path) -> None:
    tar(tmp_path / "s-1.tar", {"cat/x.png": picture(7), "./dog/y.png": picture(8), "cat/notes.txt": b"text"})
    tar(tmp_path / "s-0.tar", {"001.png": picture(1), "001.cls": b"3\n", "001.json": b"{}", "002.png": picture(2)})
    expected = [("s-0.tar/001.png", "3"), ("s-0.tar/002.png", None), ("s-1.tar/cat/x.png", "cat")]
    for spec in (tmp_path, str(tmp_path / "s-*.tar")):
        images = open_images(spec)
        assert [(e.path, e.label) for e in images.entries] == [*expected, ("s-1.tar/dog/y.png", "dog")]
        assert [images.load(i).getpixel((0, 0))[0] for i in range(4)] == [1, 2, 7, 8]
    assert len(open_images(tmp_path / "s-1.tar")) == 2


def test_damaged_and_compressed_tars_are_named(tmp_path: Path) -> None:
    whole = tar(tmp_path / "whole.tar", {"a/x.png": picture(1), "a/y.png": picture(2)}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:700])
    (tmp_path / "junk.tar").write_bytes(b"junk" * 300)
    with tarfile.open(tmp_path / "small.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "whole.tar", "whole.tar")
    for name in ("cut.tar", "junk.tar", "small.tar.gz"):
        with pytest.raises(UserError, match=name):
            open_images(tmp_path / name)


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return path


def patch(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data and len(old) == len(new)
    path.write_bytes(data.replace(old, new))


def flag(path: Path, bit: int) -> None:
    """Set a flag of every member, as its archiver would."""
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + place] |= bit
            at = data.find(signature, at + 4)
    path.write_bytes(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_zip_archives_are_read_in_place_and_folders_are_classes(tmp_path: Path, method: int) -> None:
    members = {"cat/x.png": 7, "./animal/dog/y.PNG": 8, "top.png": 9, "cat/.z.png": 1, "__MACOSX/cat/._x.png": 2}
    archive(tmp_path / "b.zip", {name: picture(value) for name, value in members.items()} | {"cat/n.txt": b""}, method)
    archive(tmp_path / "a.zip", {"bee\\x.png": picture(5)}, method)
    expected = [
        ("a.zip/bee\\x.png", "bee", ()),
        ("b.zip/cat/x.png", "cat", ()),
        ("b.zip/./animal/dog/y.PNG", "animal/dog", ("animal", "dog")),
        ("b.zip/top.png", None, ()),
    ]
    for spec in (tmp_path, str(tmp_path / "*.zip")):
        images = open_images(spec)
        assert [(e.path, e.label, e.taxonomy) for e in images.entries] == expected
        assert [images.load(i).getpixel((0, 0))[0] for i in range(4)] == [5, 7, 8, 9]
    assert len(open_images(tmp_path / "b.zip")) == 3
    assert open_image(f"{tmp_path / 'b.zip'}::b.zip/cat/x.png").getpixel((0, 0)) == (7, 0, 0)


def test_a_zip_is_read_by_several_threads(tmp_path: Path) -> None:
    images = open_images(archive(tmp_path / "i.zip", {f"{n}.png": picture(n) for n in range(200)}))
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(images.load, range(200)))
    assert [image.getpixel((0, 0))[0] for image in read] == list(range(200))


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/etc/x.png", "a\\..\\x.png"])
def test_a_zip_that_leads_out_of_itself_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"leads out of it"):
        open_images(archive(tmp_path / "i.zip", {"a/y.png": picture(1), name: picture(2)}))


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    flag(archive(tmp_path / "i.zip", {"a/y.png": picture(1)}), 1)
    with pytest.raises(UserError, match=r"is encrypted \(a/y.png\)"):
        open_images(tmp_path / "i.zip")


def test_a_damaged_zip_is_named_and_a_damaged_image_of_it_is_broken(tmp_path: Path) -> None:
    path = archive(tmp_path / "i.zip", {"x.png": picture(1), "y.png": picture(2)}, zipfile.ZIP_STORED)
    images = open_images(path)
    patch(path, picture(1)[-30:], bytes(30))
    assert images.load(1).getpixel((0, 0)) == (2, 0, 0)
    with pytest.raises(BrokenImage, match=r"x.png: it cannot be unpacked"):
        images.load(0)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"i.zip is not an intact .zip"):
        open_images(path)
    path.unlink()
    with pytest.raises(BrokenImage, match=r"No such file"):
        images.load(1)


def test_nothing_there(tmp_path: Path) -> None:
    for spec in (tmp_path / "missing", tmp_path / "*.tar", tmp_path):
        with pytest.raises(UserError, match="No images"):
            open_images(spec)
    (tmp_path / "list.bin").write_bytes(b"\xff\xfe\x00\x81" * 10)
    with pytest.raises(UserError, match=r"list.bin"):
        open_images(tmp_path / "list.bin")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_directory_is_named(tree: Path) -> None:
    (tree / "b").chmod(0)
    with pytest.raises(UserError, match="Cannot read the directory"):
        open_images(tree)


def test_images_cost_no_torch() -> None:
    code = "import sys, engine.images, engine.models, engine.activations; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


# What stands in names, and beside images


def labels(spec: Path | str) -> dict[str, str | None]:
    return {one.path: one.label for one in open_images(spec).entries}


def test_a_webdataset_key_ends_at_the_first_dot_unless_a_name_has_more(tmp_path: Path) -> None:
    members = {"f.001.png": 1, "f.001.cls": b"cat", "f.002.png": 2, "f.002.cls": b"dog", "g.seg.png": 3, "g.png": 4}
    members |= {"g.CLS": b"bee", "v1.5/h.png": 5, "v1.5/h.cls": b"emu", "v1.6/h.png": 6}
    made = tar(tmp_path / "s.tar", {k: picture(v) if isinstance(v, int) else v for k, v in members.items()})
    expected = {"f.001.png": "cat", "f.002.png": "dog", "g.seg.png": "bee", "g.png": "bee"}
    expected |= {"v1.5/h.png": "emu", "v1.6/h.png": "v1.6"}
    assert labels(made) == {f"s.tar/{name}": label for name, label in expected.items()}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_what_is_hidden_in_a_shard_is_passed_over(tmp_path: Path, kind: str) -> None:
    names = (".cache/x.png", "a/.thumbs/y.png", "a/.z.png", "./a/b.png", "__MACOSX/a/._b.png")
    members = {name: picture(1) for name in names}
    made = tar(tmp_path / "s.tar", members) if kind == "tar" else archive(tmp_path / "s.zip", members)
    assert [one.label for one in open_images(made).entries] == ["a"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole, header: whole[:header],
        lambda whole, header: whole[: header + 100],
        lambda whole, header: whole[: header + 3] + bytes([whole[header + 3] ^ 4]) + whole[header + 4 :],
        lambda whole, header: whole[:header] + bytes(512) + whole[header + 512 :],
        lambda whole, header: whole + whole,
    ],
    ids=["cut before a header", "cut within a header", "a flipped bit", "a lost block", "two in one"],
)
def test_a_tar_is_read_to_its_end_or_refused(tmp_path: Path, damage: Callable[[bytes, int], bytes]) -> None:
    path = tar(tmp_path / "a.tar", {f"{i}.png": picture(i) for i in range(3)})
    assert len(open_images(str(path))) == 3
    with tarfile.open(path) as opened:
        header = opened.getmembers()[1].offset
    path.write_bytes(damage(path.read_bytes(), header))
    with pytest.raises(UserError, match=r"does not end at byte .* fetch it again"):
        open_images(str(path))


def test_folders_of_a_tar_begin_where_it_would_be_unpacked(tmp_path: Path) -> None:
    made = tar(tmp_path / "s.tar", {"/data/cat/x.png": picture(1), "../up/dog/y.png": picture(2)})
    assert list(labels(made).values()) == ["data/cat", "up/dog"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize(
    ("beside", "label", "taxonomy"),
    [
        ({"x.cls": b"7\n"}, "7", ()),
        ({"x.cls": b"animal/cat"}, "animal/cat", ("animal", "cat")),
        ({"x.json": b'{"label": 3, "width": 9}'}, "3", ()),
        ({"x.json": b'{"category": "animal", "subcategory": "cat"}'}, "animal/cat", ("animal", "cat")),
        ({"x.json": b'{"class": "cat", "taxonomy": ["animal", "cat"]}'}, "cat", ("animal", "cat")),
        ({"x.json": b'{"Kingdom": "A", "phylum": "B", "class": "C", "species": "D"}'}, "A/B/C/D", ("A", "B", "C", "D")),
        ({"x.json": b'["animal", "cat"]'}, "animal/cat", ("animal", "cat")),
        ({"x.json": b'"cat"'}, "cat", ()),
        ({"x.json": b'{"label": "dog"}', "x.cls": b"cat"}, "cat", ()),
        ({"x.json": b'{"url": "here"}', "x.txt": b"animal/cat"}, "animal/cat", ("animal", "cat")),
        ({"x.txt": b"a caption\nof two lines"}, None, ()),
        ({"x.json": b'{"label": null}'}, None, ()),
    ],
)
def test_members_beside_an_image_say_its_class(
    tmp_path: Path, kind: str, beside: dict[str, bytes], label: str | None, taxonomy: tuple[str, ...]
) -> None:
    members = {"x.png": picture(1), **beside}
    made = tar(tmp_path / "s.tar", members) if kind == "tar" else archive(tmp_path / "s.zip", members)
    [one] = open_images(made).entries
    assert (one.label, one.taxonomy) == (label, taxonomy)


def test_a_caption_is_no_class_where_a_folder_says_it(tmp_path: Path) -> None:
    made = tar(tmp_path / "s.tar", {"cat/x.png": picture(1), "cat/x.txt": b"a cat on a mat"})
    assert labels(made) == {"s.tar/cat/x.png": "cat"}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_shards_of_one_name_in_different_folders_are_told_apart(tmp_path: Path, kind: str) -> None:
    for number, folder in enumerate(("val", "train")):
        (tmp_path / folder).mkdir()
        members = {"x.png": picture(number + 1)}
        where = tmp_path / folder / f"000.{kind}"
        _ = tar(where, members) if kind == "tar" else archive(where, members)
    for spec in (f"{tmp_path}/*/000.{kind}", f"{tmp_path}/{{train,val}}/000.{kind}", str(tmp_path)):
        images = open_images(spec)
        assert [one.path for one in images.entries] == [f"train/000.{kind}/x.png", f"val/000.{kind}/x.png"]
        colours = [open_image(f"{spec}::{one.path}").getpixel((0, 0))[0] for one in images.entries]
        assert colours == [images.load(i).getpixel((0, 0))[0] for i in range(2)] == [2, 1]


def test_of_members_of_one_name_the_last_counts_and_hard_links_are_files(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as made:
        for name, value in (("x.png", 1), ("y.png", 2), ("x.png", 3)):
            info = tarfile.TarInfo(name)
            info.size = len(picture(value))
            made.addfile(info, io.BytesIO(picture(value)))
        for name, kind in (("z.png", tarfile.LNKTYPE), ("w.png", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "y.png"
            made.addfile(info)
    images = open_images(tmp_path / "s.tar")
    colours = {one.path: images.load(i).getpixel((0, 0))[0] for i, one in enumerate(images.entries)}
    assert colours == {"s.tar/y.png": 2, "s.tar/x.png": 3, "s.tar/z.png": 2}
    assert images.left_out == {"symbolic links or sparse files of a tar": 1}


# Notations


@pytest.mark.parametrize(
    ("braces", "numbers"),
    [
        ("{000..002}", "000 001 002"),
        ("{8..10}", "8 9 10"),
        ("{0..4..2}", "0 2 4"),
        ("{b,a}", "b a"),
        ("{a..c}", "a b c"),
    ],
)
def test_braces_name_shards(tmp_path: Path, braces: str, numbers: str) -> None:
    for number in numbers.split():
        tar(tmp_path / f"s-{number}.tar", {"x.png": picture(1)})
    spec = f"{tmp_path}/s-{braces}.tar"
    assert list(labels(spec)) == [f"s-{number}.tar/x.png" for number in numbers.split()]
    (tmp_path / f"s-{numbers.split()[1]}.tar").unlink()
    with pytest.raises(UserError, match=rf"no {tmp_path}/s-{numbers.split()[1]}.tar, which .* names"):
        open_images(spec)


def test_a_name_with_braces_is_itself(tmp_path: Path) -> None:
    assert len(open_images(tar(tmp_path / "s-{0..1}.tar", {"x.png": picture(1)}))) == 1


def test_several_folders_are_parts_of_the_one_around_them(tree: Path) -> None:
    assert labels(f"{tree}/{{b,a}}") == {"b/2.png": "b", "a/1.PNG": "a", "a/10.jpg": "a"}
    (tree / "list.txt").write_text("a/1.PNG\n")
    assert [one.label for one in open_images(f"{tree}/*").entries] == ["a", "a", "b", None]


def test_lists_of_equal_names_in_several_folders_are_told_apart(tree: Path) -> None:
    for folder, name in (("a", "1.PNG"), ("b", "2.png")):
        (tree / folder / name).rename(tree / folder / "x.png")
        (tree / folder / "list.csv").write_text("path,class\nx.png,kind\n")
    images = open_images(f"{tree}/{{b,a}}/list.csv")
    assert [one.path for one in images.entries] == ["b/x.png", "a/x.png"]
    for number, one in enumerate(images.entries):
        assert open_image(f"{images.spec}::{one.path}").getpixel((0, 0)) == images.load(number).getpixel((0, 0))
    assert images.load(0).getpixel((0, 0)) != images.load(1).getpixel((0, 0))
    assert [one.path for one in open_images(tree / "a/list.csv").entries] == ["x.png"]


def test_what_is_not_on_this_disk_is_said_to_be_copied_first() -> None:
    for spec in ("https://x.org/{000..127}.tar", "pipe:curl -s https://x.org/a.tar", "hf://datasets/a/b"):
        with pytest.raises(UserError, match="Images are read from files, not from"):
            open_images(spec)


def test_a_single_image(tree: Path) -> None:
    assert labels(tree / "b/2.png") == {"2.png": None}
    assert open_image(f"{tree / 'b/2.png'}::2.png").getpixel((0, 0)) == (2, 0, 0)


@pytest.mark.parametrize(
    ("line", "name", "label"),
    [
        ("b/2.png 65", "b/2.png", "65"),
        ("b/2.png  great white shark, man-eater", "b/2.png", "great white shark, man-eater"),
        ("b/2.png,great white shark, man-eater", "b/2.png", "great white shark, man-eater"),
        ("b/2.png, bee", "b/2.png", "bee"),
        ("b/2.png;bee", "b/2.png", "bee"),
        ('"b/2.png","bee, wasp"', "b/2.png", "bee, wasp"),
        ("my cat.png dog.png", "my cat.png", "dog.png"),
        ("my cat.png", "my cat.png", None),
        ("a cat.png and a.png", "a cat.png and a.png", None),
        ("lost cat.png cat", "lost cat.png", "cat"),
        ("b/2.png\tanimal/bee", "b/2.png", "animal/bee"),
        ("b/2\u2028.png bee", "b/2\u2028.png", "bee"),
    ],
)
def test_lines_of_a_list(tree: Path, line: str, name: str, label: str | None) -> None:
    for there in ("my cat.png", "a cat.png and a.png", "b/2\u2028.png"):
        (tree / there).write_bytes(picture(4))
    (tree / "list.txt").write_text(f"{line}\r\n", newline="")
    assert labels(tree / "list.txt") == {name: label}


@pytest.mark.parametrize(
    "text",
    [
        'path,class\nb/2.png,"bee, wasp"\n',
        "path,class\nb/2.png,bee, wasp\n",
        "b/2.png,bee, wasp\n",
        "file_name;label\nb/2.png;bee, wasp\n",
        "label\tfilename\nbee, wasp\tb/2.png\n",
        '"Path","Label"\r\n"b/2.png","bee, wasp"\r\n',
    ],
)
def test_tables(tree: Path, text: str) -> None:
    (tree / "list.csv").write_text(text, newline="")
    assert labels(tree / "list.csv") == {"b/2.png": "bee, wasp"}


def test_metadata_of_a_hugging_face_folder(tree: Path) -> None:
    (tree / "metadata.csv").write_text("file_name,label,score\na/1.PNG,cat,1\na/10.jpg,,2\ngone.png,cat,3\n")
    (tree / "b" / "metadata.jsonl").write_text('{"file_name": "./2.png", "label": "animal/bee"}\n')
    images = open_images(tree)
    assert labels(tree) == {"a/1.PNG": "cat", "a/10.jpg": "a", "b/2.png": "animal/bee", "top.png": None}
    assert images.entries[2].taxonomy == ("animal", "bee")
    assert images.left_out == {"named in metadata and not there": 1}
    assert labels(tree / "b" / "metadata.jsonl") == {"./2.png": "animal/bee"}


def test_folders_are_called_what_a_file_among_them_says(tmp_path: Path) -> None:
    for folder in ("n01", "n02", "n03", "n04", "n05", "n06"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.png").write_bytes(picture(1))
    lines = ["n01 tench, Tinca tinca", "n02 crane", "n03 crane", "n04\tcan/tin", "n05 crane, bird", "n06", "n07 x"]
    (tmp_path / "classes.txt").write_text("\r\n".join(lines))
    before = open_images(tmp_path / "n01").sha256
    names = ["tench", "crane n02", "crane n03", "can-tin", "crane, bird", "n06"]
    found = open_images(tmp_path)
    assert [one.label for one in found.entries] == names
    also = [("n01", "Tinca tinca"), ("n02", "crane"), ("n03", "crane"), ("n04",), ("n05", "crane", "bird"), ()]
    assert [one.also for one in found.entries] == also
    told = "it does not name 1 folder of images, as n06; it names a folder without images, 1 in all, as n07"
    way = (
        "add those, or their classes are called as the folders are; "
        "correct or remove names without images; left as they are, they do no harm"
    )
    assert found.notes == (f"{tmp_path / 'classes.txt'} and the folders beside it differ: {told}: {way}.",)
    assert open_images(tmp_path / "n01").notes == ()
    assert open_images(tmp_path / "n01").sha256 == before, "it names folders among which it is"
    (tmp_path / "classes.txt").rename(tmp_path / "LOC_synset_mapping.txt")
    assert [one.label for one in open_images(tmp_path).entries] == names
    (tmp_path / "LOC_synset_mapping.txt").write_bytes(b"\xff\xfe\x00")
    assert open_images(tmp_path).left_out == {"LOC_synset_mapping.txt that is not understood": 1}
    assert open_images(tmp_path).entries[0].label == "n01" and not open_images(tmp_path).notes


# What is left out


def test_pictures_of_other_kinds_are_counted(tree: Path) -> None:
    for name in ("x.heic", "a/y.HEIF", "x.jxl", "x.svg", "x.tga", "a/noname", "shard.tar", ".hidden.heic"):
        (tree / name).write_bytes(b"x")
    kinds = {"HEIC": 2, "JPEG XL": 1, "SVG": 1, "TGA": 1, "tar": 1, "without a suffix": 1}
    assert open_images(tree).left_out == kinds
    members = {"a/x.png": picture(1), "a/x.heic": b"x", "a/.y.heic": b"x"}
    assert open_images(tar(tree / "s.tar", members)).left_out == {"HEIC": 1}
    assert open_images(archive(tree / "s.zip", members)).left_out == {"HEIC": 1}


@pytest.mark.parametrize("suffix", ["heic", "jxl", "svg"])
def test_only_pictures_of_other_kinds(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"x.{suffix}").write_bytes(b"x")
    for spec in (tmp_path, tmp_path / f"x.{suffix}"):
        with pytest.raises(UserError, match=r"No images in .* \(it holds 1 .*, which are not read\)"):
            open_images(spec)


@pytest.mark.parametrize(("suffix", "feature"), [("jp2", "jpg_2000"), ("avif", "avif")])
def test_what_this_pillow_was_built_with_is_read(tmp_path: Path, suffix: str, feature: str) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    if feature in (*features.modules, *features.codecs) and features.check(feature):
        Image.new("RGB", (32, 32), (200, 10, 10)).save(tmp_path / f"b.{suffix}")
        assert abs(open_images(tmp_path).load(1).getpixel((5, 5))[0] - 200) < 5
    else:
        (tmp_path / f"b.{suffix}").write_bytes(b"x")
        assert open_images(tmp_path).left_out == {suffix.upper(): 1}


@pytest.mark.parametrize("name", ["e.tar.gz", "E.TGZ", "e.tar.zst", "e.tbz2"])
def test_a_compressed_tar_in_a_folder_is_told_of(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=r"it holds 1 compressed tar \(to be unpacked first\)"):
        open_images(tmp_path)
    shutil.copy(save_picture(tmp_path), tmp_path / f"{name}.png")
    assert open_images(tmp_path).left_out == {"compressed tar (to be unpacked first)": 1}


def save_picture(folder: Path) -> Path:
    Image.new("RGB", (4, 4)).save(folder / "one.png")
    return folder / "one.png"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("l.jsonl", '{"path": null, "label": 2}', "names no path in line 1"),
        ("l.jsonl", '{"image": {"bytes": "abc", "path": null}}', "names no path in line 1"),
        ("l.json", '[{"label": 2}]', "names no path in item 1"),
        ("l.json", '{"images": [{"file_name": "one.png"}]}', r"one JSON object: give an array of objects .* \.jsonl"),
        ("l.json", "one.png", "is no JSON in line 1"),
    ],
)
def test_records_without_a_path_are_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=says):
        open_images(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("l.jsonl", '{"path": null, "image": "one.png", "label": ["a", "b"]}', "a/b"),
        ("l.json", '{"file_name": "one.png", "label": "a/b"}\n{"file_name": "one.png", "label": "a/b"}', "a/b"),
        ("l.txt", 'one.png "big cat"', "big cat"),
        ("l.txt", 'one.png,"big cat"', "big cat"),
        ("l.txt", '"one.png"', None),
        ("l.txt", '"one.png","big, cat"', "big, cat"),
    ],
)
def test_spellings_of_path_and_class(tmp_path: Path, name: str, text: str, label: str | None) -> None:
    save_picture(tmp_path)
    (tmp_path / name).write_text(text)
    images = open_images(tmp_path / name)
    assert {(one.path, one.label) for one in images.entries} == {("one.png", label)}
    assert images.load(0).size == (4, 4)


@pytest.mark.parametrize("name", ["all.zip", "all.tar"])
def test_metadata_of_an_archive_that_names_what_is_not_there_is_counted(tmp_path: Path, name: str) -> None:
    save_picture(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,label\none.png,a\ntwo.png,b\n")
    if name.endswith("zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            [archive.write(tmp_path / one, one) for one in ("one.png", "metadata.csv")]
    else:
        with tarfile.open(tmp_path / name, "w") as shard:
            [shard.add(tmp_path / one, one) for one in ("one.png", "metadata.csv")]
    images = open_images(tmp_path / name)
    assert [one.label for one in images.entries] == ["a"]
    assert images.left_out == {"named in metadata and not there": 1}


@pytest.mark.parametrize("braces", ["{0..99999999999}", "{0..999}{0..999}{0..999}", "{a,b}" * 40])
def test_braces_that_name_more_than_there_can_be(braces: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"names more than 100,000 files"):
        open_images(f"{tmp_path}/x{braces}.tar")
