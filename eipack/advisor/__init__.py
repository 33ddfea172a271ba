"""Which hardware meets the latency limits at the lowest cost, from what was measured on it."""

from __future__ import annotations

from eipack.advisor.advice import Advice, Choice, Cost, Memory, PricesUsed, Sizing
from eipack.advisor.catalogue_files import builtin, catalogue, read_catalogue
from eipack.advisor.deciding import advise
from eipack.advisor.prices import Catalogue, Price

__all__ = [
    "Advice",
    "Catalogue",
    "Choice",
    "Cost",
    "Memory",
    "Price",
    "PricesUsed",
    "Sizing",
    "advise",
    "builtin",
    "catalogue",
    "read_catalogue",
]
