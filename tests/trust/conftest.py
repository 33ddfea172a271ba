"""A settings folder of its own for each test, and keys that are costly enough to make once."""

import pytest

from eipack.trust import SigningKey


@pytest.fixture
def config(tmp_path, monkeypatch):
    folder = tmp_path / "config"
    monkeypatch.setenv("EIPACK_CONFIG_DIR", str(folder))
    monkeypatch.delenv("EIPACK_SIGNING_KEY", raising=False)
    monkeypatch.delenv("EIPACK_TRUSTED_KEYS", raising=False)
    return folder


@pytest.fixture(scope="session")
def alice():
    return SigningKey.generate()


@pytest.fixture(scope="session")
def bob():
    return SigningKey.generate()
