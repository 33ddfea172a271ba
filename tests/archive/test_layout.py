import shutil
import subprocess
import sys
import zipfile

import pytest

from eipack.archive import Archive, Member, Source, place, write_archive
from eipack.archive.layout import FULL16, FULL32, MAX_NAME
from eipack.errors import MalformedPackage

GIB = 1 << 30


def sparse(path, members):
    """Write an archive whose members are holes, which a file system stores in no space."""
    layout = place(members)
    with path.open("wb") as file:
        for index, placed in enumerate(layout.placed):
            file.seek(placed.header_offset)
            file.write(layout.local_header(index))
        file.seek(layout.directory_offset)
        file.write(layout.tail())
    return layout


def empty(count):
    return [Member(f"a/{number}", 0, 0) for number in range(count)]


@pytest.fixture
def package(tmp_path):
    path = tmp_path / "model.eipack"
    sources = [
        Source.of_bytes("manifest.json", b'{"format": 1}'),
        Source.of_bytes("weights.safetensors", bytes(range(256)) * 40),
        Source.of_bytes("programs/torchscript/code=a+b@c.zip", b"code"),
        Source.of_bytes("assets/empty", b""),
    ]
    write_archive(path, sources)
    return path


def test_members_start_at_multiples_of_64_bytes_and_tensor_files_of_a_page():
    names = [f"{'n' * length}{end}" for length in range(1, 140) for end in ("", ".safetensors")]
    layout = place(Member(name, 1 + len(name) % 7, 0) for name in names)
    for placed in layout.placed:
        page = placed.member.name.endswith(".safetensors")
        assert placed.data_offset % (4096 if page else 64) == 0


def test_headers_fill_the_space_between_members_exactly():
    layout = place(Member("n" * length, length % 5, 7) for length in range(1, 200))
    end = 0
    for index, placed in enumerate(layout.placed):
        assert placed.header_offset == end
        assert len(layout.local_header(index)) == placed.data_offset - placed.header_offset
        end = placed.end
    assert layout.directory_offset == end
    assert layout.total_size == end + len(layout.tail())


def test_headers_depend_on_names_sizes_and_crcs_alone():
    members = [Member("a", 3, 4), Member("b.safetensors", 5, 6)]
    first, second = place(members), place(iter(members))
    assert first == second
    assert first.tail() == second.tail()
    assert first.local_header(1) == second.local_header(1)


def test_zipfile_reads_a_package(package):
    with zipfile.ZipFile(package) as archive:
        assert archive.testzip() is None
        assert archive.read("programs/torchscript/code=a+b@c.zip") == b"code"
        info = archive.getinfo("manifest.json")
        assert info.date_time == (1980, 1, 1, 0, 0, 0)
        assert info.external_attr >> 16 == 0o100644
        assert info.compress_type == zipfile.ZIP_STORED


@pytest.mark.skipif(shutil.which("unzip") is None, reason="there is no unzip")
def test_unzip_finds_nothing_wrong_with_a_package(package):
    found = subprocess.run(["unzip", "-tqq", package], capture_output=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")


def test_torch_reads_a_package_whose_members_share_a_folder(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "program.zip"
    contents = {"m/version": b"3\n", "m/data.pkl": b"pickle", "m/x.safetensors": b"\1" * 100}
    write_archive(path, [Source.of_bytes(*pair) for pair in contents.items()])
    reader = torch._C.PyTorchFileReader(str(path))
    assert reader.get_all_records() == ["version", "data.pkl", "x.safetensors"]
    assert reader.get_record("x.safetensors") == b"\1" * 100
    assert reader.get_record_offset("x.safetensors") % 4096 == 0


@pytest.mark.parametrize("size", [FULL32 - 1, FULL32, FULL32 + 1, 5 * GIB])
def test_sizes_and_offsets_around_4_gib_are_read_back(tmp_path, size):
    path = tmp_path / "big.eipack"
    members = [Member("w.safetensors", size, 1), Member("after", 0, 0), Member("last", 0, 0)]
    layout = sparse(path, members)
    with Archive.open(path) as archive:
        assert archive.layout == layout
        assert archive.read("after") == b""
    with zipfile.ZipFile(path) as archive:
        assert [(info.filename, info.file_size) for info in archive.infolist()] == [
            (member.name, member.size) for member in members
        ]
        assert archive.infolist()[1].header_offset == layout.placed[1].header_offset
        assert archive.read("last") == b""


@pytest.mark.skipif(shutil.which("unzip") is None, reason="there is no unzip")
def test_unzip_reads_what_lies_beyond_4_gib(tmp_path):
    path = tmp_path / "big.eipack"
    sparse(path, [Member("w.safetensors", 5 * GIB, 1), Member("after", 0, 0)])
    command = ["unzip", "-tqq", path, "after"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_zip64_structures_appear_only_where_a_number_needs_them():
    small = place([Member("a", FULL32 - 1, 0)])
    large = place([Member("a", FULL32, 0)])
    assert len(large.placed) == 1
    assert b"\1\0\x10\0" not in small.local_header(0)
    assert b"\1\0\x10\0" in large.local_header(0)
    # The directory of the small one lies beyond 4 GiB, so its end record is a ZIP64 one too.
    assert small.tail().count(b"PK\6\6") == large.tail().count(b"PK\6\6") == 1
    assert b"PK\6\6" not in place([Member("a", FULL32 - 200, 0)]).tail()


@pytest.mark.parametrize("count", [0, 1, FULL16 - 1, FULL16, FULL16 + 1])
def test_any_number_of_members_is_read_back(tmp_path, count):
    path = tmp_path / "many.eipack"
    layout = sparse(path, empty(count))
    assert (b"PK\6\6" in layout.tail()) == (count >= FULL16)
    with Archive.open(path) as archive:
        assert len(archive.members) == count
    with zipfile.ZipFile(path) as archive:
        assert len(archive.infolist()) == count


def test_more_than_a_hundred_thousand_members_are_refused():
    with pytest.raises(MalformedPackage, match="more than the 100000 allowed"):
        place(empty(100_001))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is not made of"),
        ("/etc/passwd", "is absolute"),
        ("C:/x", "is absolute"),
        ("\\x", "is absolute"),
        ("a/../b", "leads out"),
        ("..", "leads out"),
        ("..\\b", "leads out"),
        ("a/", "directory"),
        ("a//b", "is not made of"),
        ("./a", "is not made of"),
        ("a/.", "is not made of"),
        ("a b", "is not made of"),
        ("a\n", "is not made of"),
        ("a\0b", "is not made of"),
        ("ä", "is not made of"),
        ("n" * (MAX_NAME + 1), "more than 512"),
    ],
)
def test_a_name_that_some_system_takes_amiss_is_refused(name, problem):
    with pytest.raises(MalformedPackage, match=problem):
        place([Member(name, 0, 0)])


@pytest.mark.parametrize("name", ["a", "...", "-x", "a.b/c_d/e=f+g@h", "n" * MAX_NAME])
def test_a_plain_name_is_taken(name):
    assert place([Member(name, 0, 0)]).placed[0].member.name == name


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["a", "b", "a"], "same name 'a'"),
        (["Read.me", "read.me"], "'Read.me' and 'read.me' differ in case"),
        (["a/b", "a"], "'a' is a member and also the folder of 'a/b'"),
        (["A", "a-", "a/b/c"], "'A' is a member and also the folder of 'a/b/c'"),
    ],
)
def test_names_that_clash_on_some_file_system_are_refused(names, problem):
    with pytest.raises(MalformedPackage, match=problem):
        place(Member(name, 0, 0) for name in names)


def test_a_folder_may_share_the_start_of_its_name_with_a_member():
    assert len(place(Member(name, 0, 0) for name in ["a-b", "a/b", "ab", "a.b"]).placed) == 4


@pytest.mark.parametrize("numbers", [(-1, 0), (1 << 63, 0), (0, -1), (0, 1 << 32)])
def test_a_number_that_no_header_holds_is_refused(numbers):
    with pytest.raises(MalformedPackage, match="out of range"):
        place([Member("a", *numbers)])


def test_importing_the_archive_imports_nothing_heavy():
    heavy = "{'torch', 'numpy', 'zipfile', 'concurrent.futures', 'safetensors'}"
    code = f"import sys, eipack.archive; print({heavy} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"set()\n"
