"""Scores of labels: accuracy, and accuracy with F1 for two-class tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapters_xling.errors import DataError

from .registry import Scores, Units, f1_scores, means, metric, share


def _right(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Units:
    return {"right": [int(gold == predicted) for gold, predicted in zip(golds, predictions, strict=True)]}


@metric(main="accuracy", kinds="sentence choice", units=_right, combine=means(accuracy="right"))
def accuracy(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Share of labels or indices that are right."""
    right = sum(gold == predicted for gold, predicted in zip(golds, predictions, strict=True))
    return {"accuracy": 100.0 * right / len(golds)}


def _masked(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Units:
    return {
        "right": [sum(guess == gold for guess, gold in pairs) for pairs in predictions],
        "masked": [len(pairs) for pairs in predictions],
    }


@metric(
    main="masked_accuracy",
    kinds="mlm",
    units=_masked,
    combine=lambda sums: {"masked_accuracy": share(sums["right"], sums["masked"])},
)
def masked_accuracy(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Share of masked tokens that were guessed, over all texts together; predictions are (guess, gold) pairs.

    Raises:
        DataError: when no token was masked.
    """
    pairs = [pair for prediction in predictions for pair in prediction]
    if not pairs:
        raise DataError(f"metric 'masked_accuracy' ({language}): no token was masked; are all of them unknown?")
    return {"masked_accuracy": 100.0 * sum(guess == gold for guess, gold in pairs) / len(pairs)}


def _right_and_positive(golds: Sequence[Any], predictions: Sequence[Any], language: str, positive: str) -> Units:
    return _right(golds, predictions, language) | {
        "correct": [int(g == p == positive) for g, p in zip(golds, predictions, strict=True)],
        "predicted": [int(predicted == positive) for predicted in predictions],
        "gold": [int(gold == positive) for gold in golds],
    }


def _accuracy_and_f1(sums: Mapping[str, Any]) -> dict[str, Any]:
    import numpy as np

    accuracy = share(sums["right"], sums["num"])
    f1 = share(2 * np.asarray(sums["correct"]), np.asarray(sums["predicted"]) + np.asarray(sums["gold"]))
    return {"accuracy": accuracy, "f1": f1, "mean": (accuracy + f1) / 2}


@metric(main="mean", kinds="sentence", argument="1", units=_right_and_positive, combine=_accuracy_and_f1)
def accuracy_f1(golds: Sequence[Any], predictions: Sequence[Any], language: str, positive: str) -> Scores:
    """Accuracy, F1 of the `positive` label and their mean (GLUE's score for QQP). The default positive is ``1``.

    Raises:
        DataError: when the positive label is neither in the golds nor predicted: its F1 does not exist.
    """
    num_gold = sum(gold == positive for gold in golds)
    num_predicted = sum(predicted == positive for predicted in predictions)
    if not num_gold + num_predicted:
        raise DataError(
            f"metric 'accuracy_f1' ({language}): label {positive!r} is neither in the golds nor predicted; name the "
            "positive label after a colon, e.g. accuracy_f1:duplicate"
        )
    both = sum(gold == predicted == positive for gold, predicted in zip(golds, predictions, strict=True))
    f1 = f1_scores(both, num_predicted, num_gold)["f1"]
    share = accuracy.function(golds, predictions, language)["accuracy"]
    return {"accuracy": share, "f1": f1, "mean": (share + f1) / 2}
