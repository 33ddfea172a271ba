from __future__ import annotations

from pathlib import Path

import pytest

from eipack.measuring.instance import detect


def firmware(folder: Path, vendor: str, product: str) -> Path:
    (folder / "sys_vendor").write_text(f"{vendor}\n")
    (folder / "product_name").write_text(f"{product}\n")
    return folder


def test_an_ec2_machine_says_its_type_by_itself(tmp_path: Path) -> None:
    assert detect(firmware(tmp_path, "Amazon EC2", "c5.large")) == "c5.large"


@pytest.mark.parametrize("product", ["c7i-flex.8xlarge", "u-6tb1.metal", "p5.48xlarge"])
def test_longer_types_are_read_whole(tmp_path: Path, product: str) -> None:
    assert detect(firmware(tmp_path, "Amazon EC2", product)) == product


@pytest.mark.parametrize(
    ("vendor", "product"),
    [("Dell Inc.", "PowerEdge R740"), ("QEMU", "c5.large"), ("Amazon EC2", "HVM domU"), ("", "")],
)
def test_other_machines_are_none(tmp_path: Path, vendor: str, product: str) -> None:
    assert detect(firmware(tmp_path, vendor, product)) is None


def test_a_machine_without_firmware_tables_is_none(tmp_path: Path) -> None:
    assert detect(tmp_path / "missing") is None


def test_a_file_of_other_bytes_is_none(tmp_path: Path) -> None:
    firmware(tmp_path, "Amazon EC2", "")
    (tmp_path / "product_name").write_bytes(b"\xff\xfe.\x00")
    assert detect(tmp_path) is None


def test_what_the_user_says_goes_before_the_firmware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EIPACK_INSTANCE", " m5.4xlarge ")
    assert detect(firmware(tmp_path, "Amazon EC2", "c5.large")) == "m5.4xlarge"


def test_an_empty_variable_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIPACK_INSTANCE", "")
    assert detect(firmware(tmp_path, "Amazon EC2", "c5.large")) == "c5.large"
