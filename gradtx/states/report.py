"""What became of each array when a state was loaded: `Report`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

MOST = 8  # lines of one kind that are printed


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """What became of each array when a state was loaded, by name; printed as a table.

    `loaded` has all that came from the file, those in `renamed` and `converted` among them. What
    has another shape there is in `reshaped`, and began anew, as what is `fresh` did.
    """

    loaded: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()  # not in the file
    unused: tuple[str, ...] = ()  # in the file, and nothing of the optimizer
    reshaped: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of another shape there
    renamed: Mapping[str, str] = dataclasses.field(
        default_factory=dict
    )  # what they are called there
    converted: Mapping[str, str] = dataclasses.field(default_factory=dict)  # dtype there, and here
    # That the file tells of, there and here, where they differ.
    hyperparameters: Mapping[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"loaded           {len(self.loaded)}"
        for field in dataclasses.fields(self)[1:]:
            found = getattr(self, field.name)
            entries = [*found.items()] if isinstance(found, Mapping) else [(x, "") for x in found]
            if not entries:
                continue
            yield f"{field.name:<16} {len(entries)}"
            width = max(len(name) for name, _ in entries[:MOST])
            for name, said in entries[:MOST]:
                what = " -> ".join(map(str, said)) if isinstance(said, tuple) else said
                yield f"  {name:<{width}}  {what}".rstrip()
            if len(entries) > MOST:
                yield f"  and {len(entries) - MOST} more"
