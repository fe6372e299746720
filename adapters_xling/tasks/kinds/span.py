"""A question about a context, answered by a span of it: SQuAD, XQuAD, MLQA, TyDiQA.

Shapes: N windows, T tokens, D hidden size; the last axis of logits is (start, end).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from adapters_xling.errors import DataError
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks.examples import Example, Features, Prediction, SpanExample

from .base import IGNORE, Batch, Kind
from .common import (
    GOLD_LOGIT,
    Template,
    TokenHead,
    blank,
    check_at_least,
    check_task_file,
    gold_labels,
    options_of,
    pad_rows,
    to_numpy,
    tokenize,
    wrong_type,
)
from .options import DEFAULTS
from .span_decode import Tokens, best_span, locate, tokenize_contexts

NO_ANSWER = 0
"""Token position (that of ``<s>``) which stands for "not in this window"."""

_LEAST_ROOM = 12


class Span(Kind):
    """Extractive question answering over overlapping windows ``<s> question </s></s> part of the context </s>``.

    Options: `doc_stride` is how many tokens later the next window starts; a stride that does not fit the room a window
    has for context becomes half of that room, with a warning. A question keeps `max_query_length` tokens, and never
    more than half of a row. `max_answer_length` counts tokens. With `impossible` (SQuAD 2.0) the empty answer is
    predicted when the lowest ``<s>`` score among the windows beats the best span by more than `null_threshold`.

    Decoding takes the plain maximum over all windows, as the transformers example does by default; it does not
    restrict a token to the window in which it has most context (the paper's code does).
    """

    name = "span"
    texts = "a question and its context"
    example_type = SpanExample
    default_options: ClassVar[dict[str, Any]] = DEFAULTS["span"]

    def check_spec(self, task: TaskSpec) -> None:
        """See `Kind.check_spec`."""
        check_task_file(self, task, needs_labels=False)
        check_at_least(
            task, options_of(self, task), doc_stride=1, max_query_length=1, n_best_size=1, max_answer_length=1
        )

    def check_example(self, example: Any, task: TaskSpec, *, need_gold: bool) -> str | None:
        """See `Kind.check_example`. Blank answers are the placeholders of XTREME's published test files."""
        if reason := wrong_type(self, example):
            return reason
        if blank(example.context):
            return "context is blank"
        if blank(example.question):
            return "question is blank"
        for answer in example.answers:
            if blank(answer.text):
                return "has a blank answer (a placeholder for withheld gold?)"
            found = example.context[max(answer.start, 0) : max(answer.start, 0) + len(answer.text)]
            if answer.start < 0 or found != answer.text:
                return f"answer {answer.text!r} is not in the context at character {answer.start} ({found!r} is)"
        if example.impossible and example.answers:
            return "is marked impossible but has answers"
        if example.impossible and not options_of(self, task)["impossible"]:
            return "is unanswerable, and the task does not say options.impossible: true"
        if need_gold and not example.answers and not example.impossible:
            return "has no answer"
        return None

    def from_texts(self, texts: Sequence[str], *, id: str) -> SpanExample:
        """Make an example without gold: a question and its context."""
        if not (len(texts) == 2):
            raise DataError(f"{len(texts)} texts given; this kind of task takes {self.texts}")
        return SpanExample(id=id, question=texts[0], context=texts[1])

    def encode(self, examples: Sequence[Example], tokenizer: Any, task: TaskSpec, *, max_length: int) -> list[Features]:
        """See `Kind.encode`; one feature per window, labelled from the first gold answer.

        `meta`: `starts` and `ends` (characters of all tokens of the context, shared by its windows), `first` (index of
        the window's first context token), `count` (of its context tokens) and `position` (of the first one in the row).
        """
        rows: Sequence[SpanExample] = examples  # type: ignore[assignment]
        options = options_of(self, task)
        template = Template.of(tokenizer, pair=True)
        text_room = template.room(max_length, least=_LEAST_ROOM)
        limit = min(options["max_query_length"], text_room // 2)
        contexts = tokenize_contexts(tokenizer, [row.context for row in rows])
        questions = tokenize(tokenizer, [row.question for row in rows])
        features, narrowed = [], 0
        for i, (row, question) in enumerate(zip(rows, questions, strict=True)):
            query, tokens = question[:limit], contexts[row.context]
            room = text_room - len(query)
            step = options["doc_stride"]
            if step >= room:
                step = room // 2
                narrowed += len(tokens.ids) > room
            gold = _gold_tokens(row, tokens)
            position = len(template.parts[0]) + len(query) + len(template.parts[1])
            windows = []
            for first in range(0, max(1, len(tokens.ids) - room + step), step):
                part = tokens.ids[first : first + room]
                label: tuple[int, int] | None = (NO_ANSWER, NO_ANSWER)
                if gold is None and not row.impossible and not row.answers:
                    label = None
                elif gold is not None and first <= gold[0] and gold[1] < first + len(part):
                    label = (position + gold[0] - first, position + gold[1] - first)
                meta = {
                    "cut": (len(question) - len(query)) if first == 0 else 0,
                    "starts": tokens.starts,
                    "ends": tokens.ends,
                    "first": first,
                    "count": len(part),
                    "position": position,
                }
                windows.append(Features(i, [template.join(query, part)], label, meta, template.second(query)))
            if reason := _unreachable(row, tokens, gold, windows, options["max_answer_length"]):
                for window in windows:
                    window.meta["unreachable"] = reason
            features += windows
        if narrowed:
            warnings.warn(
                f"task {task.name!r}: options.doc_stride {options['doc_stride']} does not fit max_length {max_length}; "
                f"{narrowed} questions use half of a window instead",
                stacklevel=2,
            )
        return features

    def check_label(self, features: Features, task: TaskSpec) -> str | None:
        """See `Kind.check_label`."""
        start, end = features.label
        low = features.meta["position"]
        high = low + features.meta["count"]
        if (start, end) != (NO_ANSWER, NO_ANSWER) and not low <= start <= end < high:
            return f"answer tokens {start}..{end} are outside the context's tokens {low}..{high - 1}"
        return None

    def collate(self, features: Sequence[Features], *, pad_id: int) -> Batch:
        """See `Kind.collate`; `labels` (N,2) are start and end positions."""
        batch = pad_rows(features, pad_id)
        if any(feature.label is not None for feature in features):
            batch["labels"] = torch.tensor([feature.label or (IGNORE, IGNORE) for feature in features])
        return batch

    def make_head(self, task: TaskSpec, *, hidden_size: int, dropout: float) -> nn.Module:
        """See `Kind.make_head`: (N,T,D) -> (N,T,2)."""
        return TokenHead(hidden_size, 2, dropout)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean of the cross entropies of start and end over the tokens that are not padding."""
        gold_N2 = gold_labels(batch)
        padding_NT1 = batch["attention_mask"].eq(0)[..., None]
        logits_NT2 = logits.float().masked_fill(padding_NT1, torch.finfo(torch.float32).min)
        return functional.cross_entropy(logits_NT2, gold_N2, ignore_index=IGNORE)

    def outputs(self, logits: Tensor, batch: Batch) -> list[np.ndarray]:
        """Logits (T,2) of each window without padding."""
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        return [row_T2[:length] for row_T2, length in zip(to_numpy(logits), lengths, strict=True)]

    def decode(
        self,
        outputs: Sequence[np.ndarray],
        features: Sequence[Features],
        examples: Sequence[Example],
        task: TaskSpec,
    ) -> list[Prediction]:
        """The answer's text as it stands in the context; "" for no answer.

        `detail`: `score` (start + end logit), `null_score`, and the characters [`start`, `end`) of the best span.
        """
        options = options_of(self, task)
        best: list[dict[str, Any]] = [{"score": -math.inf} for _ in examples]
        null = [math.inf] * len(examples)
        for logits_T2, feature in zip(outputs, features, strict=True):
            i, meta = feature.example, feature.meta
            null[i] = min(null[i], float(logits_T2[NO_ANSWER].sum()))
            first, count, position = meta["first"], meta["count"], meta["position"]
            starts_W = np.asarray(meta["starts"][first : first + count])
            ends_W = np.asarray(meta["ends"][first : first + count])
            part_W2 = logits_T2[position : position + count]
            found = best_span(
                part_W2[:, 0],
                part_W2[:, 1],
                starts_W < ends_W,
                max_tokens=options["max_answer_length"],
                n_best=options["n_best_size"],
            )
            if found is not None and found.score > best[i]["score"]:
                best[i] = {"score": found.score, "start": int(starts_W[found.first]), "end": int(ends_W[found.last])}
        predictions = []
        for example, found_span, null_score in zip(examples, best, null, strict=True):
            answerless = "start" not in found_span
            if options["impossible"]:
                answerless |= null_score - found_span["score"] > options["null_threshold"]
            span = slice(found_span.get("start", 0), found_span.get("end", 0))
            text = "" if answerless else example.context[span]  # type: ignore[union-attr]
            detail = {"null_score": null_score, **(found_span if "start" in found_span else {})}
            predictions.append(Prediction(example.id, text, detail))
        return predictions

    def gold_outputs(
        self, features: Sequence[Features], examples: Sequence[Example], task: TaskSpec
    ) -> list[np.ndarray]:
        """See `Kind.gold_outputs`."""
        outputs = []
        for feature in features:
            logits_T2 = np.zeros((len(feature.input_ids[0]), 2), dtype=np.float32)
            if feature.label is not None:
                logits_T2[list(feature.label), [0, 1]] = GOLD_LOGIT
            outputs.append(logits_T2)
        return outputs

    def gold(self, example: Any) -> tuple[str, ...] | None:
        """All answers' texts; () for an unanswerable question; None where the gold is withheld."""
        if not example.answers and not example.impossible:
            return None
        return tuple(answer.text for answer in example.answers)

    def majority(self, train: Sequence[Example], examples: Sequence[Example], task: TaskSpec) -> list[Prediction]:
        """No answer, where more rows of `train` have none than begin with theirs; else the first blank-separated word
        of the context (in scripts without blanks that may be much of it)."""
        rows: Sequence[SpanExample] = train  # type: ignore[assignment]
        unanswered = sum(row.impossible for row in rows)
        none = unanswered > sum(any(_first_word(row) == answer.text for answer in row.answers) for row in rows)
        return [Prediction(row.id, "" if none else _first_word(row)) for row in examples]  # type: ignore[arg-type]


def _first_word(row: SpanExample) -> str:
    return row.context.split()[0]


def _gold_tokens(row: SpanExample, tokens: Tokens) -> tuple[int, int] | None:
    """Tokens of the first gold answer in the whole context."""
    if not row.answers:
        return None
    answer = row.answers[0]
    return locate(tokens, answer.start, answer.start + len(answer.text))


def _unreachable(
    row: SpanExample, tokens: Tokens, gold: tuple[int, int] | None, windows: Sequence[Features], max_tokens: int
) -> str | None:
    """Say why decoding cannot give the first gold answer exactly, or None when it can."""
    if not row.answers:
        return None
    if gold is None:
        return "answer has no visible token"
    if gold[1] - gold[0] + 1 > max_tokens:
        return "answer is longer than options.max_answer_length"
    if all(window.label == (NO_ANSWER, NO_ANSWER) for window in windows):
        return "answer does not fit in one window"
    if row.context[tokens.starts[gold[0]] : tokens.ends[gold[1]]] != row.answers[0].text.strip():
        return "answer does not begin or end where a token does"
    return None
