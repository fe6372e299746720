"""Words and one tag per word: part of speech, named entities, supertags.

Shapes: N windows (a long sentence has several), T tokens, W words of one window, D hidden size, C tags.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from adapters_xling.errors import DataError
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks.examples import Example, Features, Prediction, TagExample

from .base import IGNORE, Batch, Kind, pad
from .common import (
    GOLD_LOGIT,
    Template,
    TokenHead,
    check_task_file,
    gold_labels,
    most_frequent,
    pad_rows,
    softmax,
    to_numpy,
    tokenize,
    wrong_type,
)

_SENTENCES_AT_ONCE = 1024


class Tag(Kind):
    """Sequence labelling: the tag is read at the first sub-word of each word.

    A sentence that is too long is split into several windows at word boundaries, never cut, so every word gets a
    prediction. A word that tokenises to nothing, or to more than a window holds, becomes the unknown token; of the
    latter `meta["cut"]` counts the lost pieces. Source: `udpos_tokenize_preprocess` of XTREME's utils_preprocess.py.
    """

    name = "tag"
    texts = "one sentence, its words separated by blanks"
    example_type = TagExample

    def check_spec(self, task: TaskSpec) -> None:
        """See `Kind.check_spec`."""
        check_task_file(self, task, needs_labels=True)

    def check_example(self, example: Any, task: TaskSpec, *, need_gold: bool) -> str | None:
        """See `Kind.check_example`. Invisible words (a lone joiner) are allowed: treebanks have them."""
        if reason := wrong_type(self, example):
            return reason
        if not example.words:
            return "has no words"
        if "" in example.words:
            return f"word {example.words.index('')} is empty"
        if example.tags is None:
            return "has no tags" if need_gold else None
        if len(example.tags) != len(example.words):
            return f"has {len(example.words)} words but {len(example.tags)} tags"
        for i, tag in enumerate(example.tags):
            if tag not in task.labels:
                return f"tag {tag!r} of word {i} ({example.words[i]!r}) is not one of {', '.join(task.labels)}"
        return None

    def from_texts(self, texts: Sequence[str], *, id: str) -> TagExample:
        """Make an example without gold: one sentence, its words separated by blanks."""
        if not (len(texts) == 1 and bool(texts[0].split())):
            raise DataError(f"{len(texts)} texts given; this kind of task takes {self.texts}")
        return TagExample(id=id, words=tuple(texts[0].split()))

    def encode(self, examples: Sequence[Example], tokenizer: Any, task: TaskSpec, *, max_length: int) -> list[Features]:
        """See `Kind.encode`; `meta` holds the index of the window's first word and each word's token position."""
        rows: Sequence[TagExample] = examples  # type: ignore[assignment]
        template = Template.of(tokenizer, pair=False)
        room = template.room(max_length)
        index = {label: i for i, label in enumerate(task.labels)}
        unknown = [tokenizer.unk_token_id]
        features = []
        for i, (row, pieces) in enumerate(zip(rows, _pieces_by_word(rows, tokenizer), strict=True)):
            shown = [word if len(word) <= room else unknown for word in pieces]
            for first, last in _windows([len(word) for word in shown], room):
                tokens: list[int] = []
                labels: list[int] = []
                positions: list[int] = []
                lost = 0
                for w in range(first, last):
                    lost += len(pieces[w]) if shown[w] is not pieces[w] else 0
                    positions.append(len(template.parts[0]) + len(tokens))
                    tokens += shown[w]
                    if row.tags is not None:
                        labels += [index[row.tags[w]], *[IGNORE] * (len(shown[w]) - 1)]
                before, after = ([IGNORE] * len(part) for part in template.parts)
                features.append(
                    Features(
                        example=i,
                        input_ids=[template.join(tokens)],
                        label=[*before, *labels, *after] if row.tags is not None else None,
                        meta={"cut": lost, "first_word": first, "positions": positions},
                    )
                )
        return features

    def check_label(self, features: Features, task: TaskSpec) -> str | None:
        """See `Kind.check_label`."""
        if len(features.label) != len(features.input_ids[0]):
            return f"{len(features.label)} labels for {len(features.input_ids[0])} tokens"
        labelled = [i for i, label in enumerate(features.label) if label != IGNORE]
        if labelled != features.meta["positions"]:
            return f"labels stand at {labelled}, words begin at {features.meta['positions']}"
        bad = [features.label[i] for i in labelled if not 0 <= features.label[i] < len(task.labels)]
        return f"tag id {bad[0]} is not an index below {len(task.labels)}" if bad else None

    def collate(self, features: Sequence[Features], *, pad_id: int) -> Batch:
        """See `Kind.collate`; `word_mask` (N,T) marks the first sub-word of every word."""
        batch = pad_rows(features, pad_id)
        batch["word_mask"] = torch.zeros_like(batch["attention_mask"], dtype=torch.bool)
        for i, feature in enumerate(features):
            batch["word_mask"][i, feature.meta["positions"]] = True
        if any(feature.label is not None for feature in features):
            rows = [feature.label or [IGNORE] * len(feature.input_ids[0]) for feature in features]
            batch["labels"] = pad(rows, IGNORE)
        return batch

    def make_head(self, task: TaskSpec, *, hidden_size: int, dropout: float) -> nn.Module:
        """See `Kind.make_head`: (N,T,D) -> (N,T,C)."""
        assert task.labels, f"task {task.name!r}: its labels were not read yet (tasks.with_labels)"
        return TokenHead(hidden_size, len(task.labels), dropout)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross entropy over the tags, averaged over the words of the batch."""
        return functional.cross_entropy(logits.flatten(0, 1).float(), gold_labels(batch).flatten(), ignore_index=IGNORE)

    def outputs(self, logits: Tensor, batch: Batch) -> list[np.ndarray]:
        """Logits (W,C) of the words of each window; other tokens are not kept."""
        return [to_numpy(row_TC[mask_T]) for row_TC, mask_T in zip(logits, batch["word_mask"], strict=True)]

    def decode(
        self,
        outputs: Sequence[np.ndarray],
        features: Sequence[Features],
        examples: Sequence[Example],
        task: TaskSpec,
    ) -> list[Prediction]:
        """One tag per word, windows put together again; `detail["probabilities"]` is that of each word's tag."""
        found: list[dict[int, tuple[str, float]]] = [{} for _ in examples]
        for logits_WC, feature in zip(outputs, features, strict=True):
            for offset, shares_C in enumerate(softmax(logits_WC)):
                best = int(shares_C.argmax())
                place = feature.meta["first_word"] + offset
                found[feature.example][place] = task.labels[best], round(float(shares_C[best]), 4)
        predictions = []
        for example, tags in zip(examples, found, strict=True):
            num_words = len(example.words)  # type: ignore[union-attr]
            assert len(tags) == num_words, f"{example.id}: {len(tags)} tags for {num_words} words"
            values, shares = zip(*(tags[w] for w in range(num_words)), strict=True)
            predictions.append(Prediction(example.id, values, {"probabilities": shares}))
        return predictions

    def gold_outputs(
        self, features: Sequence[Features], examples: Sequence[Example], task: TaskSpec
    ) -> list[np.ndarray]:
        """See `Kind.gold_outputs`."""
        outputs = []
        for feature in features:
            logits_WC = np.zeros((len(feature.meta["positions"]), len(task.labels)), dtype=np.float32)
            if feature.label is not None:
                tags = [feature.label[position] for position in feature.meta["positions"]]
                logits_WC[np.arange(len(tags)), tags] = GOLD_LOGIT
            outputs.append(logits_WC)
        return outputs

    def gold(self, example: Any) -> tuple[str, ...] | None:
        """The tags."""
        return example.tags

    def majority(self, train: Sequence[Example], examples: Sequence[Example], task: TaskSpec) -> list[Prediction]:
        """The most frequent tag of `train` for every word; among equals the first of `task.labels`."""
        tag = most_frequent((tag for row in train for tag in self.gold(row) or ()), task.labels)
        return [Prediction(example.id, (tag,) * len(example.words)) for example in examples]  # type: ignore[union-attr]


def _pieces_by_word(rows: Sequence[TagExample], tokenizer: Any) -> list[list[list[int]]]:
    """Token ids of every word of every sentence; never an empty list for a word.

    Where a tokenizer keeps the blank in front of a word as part of it but does not put one there (RoBERTa), every word
    is given with one, as it stands in running text; so does the transformers library's own tagging example.
    """
    unknown = [tokenizer.unk_token_id]
    if _wants_blanks(tokenizer):
        ids = iter(tokenize(tokenizer, [f" {word}" for row in rows for word in row.words]))
        return [[next(ids) or unknown for _ in row.words] for row in rows]
    result = []
    for at in range(0, len(rows), _SENTENCES_AT_ONCE):
        part = rows[at : at + _SENTENCES_AT_ONCE]
        encoded = tokenizer(
            [list(row.words) for row in part], is_split_into_words=True, add_special_tokens=False, verbose=False
        )
        for i, row in enumerate(part):
            pieces: list[list[int]] = [[] for _ in row.words]
            for token, word in zip(encoded["input_ids"][i], encoded.word_ids(i), strict=True):
                pieces[word].append(token)
            result.append([ids or unknown for ids in pieces])
    return result


def _wants_blanks(tokenizer: Any) -> bool:
    """Whether a word differs with and without a blank in front, and the tokenizer adds none by itself."""
    step = tokenizer.backend_tokenizer.pre_tokenizer
    return step is not None and json.loads(step.__getstate__()).get("add_prefix_space") is False


def _windows(lengths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """First and past-the-last word of each window, filled greedily.

    >>> _windows([2, 2, 2, 5], room=5)
    [(0, 2), (2, 3), (3, 4)]
    """
    borders, used = [0], 0
    for word, length in enumerate(lengths):
        if used + length > room:
            borders.append(word)
            used = 0
        used += length
    return list(zip(borders, [*borders[1:], len(lengths)], strict=True))
