import stat
import struct
import zipfile
from pathlib import Path

import pytest

from grasp_bench.errors import UserError
from grasp_bench.results.sharing.archive import open_archive, write_archive

GOOD = "stages/features-0.safetensors"


def refusal(path) -> str:
    with pytest.raises(UserError) as error, open_archive(path):
        pass
    return str(error.value)


def holding(path, name, data=b"1234", **fields):
    """An archive of one member, stored unless ``fields`` of its ZipInfo say otherwise."""
    info = zipfile.ZipInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, data)
    return path


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("../evil.json", "../evil.json leads out of the pack"),
        ("stages/../../evil.json", "leads out of the pack"),
        ("/etc/cron.json", "leads out of the pack"),
        ("C:/evil.json", "leads out of the pack"),
        ("..\\evil.json", "leads out of the pack"),
        ("stages/model.pkl", "pickles are never read"),
        ("stages/model.pt", "pickles are never read"),
        ("stages/", "is not a name in a pack"),
        ("evil.json", "is not a name in a pack"),
        ("runs/0123456789ab/deep/er.json", "is not a name in a pack"),
        ("runs/0123456789ab/.hidden.json", "is not a name in a pack"),
        ("stages/a\nb.json", r"stages/a\u000ab.json is not a name"),
        ("stages/\x1b[31m.json", r"stages/\u001b[31m.json is not a name"),
        ("stages/<script>.json", r"stages/\u003cscript\u003e.json is not a name"),
        ("stages/\u202egnp.json", r"stages/\u202egnp.json is not a name"),
    ],
)
def test_names_that_no_pack_has_are_refused(tmp_path, name, fault):
    message = refusal(holding(tmp_path / "p.zip", name))
    assert fault in message
    assert message.isprintable()


def test_a_link_is_refused(tmp_path):
    path = holding(
        tmp_path / "p.zip", GOOD, b"/etc/passwd", create_system=3, external_attr=(stat.S_IFLNK | 0o777) << 16
    )
    assert "is a symbolic link" in refusal(path)


def test_a_bomb_is_refused_before_it_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(GOOD, bytes(10_000_000))
    assert (tmp_path / "p.zip").stat().st_size < 20_000
    assert "is compressed" in refusal(tmp_path / "p.zip")


def test_sizes_that_the_file_does_not_have_are_refused(tmp_path):
    data = bytearray(holding(tmp_path / "p.zip", GOOD).read_bytes())
    at = data.index(b"PK\x01\x02") + 20  # compressed and plain size in the central directory
    data[at : at + 8] = struct.pack("<II", 2**31, 2**31)
    (tmp_path / "p.zip").write_bytes(data)
    assert "its members claim 2,147,483,648 bytes together" in refusal(tmp_path / "p.zip")


def test_members_that_share_their_bytes_are_refused(tmp_path):
    """As in archives of a few megabytes that hold petabytes: many entries of the directory name one content."""
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(GOOD, bytes(5000))
        first = archive.infolist()[0]
        for number in range(1, 5):
            twin = zipfile.ZipInfo(f"stages/features-{number}.safetensors")
            twin.header_offset, twin.CRC = first.header_offset, first.CRC
            twin.compress_size = twin.file_size = first.file_size
            archive.filelist.append(twin)
    assert "its members claim 25,000 bytes together" in refusal(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr(GOOD, b"one")
        archive.writestr(GOOD, b"other")
    assert f"{GOOD} is there twice" in refusal(tmp_path / "p.zip")


def test_an_encrypted_member_is_refused(tmp_path):
    data = bytearray(holding(tmp_path / "p.zip", GOOD).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "p.zip").write_bytes(data)
    assert "is encrypted" in refusal(tmp_path / "p.zip")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + bytes(10)])
def test_what_is_no_archive_is_one_message(tmp_path, content):
    (tmp_path / "p.zip").write_bytes(content)
    assert "cannot be read as a pack" in refusal(tmp_path / "p.zip")
    assert "there is no such file" in refusal(tmp_path / "gone.zip")


def test_content_that_was_damaged_is_named(tmp_path):
    write_archive(tmp_path / "p.zip", {GOOD: b"1234"})
    data = (tmp_path / "p.zip").read_bytes()
    (tmp_path / "p.zip").write_bytes(data.replace(b"1234", b"1235"))
    with open_archive(tmp_path / "p.zip") as archive, pytest.raises(UserError, match=f"{GOOD} is damaged"):
        archive.text(GOOD)


def test_bytes_depend_on_content_alone(tmp_path):
    (tmp_path / "file").write_bytes(b"56")
    write_archive(tmp_path / "a.zip", {GOOD: b"1234", "stages/b.json": tmp_path / "file"})
    write_archive(tmp_path / "b.zip", {"stages/b.json": b"56", GOOD: b"1234"})
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.sizes == {GOOD: 4, "stages/b.json": 2}
        assert archive.text("stages/b.json") == b"56"


def test_an_offset_that_no_file_has_is_damage(tmp_path):
    """The system refuses to go there, which is no fault of the disk."""
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(GOOD, b"1234")
        archive.filelist[0].header_offset = 2**62
    with open_archive(path) as pack, pytest.raises(UserError, match=f"{GOOD} is damaged"):
        pack.text(GOOD)


def test_a_full_disk_is_no_damage_of_the_pack(tmp_path):
    with open_archive(holding(tmp_path / "p.zip", GOOD)) as pack, pytest.raises(OSError, match="No space left"):
        pack.copy(GOOD, Path("/dev/full"))
