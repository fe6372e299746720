"""Scores of labels: accuracy, and accuracy with F1 for two-class tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapters_xling.errors import DataError

from .registry import Scores, f1_scores, metric


@metric(main="accuracy", kinds="sentence choice")
def accuracy(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Share of labels or indices that are right."""
    right = sum(gold == predicted for gold, predicted in zip(golds, predictions, strict=True))
    return {"accuracy": 100.0 * right / len(golds)}


@metric(main="masked_accuracy", kinds="mlm")
def masked_accuracy(golds: Sequence[Any], predictions: Sequence[Any], language: str) -> Scores:
    """Share of masked tokens that were guessed, over all texts together; predictions are (guess, gold) pairs.

    Raises:
        DataError: when no token was masked.
    """
    pairs = [pair for prediction in predictions for pair in prediction]
    if not pairs:
        raise DataError(f"metric 'masked_accuracy' ({language}): no token was masked; are all of them unknown?")
    return {"masked_accuracy": 100.0 * sum(guess == gold for guess, gold in pairs) / len(pairs)}


@metric(main="mean", kinds="sentence", argument="1")
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
