"""What a report knows beside its scores, as one JSON file next to them, so that it can be rendered again anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from adapters_xling.errors import DataError, MissingData
from adapters_xling.report.scores import EntryFacts, RunInfo
from adapters_xling.spec import Frozen


class _Info(Frozen, frozen=True):
    info: RunInfo
    facts: dict[str, EntryFacts]


def encode_info(info: RunInfo, facts: Mapping[str, EntryFacts]) -> bytes:
    """Write run info and entry facts as JSON."""
    return msgspec.json.format(msgspec.json.encode(_Info(info=info, facts=dict(facts))), indent=1)


def decode_info(path: Path) -> tuple[RunInfo, dict[str, EntryFacts]]:
    """Read run info and entry facts.

    Raises:
        MissingData: when there is no such file.
        DataError: naming file and place when it is not what `encode_info` wrote.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Info)
    except OSError as err:
        raise MissingData(f"{path}: cannot be read: {err.strerror or err}. Run the grid again to write it") from err
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise DataError(f"{path}: {err}. Run the grid again to write it") from err
    return found.info, found.facts
