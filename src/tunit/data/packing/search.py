"""Find the pictures of a source, as the settings say: only once, when they are first needed."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from tunit.data.finding.find import LabelMode, find_pictures
from tunit.data.finding.found import Found
from tunit.data.finding.source_kind import quick_fingerprint
from tunit.data.layouts import find_layout
from tunit.data.packing.pack_settings import PackSettings


@dataclass(frozen=True)
class Search:
    """The content of a source. Both properties raise DataError as `find_pictures` and `find_layout` do."""

    source: Path
    settings: PackSettings

    @cached_property
    def fingerprint(self) -> str:
        """A text that changes if the source changes. Archives and databases are not opened for it."""
        return quick_fingerprint(self.source) or self.found.fingerprint

    @property
    def about(self) -> dict[str, Any]:
        """What a pack depends on."""
        return {"settings": self.settings.as_json(), "fingerprint": self.fingerprint}

    @cached_property
    def found(self) -> Found:
        """The pictures, not yet opened, and what cannot be used."""
        settings = self.settings
        if settings.part is not None:
            return find_layout(self.source, settings.part, labels=settings.labels != "none")
        return find_pictures(
            self.source,
            labels=cast(LabelMode, settings.labels),
            label_column=settings.label_column,
            picture_column=settings.picture_column,
        )
