"""What an evaluation leaves on disk per (entry, task, split, language): predictions, outcomes per example, scores.

The score file is written last; while it is there, the other two are whole. It names what the predictions were made
from (`identity`) and what scored them (`scoring`), so that a change of a metric costs no model: predictions that still
stand are scored again. Reading any of it needs no torch.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import ValidationError, convert, to_builtins

from adapters_xling.errors import DataError
from adapters_xling.metrics import Outcomes, decode_outcomes
from adapters_xling.paths import atomic_write, outcomes_file, predictions_file
from adapters_xling.spec import Score, decode, digest, entry_scored
from adapters_xling.tasks.examples import Prediction
from adapters_xling.zoo import Measured, Zoo

UNKNOWN = Measured(created="")
"""When nothing was measured."""


@dataclass(frozen=True)
class Kept:
    """A score file.

    Attributes:
        identity: digest of what its predictions were made from.
        scoring: digest of what scored them; empty in files from before there were outcomes.
        scores: one per metric's score.
        facts: rows kept and dropped, where they came from and their digest, what was chosen on another split.
        timing: seconds without opening the model, type of device, torch threads; None where they were spent on other
            scores too.
        reader: digest of what read the rows (`made_with`), a part of the identity; empty in older files.
        measured: when and with what; of older files the time of the file alone.
        weights: digest of the entry's files (`Card.weights`); empty without an entry and in older files.
    """

    identity: str
    scoring: str
    scores: list[Score]
    facts: Mapping[str, Any]
    timing: Mapping[str, Any] | None
    reader: str = ""
    measured: Measured = UNKNOWN
    weights: str = ""


def write(path: Path, kept: Kept, predictions: Sequence[Prediction], outcomes: Outcomes | None) -> None:
    """Write predictions and outcomes, then the score file.

    Args:
        path: the score file; the others stand beside it.
        kept: its content.
        predictions: in the order of the rows.
        outcomes: None where nothing was scored.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"id": p.id, "value": p.value, **dict(p.detail)}, ensure_ascii=False) for p in predictions)
    atomic_write(predictions_file(path), "".join(f"{line}\n" for line in lines))
    if outcomes is not None:
        atomic_write(outcomes_file(path), outcomes.encode(_outcomes_id(kept)))
    body = {
        "identity": kept.identity,
        "scoring": kept.scoring,
        "reader": kept.reader,
        "rows": kept.facts,
        "timing": kept.timing,
        "measured": to_builtins(kept.measured),
        "weights": kept.weights,
        "scores": [{name: getattr(score, name) for name in score.__struct_fields__} for score in kept.scores],
    }
    atomic_write(path, json.dumps(body, ensure_ascii=False, indent=1))


def read(path: Path, identity: str | None = None) -> Kept | None:
    """Read a score file; None when there is none, it is damaged, or its predictions were made from something else.

    Args:
        path: the score file.
        identity: what the predictions must have been made from; None for anything.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(body, dict) or (identity is not None and body.get("identity") != identity):
        return None
    scores = [decode(Score, row, str(path)) for row in body.get("scores", ())]
    facts, timing = body.get("rows", {}), body.get("timing", {})
    scoring, reader, weights = (str(body.get(name, "")) for name in ("scoring", "reader", "weights"))
    try:
        measured = convert(body["measured"], Measured) if "measured" in body else Measured.of_file(path)
    except (ValidationError, OSError):
        return None
    return Kept(str(body.get("identity")), scoring, scores, facts, timing, reader, measured, weights)


def read_of(path: Path, zoo: Zoo | None) -> Kept | None:
    """`read`, of an entry in a zoo as it is there now; None, with a warning, for scores of other weights.

    An entry that was removed and trained again has the same key, and not always the same weights.
    """
    kept = read(path)
    if zoo is None or kept is None or not kept.weights or not kept.scores:
        return kept
    name = entry_scored(kept.scores[0].key)
    if zoo.weights(name) in (None, kept.weights):
        return kept
    warnings.warn(
        f"{path}: scores of other weights than {name} has now (it was trained again) are left out: xling evaluate "
        f"{name} {kept.scores[0].task}"
    )
    return None


def is_current(path: Path, kept: Kept, scoring: str) -> bool:
    """Whether kept scores are what scoring the kept predictions now would give, with the outcomes beside them."""
    if kept.scoring != scoring:
        return False
    try:
        return not kept.scores or read_outcomes(path, kept) is not None
    except DataError:
        return False


def read_predictions(path: Path, *, ids: Sequence[str]) -> list[Prediction] | None:
    """Read the predictions beside a score file; None when they are not those of exactly these examples, in order."""
    try:
        lines = predictions_file(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        rows = [json.loads(line) for line in lines]
        found = [Prediction(row.pop("id"), _tuples(row.pop("value")), row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if [prediction.id for prediction in found] == list(ids) else None


def read_outcomes(path: Path, kept: Kept | None = None) -> Outcomes | None:
    """Read what became of each example; None when that was not kept, or belongs to other scores.

    Args:
        path: the score file.
        kept: its content, where it was read already.

    Raises:
        DataError: for a file that is damaged.
    """
    kept = kept or read(path)
    file = outcomes_file(path)
    if kept is None or not kept.scoring or not file.is_file():
        return None
    outcomes, identity = decode_outcomes(file.read_bytes(), file)
    return outcomes if identity == _outcomes_id(kept) else None


def _outcomes_id(kept: Kept) -> str:
    return digest([kept.identity, kept.scoring])


def _tuples(value: Any) -> Any:
    """What JSON made lists of, as the tuples that kinds predict."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
