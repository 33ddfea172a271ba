"""Which kind of rented machine this is, without asking the network."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

VARIABLE: Final = "EIPACK_INSTANCE"

_DMI: Final = Path("/sys/devices/virtual/dmi/id")
_EC2_TYPE: Final = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")


def detect(folder: Path = _DMI) -> str | None:
    """Return what `EIPACK_INSTANCE` says, else what an EC2 machine's own description says.

    `folder` is where Linux tells what the firmware says: an EC2 instance of the Nitro generation
    has its type there (`c5.large`). None where nobody says.
    """
    said = os.environ.get(VARIABLE, "").strip()
    if said:
        return said
    product = _read(folder / "product_name")
    is_ec2 = _read(folder / "sys_vendor") == "Amazon EC2" and _EC2_TYPE.fullmatch(product)
    return product if is_ec2 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
