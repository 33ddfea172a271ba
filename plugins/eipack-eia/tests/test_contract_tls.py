"""The conformance kit on an accelerator in another process, over TLS and with a token."""

from collections.abc import Iterator

import pytest
from eipack_eia import attached
from eipack_eia.attached import Files
from eipack_eia.endpoint import Endpoint

from eipack.testing import CAPABILITIES, BackendContract
from eipack.testing.exports import folder

from .conftest import serving
from .test_tls import issue, token_in


@pytest.fixture(scope="module", autouse=True)
def _accelerator_of_the_kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Serve with the keys of the kit's own folder, and attach with an authority and a token."""
    pem = tmp_path_factory.mktemp("pem")
    own, token = issue(pem, "server"), token_in(pem)
    tls = ("--cert", str(own.certificate), "--key", str(own.key), "--token-file", str(token))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EIPACK_CONFIG_DIR", str(folder() / "config"))
        with serving(tmp_path_factory.mktemp("store"), "--memory-gb", "1", *tls) as served:
            endpoint = Endpoint.parse(served.said["endpoint"])
            files = Files(token_file=token, ca=own.certificate)
            one = attached.attach(
                endpoint, files, accelerator_id=served.said["id"], type_name=served.said["type"]
            )
            patch.setenv("EI_VISIBLE_DEVICES", one.id)
            yield
            attached.detach(one.id)


class TestEiaOverTls(BackendContract):
    target = "eia:0"
    supports = frozenset(CAPABILITIES) - {"complex64"}
