"""Measurements that were finished once are kept, and used again as long as they mean the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diglot.output import write_whole
from diglot.zoo.machine import describe_machine


class Kept:
    """The finished measurements of a folder, one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machine = describe_machine()

    def get(self, name: str, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result that is kept under `name`, if it was measured for `identity` on this machine."""
        try:
            found = json.loads(self._path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found["result"] if found.get("identity") == self._key(identity) else None

    def measure(
        self, name: str, identity: Mapping[str, Any], make: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """The kept result, or that of `make`, which is then kept."""
        found = self.get(name, identity)
        if found is None:
            found = make()
            self.folder.mkdir(parents=True, exist_ok=True)
            kept = {"identity": self._key(identity), "result": found}
            write_whole(self._path(name), json.dumps(kept, indent=1) + "\n")
        return found

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _key(self, identity: Mapping[str, Any]) -> str:
        known = {"machine": self.machine, **identity}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
