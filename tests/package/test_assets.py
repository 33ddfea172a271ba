import json
from pathlib import Path

import pytest

from eipack.errors import PackageIOError, UnsupportedModel
from eipack.package.assets import collect


class Tokenizer:
    def save_pretrained(self, folder):
        (Path(folder) / "vocab.txt").write_text("a b c")


def test_a_file_keeps_its_suffix_under_the_name_of_its_role(tmp_path):
    (tmp_path / "LICENSE.md").write_text("free")
    assets = collect({"licence": tmp_path / "LICENSE.md"})
    assert assets.roles == {"licence": "licence.md"}
    assert assets.members == {"assets/licence.md": b"free"}


def test_a_folder_keeps_what_is_in_it(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    assets = collect({"extra": str(tmp_path)})
    assert assets.members == {"assets/extra/b.txt": b"b", "assets/extra/deep/a.txt": b"a"}


def test_lists_and_bytes_and_tokenizers_become_files():
    assets = collect({"labels": ["é", "b"], "card": b"text", "tokenizer": Tokenizer()})
    assert json.loads(assets.members["assets/labels.json"]) == ["é", "b"]
    assert assets.members["assets/card"] == b"text"
    assert assets.members["assets/tokenizer/vocab.txt"] == b"a b c"


@pytest.mark.parametrize(
    ("assets", "words"),
    [
        ({"Labels": ["a"]}, "use small letters"),
        ({"../up": b""}, "use small letters"),
        ({"labels": 3}, "is a int; pass a path"),
        ({"labels": [object()]}, "cannot be written as JSON"),
    ],
)
def test_what_is_no_asset_is_refused(assets, words):
    with pytest.raises(UnsupportedModel, match=words):
        collect(assets)


def test_a_file_name_that_no_package_can_hold_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "two words.txt").write_text("a")
    with pytest.raises(UnsupportedModel, match=r"two words\.txt.*; rename the file"):
        collect({"extra": tmp_path})


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(PackageIOError, match=r"cannot read asset 'labels' from .*none\.txt: No"):
        collect({"labels": tmp_path / "none.txt"})
    with pytest.raises(PackageIOError, match="holds no file"):
        collect({"labels": tmp_path})
