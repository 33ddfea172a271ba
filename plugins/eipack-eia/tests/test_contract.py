"""The conformance kit on an accelerator in another process, over TCP."""

from collections.abc import Iterator

import pytest

from eipack.testing import CAPABILITIES, BackendContract
from eipack.testing.exports import folder

from .conftest import serving


@pytest.fixture(scope="module", autouse=True)
def _accelerator_of_the_kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Serve with the keys of the kit's own folder, and attach there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EIPACK_CONFIG_DIR", str(folder() / "config"))
        with serving(tmp_path_factory.mktemp("store"), "--memory-gb", "1") as served:
            served.attach()
            yield


class TestEia(BackendContract):
    target = "eia:0"
    supports = frozenset(CAPABILITIES) - {"complex64"}
