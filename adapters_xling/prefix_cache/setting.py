"""How much of frozen layers' hidden states may be kept, where, and how exactly."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from adapters_xling import paths
from adapters_xling.errors import ConfigError
from adapters_xling.units import GIB, parse_bytes

FORMS = "off, 2GiB, disk, 50GiB,disk or 50GiB,disk:FOLDER, each but off also with ,bf16"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrefixCache:
    """Where hidden states of frozen layers are kept. A setting of speed, no part of a run.

    Attributes:
        num_bytes: most that is kept; nothing beyond is taken in. 0 switches the cache off.
        folder: folder of the files, which any number of processes may share; None keeps them in this process's memory.
        storage: "fp32" keeps what was computed; "bf16" takes half the space and rounds to eight significant bits, which
            changes results. An entry trained so says it on its card, and scores made so are other scores.
    """

    num_bytes: int = 2 * GIB
    folder: Path | None = None
    storage: Literal["fp32", "bf16"] = "fp32"

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return self.num_bytes > 0

    @classmethod
    def parse(cls, text: str) -> PrefixCache:
        """Read a setting as a person writes it, words between commas in any order.

        Raises:
            ConfigError: for other words, naming the forms.

        >>> PrefixCache.parse("512MiB,bf16")
        PrefixCache(num_bytes=536870912, folder=None, storage='bf16')
        >>> PrefixCache.parse("off").is_on
        False
        """
        if text.strip() == "off":
            return OFF
        found: dict[str, Any] = {}
        for word in (part.strip() for part in text.split(",")):
            place, sign, rest = word.partition(":")
            if word == "bf16":
                own: dict[str, Any] = {"storage": "bf16"}
            elif place == "disk" and bool(sign) == bool(rest):
                folder = Path(rest).expanduser() if rest else paths.cache_dir() / "prefix"
                own = {"folder": folder.absolute()}  # workers may have another current folder
            else:
                own = {"num_bytes": _bytes(word, text)}
            if twice := set(own) & set(found):
                raise ConfigError(f"prefix cache {text!r} says twice {_SAYS[twice.pop()]}; forms: {FORMS}")
            found |= own
        return cls(**found)

    def divided(self, workers: int) -> PrefixCache:
        """The part of one of several processes: memory is divided among them, a folder is shared."""
        if self.folder is not None or workers < 2:
            return self
        return dataclasses.replace(self, num_bytes=self.num_bytes // workers)


OFF, IN_MEMORY = PrefixCache(num_bytes=0), PrefixCache()
_SAYS = {"num_bytes": "how much", "folder": "where", "storage": "how exactly"}


def _bytes(word: str, text: str) -> int:
    try:
        return int(parse_bytes(word))
    except ConfigError as err:
        raise ConfigError(f"prefix cache {text!r}: {word!r} is no size, disk or bf16; forms: {FORMS}") from err
