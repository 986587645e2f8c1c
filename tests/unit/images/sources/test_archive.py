"""Archives of whatever can be imported, and those that mean harm."""

import contextlib
import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fgpipe.errors import DataError
from fgpipe.images.sources import archive
from fgpipe.images.sources.registry import open_source
from fgpipe.images.sources.source import Source
from tests.support import dataset_layouts as layouts
from tests.support.dataset_layouts import picture, put, text

NAMES = ("cats/ä b.jpg", "cats/2.jpg", "dogs/1.png")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    return work


def write_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


def write_tar(path: Path, *members: tuple[str | tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, data in members:
            member = tarfile.TarInfo(name) if isinstance(name, str) else name
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def write_tree(path: Path, *, top: str = "") -> Path:
    members = [(f"{top}{name}", picture(i)) for i, name in enumerate(NAMES)]
    if path.suffix == ".zip":
        return write_zip(path, *members)
    mode = {".tgz": "gz", ".gz": "gz", ".bz2": "bz2", ".xz": "xz"}.get(path.suffix)
    return write_tar(path, *members, mode=f"w:{mode}" if mode else "w")


def opened(path: Path, work: Path, *, kind: str | None = None) -> Source:
    return open_source(path, kind=kind, work=work)


def left_outside(tmp_path: Path, *, but: Path) -> set[str]:
    return {each.name for each in tmp_path.iterdir()} - {but.name, "work"}


@pytest.mark.parametrize("top", ["", "my set/"])
@pytest.mark.parametrize(
    "name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz", "A.ZIP.zip"]
)
def test_class_folders_come_out_of_every_form(
    tmp_path: Path, work: Path, name: str, top: str
) -> None:
    path = write_tree(tmp_path / name, top=top)

    source = opened(path, work)

    assert [(image.path, image.label) for image in source.images] == [
        ("images/cats/2.jpg", "cats"),
        ("images/cats/ä b.jpg", "cats"),
        ("images/dogs/1.png", "dogs"),
    ]
    assert source.name == str(path)
    assert source.images[0].file.read_bytes() == picture(1)


def test_a_table_with_its_images_comes_out(tmp_path: Path, work: Path) -> None:
    table = b"path,label,site\nimages/a.jpg,cat,x\nimages/b.jpg,dog,y\n"
    members = [("set/images/a.jpg", picture(0)), ("set/images/b.jpg", picture(1))]

    source = opened(write_zip(tmp_path / "a.zip", ("set/t.csv", table), *members), work)

    assert [(image.path, image.attributes["site"]) for image in source.images] == [
        ("images/a.jpg", "x"),
        ("images/b.jpg", "y"),
    ]


def test_a_published_set_comes_out_of_its_archive(tmp_path: Path, work: Path) -> None:
    layouts.cub(tmp_path / "CUB_200_2011")
    with tarfile.open(tmp_path / "CUB_200_2011.tgz", "w:gz") as file:
        file.add(tmp_path / "CUB_200_2011", "CUB_200_2011")

    source = opened(tmp_path / "CUB_200_2011.tgz", work, kind="cub")

    assert {image.label for image in source.images} == {
        "Black_footed_Albatross",
        "Laysan_Albatross",
    }


def test_a_table_cannot_name_files_outside_its_archive(tmp_path: Path, work: Path) -> None:
    secret = put(tmp_path / "secret.jpg")
    table = f"path,label\n{secret},a\n../../secret.jpg,b\nin.jpg,c\n".encode()
    path = write_zip(tmp_path / "a.zip", ("t.csv", table), ("in.jpg", picture()))

    with pytest.raises(DataError, match=r"2 wrong row\(s\)[\s\S]*is outside the archive"):
        opened(path, work)


def test_a_table_that_is_told_cannot_name_files_outside_either(tmp_path: Path, work: Path) -> None:
    secret = put(tmp_path / "secret.jpg")
    table = f"path,label\n{secret},a\nin.jpg,c\n".encode()
    path = write_zip(tmp_path / "a.zip", ("t.csv", table), ("in.jpg", picture()))

    with pytest.raises(DataError, match="is outside the archive"):
        opened(path, work, kind="table")


def test_a_told_kind_is_looked_for_inside_and_named_as_below_the_archive(
    tmp_path: Path, work: Path
) -> None:
    path = write_zip(tmp_path / "a.zip", ("set/cats/1.jpg", picture()), ("set/d/x.txt", b"x"))

    with pytest.raises(DataError) as caught:
        opened(path, work, kind="folder")

    assert str(caught.value).startswith(f"{path}/set/d holds no images")


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_a_told_archive_is_called_by_its_own_name(tmp_path: Path, work: Path, kind: str) -> None:
    path = write_tree(tmp_path / "a.zip")

    assert opened(path, work, kind=kind).name == str(path)


def test_what_is_no_image_or_annotation_stays_inside(tmp_path: Path, work: Path) -> None:
    others = [("cats/run.sh", b"rm"), ("__MACOSX/cats/._1.jpg", b"x"), ("cats/.x.jpg", b"x")]
    members = [("cats/1.jpg", picture()), ("dogs/1.jpg", picture(1))]

    opened(write_zip(tmp_path / "a.zip", *others, *members), work)

    files = [path.name for path in work.rglob("*") if path.is_file()]
    assert sorted(files) == ["1.jpg", "1.jpg"]


LEADS_OUT = ("../evil.jpg", "cats/../../evil.jpg", "{tmp}/evil.jpg", "C:/evil.jpg", "..\\evil.jpg")


@pytest.mark.parametrize("name", LEADS_OUT)
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_name_that_leads_out_refuses_the_archive(
    tmp_path: Path, work: Path, name: str, form: str
) -> None:
    write = write_zip if form == "zip" else write_tar
    path = write(
        tmp_path / f"a.{form}", ("cats/1.jpg", picture()), (name.format(tmp=tmp_path), picture(1))
    )

    with pytest.raises(DataError, match="leads out of the archive; refused"):
        opened(path, work)

    assert not left_outside(tmp_path, but=path)


@pytest.mark.parametrize(
    ("type_", "says"),
    [
        (tarfile.SYMTYPE, "is a link; refused"),
        (tarfile.LNKTYPE, "is a link; refused"),
        (tarfile.CHRTYPE, "is a device; refused"),
        (tarfile.BLKTYPE, "is a device; refused"),
        (tarfile.FIFOTYPE, "is a device; refused"),
    ],
)
def test_links_and_devices_in_a_tar_refuse_it(
    tmp_path: Path, work: Path, type_: bytes, says: str
) -> None:
    member = tarfile.TarInfo("cats/1.jpg")
    member.type, member.linkname = type_, "/etc/passwd"

    with pytest.raises(DataError) as caught:
        opened(write_tar(tmp_path / "a.tar", (member, b"")), work)

    assert says in str(caught.value)


def test_a_link_in_a_zip_refuses_it(tmp_path: Path, work: Path) -> None:
    member = zipfile.ZipInfo("cats/1.jpg")
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16

    with pytest.raises(DataError, match=r"'cats/1.jpg' is a link; refused"):
        opened(write_zip(tmp_path / "a.zip", (member, b"/etc/passwd")), work)


@pytest.mark.parametrize("form", ["zip", "tar.gz", "tar.xz"])
def test_a_bomb_is_given_up_early(
    tmp_path: Path, work: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "RATIO_FROM_BYTES", 3_000_000)
    members = [(f"cats/{i}.bmp", bytes(2_000_000)) for i in range(4)]
    path = tmp_path / f"a.{form}"
    if form == "zip":
        write_zip(path, *members)
    else:
        write_tar(path, *members, mode=f"w:{form[4:]}")

    with pytest.raises(DataError, match="that is a bomb, or no archive of images"):
        opened(path, work)

    assert sum(file.stat().st_size for file in work.rglob("*.bmp")) <= 3_000_000


@pytest.mark.parametrize("form", ["gz", "xz"])
@pytest.mark.parametrize("type_", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_a_tar_that_would_fill_the_memory_is_not_read(
    tmp_path: Path, work: Path, type_: bytes, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_AT_ONCE", 1_000_000)
    member = tarfile.TarInfo("././@PaxHeader")
    member.type = type_

    with pytest.raises(DataError, match=r"a header of .* bytes, more than 1,000,000"):
        opened(
            write_tar(tmp_path / f"a.tar.{form}", (member, bytes(3_000_000)), mode=f"w:{form}"),
            work,
        )


def test_what_a_tar_holds_but_is_not_unpacked_counts_too(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "RATIO_FROM_BYTES", 1_000_000)
    members = [("model.bin.gz", bytes(3_000_000)), ("cats/1.jpg", picture())]

    with pytest.raises(DataError, match="that is a bomb, or no archive of images"):
        opened(write_tar(tmp_path / "a.tgz", *members, mode="w:gz"), work)


def test_what_says_it_is_too_long_is_not_even_skipped(tmp_path: Path, work: Path) -> None:
    member = tarfile.TarInfo("model.pth")
    member.size = 10**12
    path = tmp_path / "a.tgz"
    path.write_bytes(gzip.compress(member.tobuf() + bytes(10_000)))

    with pytest.raises(DataError, match="that is a bomb, or no archive of images"):
        opened(path, work)


def test_whatever_byte_is_wrong_an_archive_is_read_or_refused(tmp_path: Path, work: Path) -> None:
    rng = np.random.default_rng(0)
    for number, name in enumerate(("a.zip", "a.tar", "a.tgz", "a.tar.bz2", "a.tar.xz") * 40):
        path = write_tree(tmp_path / name)
        data = bytearray(path.read_bytes())
        data[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(data)
        with contextlib.suppress(DataError):
            archive.unpack(path, to=work / str(number))


def test_a_name_that_is_not_the_utf8_it_says_is_refused(tmp_path: Path, work: Path) -> None:
    path = write_tree(tmp_path / "a.zip")
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xff\xff"))

    with pytest.raises(DataError, match="is broken or cut short"):
        opened(path, work)


def test_more_bytes_in_all_than_any_set_are_refused(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 10_000)
    members = [(f"cats/{i}.jpg", os.urandom(4000)) for i in range(4)]

    with pytest.raises(DataError, match=r"unpacks to .* bytes or more"):
        opened(write_zip(tmp_path / "a.zip", *members), work)


def test_one_file_too_large_or_too_many_members_are_refused(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tree(tmp_path / "a.zip")
    monkeypatch.setattr(archive, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="at most 100 are unpacked"):
        archive.unpack(path, to=work / "1")

    monkeypatch.undo()
    monkeypatch.setattr(archive, "MAX_MEMBERS", 2)
    with pytest.raises(DataError, match="more than 2 members"):
        archive.unpack(path, to=work / "2")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz", "a.tar.bz2", "a.tar.xz"])
@pytest.mark.parametrize("share", [0, 0.3, 0.7, 0.95])
def test_an_archive_cut_short_is_refused(
    tmp_path: Path, work: Path, name: str, share: float
) -> None:
    path = write_tree(tmp_path / name)
    data = path.read_bytes()
    if name == "a.tar":  # the padding behind its end says nothing
        data = data[: data.rindex(picture(2)) + len(picture(2))]
    path.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(DataError, match="is broken or cut short"):
        opened(path, work)


def test_a_tar_cut_between_two_members_is_refused(tmp_path: Path, work: Path) -> None:
    path = write_tree(tmp_path / "a.tar")
    with tarfile.open(path) as file:
        start = file.getmembers()[2].offset
    path.write_bytes(path.read_bytes()[:start])

    with pytest.raises(DataError, match="its end is missing"):
        opened(path, work)


def test_a_damaged_member_of_a_zip_is_refused(tmp_path: Path, work: Path) -> None:
    path = write_tree(tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)

    with pytest.raises(DataError, match="is broken or cut short"):
        opened(path, work)


def test_an_encrypted_zip_is_refused(tmp_path: Path, work: Path) -> None:
    path = write_tree(tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    data[6] |= 1
    path.write_bytes(data)

    with pytest.raises(DataError, match="is encrypted; unpack it and import the folder"):
        opened(path, work)


def test_a_zip_whose_names_are_utf8_without_saying_so_is_read(tmp_path: Path, work: Path) -> None:
    path = write_tree(tmp_path / "a.zip")
    data = path.read_bytes()
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.index(mark)
        flags = bytes([data[start + at], data[start + at + 1] & ~0x08])
        data = data[: start + at] + flags + data[start + at + 2 :]
    path.write_bytes(data)

    source = opened(path, work)

    assert "images/cats/ä b.jpg" in [image.path for image in source.images]


def test_names_that_differ_by_case_alone_become_distinct(tmp_path: Path, work: Path) -> None:
    members = [("cats/a.jpg", picture()), ("cats/A.jpg", picture(1)), ("dogs/1.jpg", picture(2))]

    source = opened(write_zip(tmp_path / "a.zip", *members), work)

    assert len({image.path.casefold() for image in source.images}) == 3


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path, work: Path) -> None:
    members = [("cats/a.jpg", picture()), ("cats/a.jpg", picture(1))]

    with pytest.raises(DataError, match=r"holds 'cats/a.jpg' twice"):
        opened(write_zip(tmp_path / "a.zip", *members), work)


def test_an_archive_without_images_is_refused(tmp_path: Path, work: Path) -> None:
    with pytest.raises(DataError, match="holds no file that is an image"):
        opened(write_zip(tmp_path / "a.zip", ("readme.md", b"x")), work)


def test_a_text_file_called_zip_is_refused(tmp_path: Path, work: Path) -> None:
    with pytest.raises(DataError, match="is broken or cut short"):
        opened(text(tmp_path / "a.zip", "no archive"), work)


def test_a_zip_that_separates_as_windows_does_is_read(tmp_path: Path, work: Path) -> None:
    members = [
        ("set\\cats\\", b""),
        ("set\\cats\\1.jpg", picture()),
        ("set\\dogs\\1.jpg", picture(1)),
    ]

    source = opened(write_zip(tmp_path / "a.zip", *members), work)

    assert [(image.path, image.label) for image in source.images] == [
        ("images/cats/1.jpg", "cats"),
        ("images/dogs/1.jpg", "dogs"),
    ]


@pytest.mark.parametrize(
    "name", ["..\\evil.jpg", "cats\\..\\..\\evil.jpg", "\\evil.jpg", "C:\\evil.jpg"]
)
def test_a_name_that_leads_out_as_windows_writes_it_refuses_the_zip(
    tmp_path: Path, work: Path, name: str
) -> None:
    path = write_zip(tmp_path / "a.zip", (name, picture()))

    with pytest.raises(DataError, match="leads out of the archive; refused"):
        opened(path, work)

    assert not left_outside(tmp_path, but=path)


@pytest.mark.parametrize("document", ["README.md", "Readme.txt", "LICENSE.txt"])
def test_a_document_beside_the_only_folder_makes_it_no_class(
    tmp_path: Path, work: Path, document: str
) -> None:
    members = [(f"my set/{name}", picture(i)) for i, name in enumerate(NAMES)]

    source = opened(write_zip(tmp_path / "a.zip", (document, b"x"), *members), work)

    assert {image.label for image in source.images} == {"cats", "dogs"}


def test_a_class_alone_with_a_document_in_it_stays_a_class(tmp_path: Path, work: Path) -> None:
    members = (("cats/1.jpg", picture()), ("cats/README.md", b"x"))

    source = opened(write_zip(tmp_path / "a.zip", *members), work)

    assert [image.label for image in source.images] == ["cats"]


@pytest.mark.parametrize("top", ["", "beans/"])
def test_the_card_of_a_packed_hugging_face_folder_names_its_classes(
    tmp_path: Path, work: Path, top: str
) -> None:
    folder = layouts.hugging_face(tmp_path / "set")
    layouts.without_metadata(folder)
    text(folder / "README.md", layouts.HUGGING_FACE_CARD.format(entry=""))
    members = [
        (f"{top}{path.relative_to(folder).as_posix()}", path.read_bytes())
        for path in folder.rglob("*.*")
    ]

    source = opened(write_zip(tmp_path / "a.zip", *members), work)

    assert {image.label for image in source.images} == {"sick", "well"}


def test_cifar_for_python_packed_names_the_form_that_is_read(tmp_path: Path, work: Path) -> None:
    member = ("cifar-10-batches-py/data_batch_1", b"pickle")

    with pytest.raises(DataError, match="of CIFAR the binary form is read"):
        opened(write_tar(tmp_path / "a.tar.gz", member, mode="w:gz"), work)
