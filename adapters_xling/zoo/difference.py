"""What sets two entries apart: run, rows, scores, and where they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters_xling import spec
from adapters_xling.spec import Score
from adapters_xling.zoo.card import Card


@dataclass(frozen=True)
class Difference:
    """One thing that differs.

    Attributes:
        part: `run`, `rows`, `scores`, `result` or `made`.
        name: path of the field, or the cell of a score.
        ours: value of the first entry; None where it has none.
        theirs: value of the second.
    """

    part: str
    name: str
    ours: Any
    theirs: Any


def differences(
    ours: Card, theirs: Card, *, scores: tuple[Sequence[Score], Sequence[Score]] = ((), ())
) -> tuple[Difference, ...]:
    """Everything that differs between two cards, what determines an entry first.

    Args:
        ours: the first card.
        theirs: the second.
        scores: further scores of each than the cards' own (attested ones).
    """
    found = [Difference("run", *one) for one in _unlike(_flat(ours.run), _flat(theirs.run))]
    found += [Difference("rows", *one) for one in _unlike(_rows(ours), _rows(theirs))]
    cells = [_cells((*card.scores, *more)) for card, more in zip((ours, theirs), scores, strict=True)]
    found += [Difference("scores", *one) for one in _unlike(*cells)]
    found += [Difference("result", *one) for one in _unlike(_result(ours), _result(theirs))]
    return (*found, *(Difference("made", *one) for one in _unlike(_made(ours), _made(theirs))))


def _unlike(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    names = dict.fromkeys([*ours, *theirs])
    return [(name, ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)]


def _flat(value: Any, place: str = "") -> dict[str, Any]:
    """Plain data as dotted path -> value; lists of plain values stay whole."""
    plain = spec.canonical(value)
    if isinstance(plain, dict):
        items = [(f"{place}.{name}" if place else name, item) for name, item in plain.items()]
    elif isinstance(plain, list) and any(isinstance(item, (dict, list)) for item in plain):
        items = [(f"{place}[{i}]", item) for i, item in enumerate(plain)]
    else:
        return {place: plain}
    return {name: leaf for path, item in items for name, leaf in _flat(item, path).items()}


def _rows(card: Card) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place, rows in card.data.items():
        used = rows.used if rows.used is not None else rows.kept
        found[place] = f"{used:,} of {rows.kept:,} rows, {rows.identity[:12]} ({rows.source})"
    return found


def _cells(scores: Sequence[Score]) -> dict[str, float]:
    return {f"{one.task} {one.split} {one.language} {one.metric}": one.value for one in scores}


def _result(card: Card) -> dict[str, Any]:
    training = card.training
    found: dict[str, Any] = {
        "num_trainable": card.num_trainable,
        "num_bytes": card.num_bytes,
        "licence": card.licence,
        "backbone_fingerprint": card.backbone_fingerprint,
        **{f"files.{name}": one.sha256 for name, one in card.files.items()},
    }
    if training is not None:
        found |= {
            f"dev {training.metric}": training.dev_score,
            "best_step": training.best_step,
            "steps": training.steps,
            "seconds": training.seconds,
            "converged": training.converged,
        }
    return found


def _made(card: Card) -> dict[str, Any]:
    made = card.provenance
    found = {name: getattr(made, name) for name in made.__struct_fields__ if name != "packages"}
    return found | {f"packages.{name}": version for name, version in made.packages.items()}
