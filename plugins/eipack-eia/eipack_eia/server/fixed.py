"""Packages of this host under names of its own, served for as long as the process lives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from eipack.target import Target
    from eipack.trust import Trust
    from eipack_eia.server.models import Model, Models


@frozen
class Fixed:
    """What a server serves that takes no packages from clients: files by the models' names.

    `options` are those of `eipack.load`.
    """

    files: Mapping[str, str]
    options: Mapping[str, Any] = field(factory=dict)

    def path(self, package: str) -> Path | None:
        """Return the file of a model."""
        found = self.files.get(package)
        return None if found is None else Path(found)

    def packages(self) -> Sequence[str]:
        """Name the models."""
        return list(self.files)

    def load(
        self, on: Target, trust: Trust, loaded: Callable[[Model], None] | None, threads: int | None
    ) -> Models:
        """Bring all of them onto the target, to stay there.

        Raises:
            EipackError: One cannot be loaded.
        """
        from eipack_eia.server.models import Models

        names = {name: name for name in self.files}
        models = Models(self, on, None, trust, loaded, threads, names=names, options=self.options)
        for name in self.files:
            models.open(name, None, lease=name)
        return models
