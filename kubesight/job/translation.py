"""A job in Azure's shape in the making, out of another service's dictionaries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubesight.errors import JobError
from kubesight.job.yaml_lines import Keys

Place = Callable[[Keys], str | None]


@dataclass
class Translation:
    """A job in Azure's shape, where its parts stood before, and what has no effect."""

    value: dict[str, Any] = field(default_factory=dict)
    origins: dict[Keys, Keys] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def put(self, keys: Keys, value: Any, origin: Keys) -> None:
        """Set something of the job, and remember where it came from."""
        target = self.value
        for key in keys[:-1]:
            target = target.setdefault(str(key), {})
        target[str(keys[-1])] = value
        self.origins[keys] = origin

    def original(self, keys: Keys) -> Keys:
        """Where something of the job stood in the other dictionary."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.origins:
                return (*self.origins[keys[:length]], *keys[length:])
        return keys

    def note(self, text: str, where: str | None) -> None:
        """Say something about what the user wrote, with its line."""
        self.notices.append(f"{where}: {text}" if where else text)


def mapping_at(value: Mapping[str, Any], keys: Keys, place: Place) -> Mapping[str, Any]:
    """The mapping at a place, empty when there is none.

    Raises:
        JobError: there is something else.
    """
    found: Any = value
    for key in keys:
        found = found.get(key) or {}
        if not isinstance(found, Mapping):
            raise JobError(f"{key} is {found!r}, but must be a mapping of keys to values", where=place(keys))
    return found


def check_keys(value: Mapping[str, Any], above: Keys, known: set[str], place: Place) -> None:
    """Refuse keys that nobody would read.

    Raises:
        JobError: naming the first of them.
    """
    for key in value:
        if key not in known:
            raise JobError(
                f"unknown key {key!r}", where=place((*above, key)), hint=f"There are {', '.join(sorted(known))}."
            )
