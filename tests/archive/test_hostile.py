"""Archives that other tools would read, each made by hand and each refused in its own words."""

import io
import struct
import zipfile
from zlib import crc32

import pytest

from eipack.archive import Archive, Member, place
from eipack.errors import MalformedPackage

# Where a field stands in a local header and in an entry of the central directory.
VERSION, FLAGS, METHOD, TIME, DATE = (4, 6), (6, 8), (8, 10), (10, 12), (12, 14)
CRC, PACKED, SIZE = (14, 16), (18, 20), (22, 24)
COMMENT_SIZE, ATTRIBUTES, OFFSET = 32, 38, 42


class Forgery:
    """The bytes of a canonical archive, open to changes."""

    def __init__(self, **contents):
        self.contents = contents or {"manifest.json": b"{}", "a": b"12345", "b/c": b"x"}
        members = [Member(name, len(data), crc32(data)) for name, data in self.contents.items()]
        self.layout = place(members)
        self.data = bytearray()
        for index, data in enumerate(self.contents.values()):
            self.data += self.layout.local_header(index) + data
        self.data += self.layout.tail()

    @property
    def names(self):
        return list(self.contents)

    def local(self, index):
        return self.layout.placed[index].header_offset

    def central(self, index):
        start = self.layout.directory_offset
        return start + sum(46 + len(name) for name in self.names[:index])

    def put(self, offset, form, value):
        struct.pack_into("<" + form, self.data, offset, value)
        return self

    def both(self, index, field, form, value):
        self.put(self.local(index) + field[0], form, value)
        return self.put(self.central(index) + field[1], form, value)

    def rename(self, index, name):
        assert len(name) == len(self.names[index])
        for start in (self.local(index) + 30, self.central(index) + 46):
            self.data[start : start + len(name)] = name
        return self

    def end(self, field, form, value):
        return self.put(len(self.data) - 22 + field, form, value)


@pytest.fixture
def refuses(tmp_path):
    def check(data, words):
        path = tmp_path / "hostile.eipack"
        path.write_bytes(data)
        with pytest.raises(MalformedPackage, match=words) as caught:
            Archive.open(path)
        assert str(path) in str(caught.value)
        assert caught.value.path == str(path)

    return check


def test_the_forger_starts_from_an_archive_that_is_accepted(tmp_path):
    (tmp_path / "p").write_bytes(Forgery().data)
    with Archive.open(tmp_path / "p") as archive:
        assert archive.read("a") == b"12345"


@pytest.mark.parametrize("data", [b"hello", b"\x80\x02}q", b"\0" * 4096, b"%PDF" + b"x" * 70_000])
def test_what_is_no_zip_is_called_so(refuses, data):
    refuses(data, "it is not a zip file")


def test_an_empty_file_is_called_so(refuses):
    refuses(b"", "it is empty")


@pytest.mark.parametrize("kept", [3, 10, 60, 100, -1, -21, -22, -30])
def test_a_truncated_archive_is_called_so(refuses, kept):
    refuses(Forgery().data[:kept], "truncated")


@pytest.mark.parametrize("more", [b"x", b"\0" * 100, b"PK\5\6", b"x" * 60_000])
def test_trailing_data_is_counted(refuses, more):
    refuses(Forgery().data + more, f"{len(more)} bytes of data trail its end")


def test_much_trailing_data_is_told_from_no_zip(refuses):
    refuses(Forgery().data + b"x" * 70_000, "truncated, or other data trails it")


def test_a_second_archive_behind_the_first_is_refused(refuses):
    data = Forgery().data
    refuses(data + data, f"{len(data)} bytes of other data are prepended")


@pytest.mark.parametrize("more", [b"#", b"#!/bin/sh\n", bytes(64)])
def test_prepended_data_is_counted(refuses, more):
    refuses(more + Forgery().data, f"{len(more)} bytes of other data are prepended")


def test_prepended_data_is_counted_though_the_offsets_allow_for_it(refuses):
    forged = Forgery()
    for index in range(3):
        forged.put(forged.central(index) + OFFSET, "L", forged.local(index) + 64)
    forged.end(16, "L", forged.layout.directory_offset + 64)
    refuses(bytes(64) + forged.data, "64 bytes of other data are prepended to its members")


def test_data_between_the_directory_and_the_end_is_counted(refuses):
    data = Forgery().data
    refuses(data[:-22] + b"between" + data[-22:], "7 bytes of other data lie before its end")


def test_data_between_the_members_and_the_directory_is_found(refuses):
    forged = Forgery()
    at = forged.layout.directory_offset
    forged.end(16, "L", at + 9)
    refuses(forged.data[:at] + b"smuggled!" + forged.data[at:], f"directory lies at {at + 9}, not")


def test_a_duplicate_name_is_refused(refuses):
    refuses(Forgery(a=b"1", b=b"2").rename(1, b"a").data, "two members have the same name 'a'")


def test_names_that_differ_in_case_are_refused(refuses):
    refuses(Forgery(a=b"1", b=b"2").rename(1, b"A").data, "'a' and 'A' differ in case")


def test_a_member_that_is_also_a_folder_is_refused(refuses):
    forged = Forgery(**{"a": b"1", "b/c": b"2"}).rename(1, b"a/c")
    refuses(forged.data, "'a' is a member and also the folder of 'a/c'")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"../e", "leads out of the package"),
        (b"a/..", "leads out of the package"),
        (b"..\\e", "leads out of the package"),
        (b"/etc", "is absolute"),
        (b"\\etc", "is absolute"),
        (b"C:\\e", "is absolute"),
        (b"a//b", "is not made of"),
        (b"./ab", "is not made of"),
        (b"a\0bc", "is not made of"),
        (b"\xc3\xa4bc", "is not made of"),
        (b"a\nbc", "is not made of"),
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(refuses, name, words):
    refuses(Forgery(name=b"1").rename(0, name).data, words)


def test_a_symbolic_link_is_refused(refuses):
    forged = Forgery()
    forged.put(forged.central(1) + ATTRIBUTES, "L", 0o120777 << 16)
    refuses(forged.data, "'a' is a symbolic link")


@pytest.mark.parametrize("attributes", [0o040755 << 16, 0x10, 0o100644 << 16 | 0x10])
def test_a_directory_is_refused(refuses, attributes):
    forged = Forgery()
    forged.put(forged.central(1) + ATTRIBUTES, "L", attributes)
    refuses(forged.data, "'a' is a directory")


def test_a_directory_by_its_name_is_refused(refuses):
    refuses(Forgery(ab=b"").rename(0, b"a/").data, "'a/' is a directory")


@pytest.mark.parametrize("mode", [0o100755, 0o104644, 0o020644, 0])
def test_any_other_mode_is_refused(refuses, mode):
    forged = Forgery()
    forged.put(forged.central(1) + ATTRIBUTES, "L", mode << 16)
    refuses(forged.data, "'a' has attributes other than")


@pytest.mark.parametrize("flags", [1, 1 | 1 << 6, 1 << 13])
def test_an_encrypted_member_is_refused(refuses, flags):
    refuses(Forgery().both(1, FLAGS, "H", flags).data, "'a' is encrypted")


def test_a_member_encrypted_with_aes_is_refused(refuses):
    refuses(Forgery().both(1, METHOD, "H", 99).data, "'a' is encrypted")


@pytest.mark.parametrize("method", [8, 12, 14, 93])
def test_a_compressed_member_is_refused(refuses, method):
    refuses(Forgery().both(1, METHOD, "H", method).data, "'a' is compressed")


def test_a_bomb_is_refused_before_anything_is_unpacked(refuses):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("zeros", bytes(10 << 20))
    refuses(buffer.getvalue(), "'zeros' is .*compressed")


def test_a_plain_zip_by_another_tool_is_refused(refuses):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as other:
        other.writestr("manifest.json", b"{}")
    refuses(buffer.getvalue(), "not an intact package")


@pytest.mark.parametrize("flags", [1 << 3, 1 << 11, 1 << 1])
def test_any_other_flag_is_refused(refuses, flags):
    refuses(Forgery().both(1, FLAGS, "H", flags).data, "the flags of 'a'")


@pytest.mark.parametrize("field", [DATE, TIME])
def test_any_other_date_is_refused(refuses, field):
    refuses(Forgery().both(1, field, "H", 0x5A21).data, "the date of 'a'")


def test_any_other_version_is_refused(refuses):
    refuses(Forgery().both(1, VERSION, "H", 20).data, "the version of 'a'")


def test_padding_that_is_not_zeros_is_refused(refuses):
    forged = Forgery()
    forged.data[forged.layout.placed[1].data_offset - 1] = 7
    refuses(forged.data, "the padding of 'a'")


def test_padding_under_another_id_is_refused(refuses):
    forged = Forgery()
    forged.put(forged.local(1) + 31, "H", 0x7075)
    refuses(forged.data, "the padding of 'a'")


def test_a_comment_on_the_archive_is_refused(refuses):
    refuses(Forgery().end(20, "H", 5).data + b"hello", "it has a zip comment")


def test_a_comment_on_a_member_is_refused(refuses):
    forged = Forgery()
    forged.put(forged.central(2) + COMMENT_SIZE, "H", 5)
    forged.end(12, "L", len(forged.data) - 22 - forged.layout.directory_offset + 5)
    refuses(forged.data[:-22] + b"hello" + forged.data[-22:], "'b/c' has a comment")


def test_an_extra_field_in_the_directory_is_refused(refuses):
    forged = Forgery()
    forged.put(forged.central(2) + 30, "H", 4)
    forged.end(12, "L", len(forged.data) - 22 - forged.layout.directory_offset + 4)
    refuses(forged.data[:-22] + b"\1\0\0\0" + forged.data[-22:], "the extra field of 'b/c'")


def test_members_that_overlap_are_refused(refuses):
    forged = Forgery()
    forged.put(forged.central(1) + OFFSET, "L", forged.local(0))
    refuses(forged.data, "'manifest.json' and 'a' overlap")


def test_a_size_that_swallows_the_next_member_is_refused(refuses):
    forged = Forgery()
    forged.both(1, SIZE, "L", 70).both(1, PACKED, "L", 70)
    refuses(forged.data, "'a' and 'b/c' overlap, or their sizes lie")


@pytest.mark.parametrize("size", [100, 0x7FFFFFFF, 0xFFFFFFFE])
def test_a_size_beyond_the_end_of_the_file_is_refused(refuses, size):
    forged = Forgery()
    forged.both(2, SIZE, "L", size).both(2, PACKED, "L", size)
    refuses(forged.data, "size of 'b/c' lies")


def test_two_sizes_that_differ_are_refused(refuses):
    refuses(Forgery().both(1, SIZE, "L", 4).data, "the sizes of 'a' lie: 5 bytes for 4")


def test_a_smaller_size_hides_nothing(refuses):
    forged = Forgery().both(2, SIZE, "L", 0).both(2, PACKED, "L", 0)
    refuses(forged.data, "directory lies at")


@pytest.mark.parametrize(("field", "word"), [(SIZE, "sizes"), (CRC, "CRC"), (FLAGS, "flags")])
def test_a_local_header_that_says_something_else_is_refused(refuses, field, word):
    forged = Forgery()
    forged.put(forged.local(1) + field[0], "H", 1)
    refuses(forged.data, f"the {word} of 'a' is not canonical")


def test_a_local_name_that_says_something_else_is_refused(refuses):
    forged = Forgery()
    forged.data[forged.local(1) + 30] = ord("x")
    refuses(forged.data, "the name of 'a' is not canonical")


def test_a_size_that_claims_zip64_without_having_it_is_refused(refuses):
    refuses(Forgery().both(1, SIZE, "L", 0xFFFFFFFF).data, "the extra field of 'a'")


@pytest.mark.parametrize(("field", "form"), [(10, "H"), (12, "L"), (16, "L")])
def test_an_end_record_that_claims_zip64_without_having_it_is_refused(refuses, field, form):
    forged = Forgery().end(field, form, 0xFFFF if form == "H" else 0xFFFFFFFF)
    refuses(forged.data, "ZIP64 end records are missing")


def zip64_end(count, size, offset):
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 813, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    return record + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *[65535] * 2, 0, 0, 0)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((2**63, 0, 0), "more than the 100000 allowed"),
        ((100_001, 0, 0), "more than the 100000 allowed"),
        ((1, 2**63, 0), "exceeds 67108864 bytes"),
        ((1, (64 << 20) + 1, 0), "exceeds 67108864 bytes"),
        ((1, 0, 2**64 - 1), "does not fit"),
        ((1, 46, 2**40), "does not fit"),
        ((70_000, 0, 0), "fewer members than it declares"),
    ],
)
def test_what_an_end_record_asks_for_is_bounded(refuses, numbers, words):
    refuses(zip64_end(*numbers), words)


@pytest.mark.parametrize(("count", "word"), [(4, "fewer"), (2, "more"), (0, "more")])
def test_a_count_of_members_that_lies_is_refused(refuses, count, word):
    forged = Forgery().end(8, "H", count).end(10, "H", count)
    refuses(forged.data, f"{word} members than it declares")


def test_members_in_another_order_than_the_directory_are_refused(refuses):
    forged = Forgery(a=b"1", b=b"2")
    start = forged.layout.directory_offset
    first, second = forged.data[start : start + 47], forged.data[start + 47 : start + 94]
    forged.data[start : start + 94] = second + first
    refuses(forged.data, "the header of 'b' lies at 65, not at 0")


@pytest.mark.parametrize(("field", "value"), [(4, 1), (6, 1), (8, 2)])
def test_an_archive_on_several_disks_is_refused(refuses, field, value):
    refuses(Forgery().end(field, "H", value).data, "its end record is not canonical")


def test_a_damaged_entry_in_the_directory_is_refused(refuses):
    forged = Forgery()
    forged.put(forged.central(1), "L", 0)
    refuses(forged.data, "an entry of its central directory is damaged")


@pytest.mark.parametrize(
    ("at", "word"), [(4, "version"), (16, "CRC"), (34, "disk number"), (36, "attributes")]
)
def test_the_field_of_an_entry_that_differs_is_named(refuses, at, word):
    forged = Forgery()
    forged.put(forged.central(1) + at, "H", 9)
    refuses(forged.data, f"the {word} of 'a'")
