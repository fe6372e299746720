"""Sentences that translate each other, found by their vectors alone: Tatoeba (nearest) and BUCC (mining).

Shapes: N sentences in the batch, T tokens, D vector size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from adapters_xling.errors import ConfigError, DataError
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks.examples import Example, Features, Prediction, RetrieveExample

from .base import Batch, Kind
from .common import (
    Template,
    blank,
    check_at_least,
    check_task_file,
    cut,
    options_of,
    pad_rows,
    to_numpy,
    tokenize,
    wrong_type,
)
from .options import DEFAULTS
from .search import mine, nearest, unit

SIDES = ("query", "corpus")
MODES = ("nearest", "mine")
_GOLD_SIZE = 256


class Retrieve(Kind):
    """Retrieval without training: no head, no loss; the model pools one vector per sentence.

    Options: `mode` is "nearest" (cosine, the `top_k` best hits of every query) or "mine" (ratio margin over
    `neighbours` on either side, one-to-one; a query may stay without a hit). Equal texts are one sentence for mining,
    and every id of theirs gets the pair's score (jiant, the paper's code).
    """

    name = "retrieve"
    texts = "nothing: retrieval compares whole sets of sentences"
    example_type = RetrieveExample
    pooled = True
    trains = False
    default_options: ClassVar[dict[str, Any]] = DEFAULTS["retrieve"]

    def check_spec(self, task: TaskSpec) -> None:
        """See `Kind.check_spec`."""
        check_task_file(self, task, needs_labels=False)
        options = options_of(self, task)
        if options["mode"] not in MODES:
            raise ConfigError(f"task {task.name!r}: options.mode must be one of {MODES}, got {options['mode']!r}")
        check_at_least(task, options, top_k=1, neighbours=1)

    def check_example(self, example: Any, task: TaskSpec, *, need_gold: bool) -> str | None:
        """See `Kind.check_example`. Only mining tasks may have queries without a match."""
        if reason := wrong_type(self, example):
            return reason
        if blank(example.text):
            return "text is blank"
        if example.side not in SIDES:
            return f"side {example.side!r} is not one of {', '.join(SIDES)}"
        if example.side == "corpus" and example.matches:
            return "is on the corpus side but has matches; matches belong to queries"
        if len(set(example.matches)) != len(example.matches):
            return "lists a match twice"
        lone = example.side == "query" and not example.matches
        if need_gold and lone and options_of(self, task)["mode"] == "nearest":
            return "is a query without a match"
        return None

    def from_texts(self, texts: Sequence[str], *, id: str) -> RetrieveExample:
        """Refuse: a single sentence has nothing to be compared with."""
        raise DataError("retrieval compares whole sets of sentences; score it with `xling evaluate`")

    def encode(self, examples: Sequence[Example], tokenizer: Any, task: TaskSpec, *, max_length: int) -> list[Features]:
        """See `Kind.encode`; one feature per sentence."""
        rows: Sequence[RetrieveExample] = examples  # type: ignore[assignment]
        template = Template.of(tokenizer, pair=False)
        room = template.room(max_length)
        features = []
        for i, ids in enumerate(tokenize(tokenizer, [row.text for row in rows])):
            meta = {"cut": max(0, len(ids) - room)}
            features.append(Features(example=i, input_ids=[template.join(cut(ids, room))], meta=meta))
        return features

    def unreachable(self, features: Sequence[Features], examples: Sequence[Example], task: TaskSpec) -> dict[int, str]:
        """See `Kind.unreachable`; it depends on the whole split, so `encode`, which sees parts of it, cannot say."""
        if options_of(self, task)["mode"] != "mine":
            return {}
        rows: Sequence[RetrieveExample] = examples  # type: ignore[assignment]
        lossy = _not_one_to_one(rows)
        reason = "has several distinct matches, or shares one, where mining pairs one to one"
        return {i: reason for i, row in enumerate(rows) if row.side == "query" and row.id in lossy}

    def collate(self, features: Sequence[Features], *, pad_id: int) -> Batch:
        """See `Kind.collate`."""
        return pad_rows(features, pad_id)

    def make_head(self, task: TaskSpec, *, hidden_size: int, dropout: float) -> None:
        """There is none."""
        return

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """There is none.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("kind 'retrieve' has no loss: it evaluates an encoder as it is; train on another task first")

    def outputs(self, logits: Tensor, batch: Batch) -> list[np.ndarray]:
        """One vector (D,) per sentence."""
        return list(to_numpy(logits))

    def decode(
        self,
        outputs: Sequence[np.ndarray],
        features: Sequence[Features],
        examples: Sequence[Example],
        task: TaskSpec,
    ) -> list[Prediction]:
        """A ranking ((corpus id, score), …) for each query, in the order of the queries.

        Raises:
            DataError: when one side is empty, or a query's match is not among the corpus.
        """
        rows: Sequence[RetrieveExample] = examples  # type: ignore[assignment]
        by_example = {feature.example: vector for feature, vector in zip(features, outputs, strict=True)}
        queries, corpus = _sides(rows)
        options = options_of(self, task)
        if options["mode"] == "nearest":
            scores_QK, indices_QK = nearest(
                unit(np.stack([by_example[i] for i in queries])),
                unit(np.stack([by_example[i] for i in corpus])),
                k=options["top_k"],
            )
            return [
                Prediction(rows[i].id, tuple((rows[corpus[j]].id, float(s)) for j, s in zip(js, scores, strict=True)))
                for i, js, scores in zip(queries, indices_QK, scores_QK, strict=True)
            ]
        query_texts, corpus_texts = _by_text(rows, queries), _by_text(rows, corpus)
        pairs = mine(
            unit(np.stack([by_example[same[0]] for same in query_texts])),
            unit(np.stack([by_example[same[0]] for same in corpus_texts])),
            k=options["neighbours"],
        )
        hits: dict[int, tuple[tuple[str, float], ...]] = {}
        for query, sentence, score in pairs:
            for i in query_texts[query]:
                hits[i] = tuple((rows[j].id, score) for j in corpus_texts[sentence])
        return [Prediction(rows[i].id, hits.get(i, ())) for i in queries]

    def gold_outputs(
        self, features: Sequence[Features], examples: Sequence[Example], task: TaskSpec
    ) -> list[np.ndarray]:
        """Vectors by which every query finds its matches.

        Nearest: see `_gold_directions`. Mining: vectors are equal exactly for sentences that belong together by matches
        or by text. A third of the dimensions each serves matched sentences, lone queries and the lone corpus, so that
        lone sentences are at right angles to the whole other side. Directions are random but fixed.
        """
        rows: Sequence[RetrieveExample] = examples  # type: ignore[assignment]
        if options_of(self, task)["mode"] == "nearest":
            directions = _gold_directions(rows)
            return [directions[feature.example] for feature in features]
        group = _groups(rows)
        sides_of: dict[int, set[str]] = defaultdict(set)
        for i, row in enumerate(rows):
            sides_of[group[i]].add(row.side)
        outputs = []
        for feature in features:
            i = feature.example
            third = 0 if len(sides_of[group[i]]) == 2 else 1 + SIDES.index(rows[i].side)
            generator = torch.Generator().manual_seed(group[i])
            vector = np.zeros(3 * _GOLD_SIZE, dtype=np.float32)
            vector[third * _GOLD_SIZE : (third + 1) * _GOLD_SIZE] = torch.randn(_GOLD_SIZE, generator=generator).numpy()
            outputs.append(vector)
        return outputs

    def gold(self, example: Any) -> tuple[str, tuple[str, ...]]:
        """The query's id and the ids of its matches."""
        return example.id, example.matches

    def majority(self, train: Sequence[Example], examples: Sequence[Example], task: TaskSpec) -> list[Prediction]:
        """The first corpus sentence for every query."""
        rows: Sequence[RetrieveExample] = examples  # type: ignore[assignment]
        queries, corpus = _sides(rows)
        return [Prediction(rows[i].id, ((rows[corpus[0]].id, 0.0),)) for i in queries]


def _gold_directions(rows: Sequence[RetrieveExample]) -> list[np.ndarray]:
    """A random but fixed direction for every corpus sentence, and for a query the sum of its matches' directions: one
    query may have several answers (LAReQA), and one sentence answer several queries, which share others or do not.
    """
    queries, corpus = _sides(rows)
    directions: list[np.ndarray] = [np.zeros(0, dtype=np.float32)] * len(rows)
    place = {rows[i].id: i for i in corpus}
    for i in corpus:
        generator = torch.Generator().manual_seed(i)
        directions[i] = torch.randn(4 * _GOLD_SIZE, generator=generator).numpy()
    for i in queries:
        matched = [directions[place[match]] for match in rows[i].matches]
        directions[i] = np.asarray(sum(matched, np.zeros(4 * _GOLD_SIZE, dtype=np.float32)))
    return directions


def _sides(rows: Sequence[RetrieveExample]) -> tuple[list[int], list[int]]:
    """Indices of queries and of the corpus.

    Raises:
        DataError: when one side is empty, or a query's match is not among the corpus.
    """
    queries = [i for i, row in enumerate(rows) if row.side == "query"]
    corpus = [i for i, row in enumerate(rows) if row.side == "corpus"]
    if not queries or not corpus:
        raise DataError(f"retrieval needs both sides, got {len(queries)} queries and {len(corpus)} corpus sentences")
    known = {rows[i].id for i in corpus}
    for i in queries:
        for match in rows[i].matches:
            if match not in known:
                raise DataError(
                    f"query {rows[i].id!r}: its match {match!r} is not among the {len(corpus)} corpus sentences; "
                    "retrieval is scored on whole splits"
                )
    return queries, corpus


def _by_text(rows: Sequence[RetrieveExample], indices: Sequence[int]) -> list[list[int]]:
    """Indices with equal text together, in order of first appearance."""
    same: dict[str, list[int]] = defaultdict(list)
    for i in indices:
        same[rows[i].text].append(i)
    return list(same.values())


def _groups(rows: Sequence[RetrieveExample]) -> list[int]:
    """For each sentence the smallest index among all that matches or equal texts on its side tie it to."""
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def tie(i: int, j: int) -> None:
        low, high = sorted((root(i), root(j)))
        parent[high] = low

    _, corpus = _sides(rows)
    at = {rows[i].id: i for i in corpus}
    first: dict[tuple[str, str], int] = {}
    for i, row in enumerate(rows):
        tie(i, first.setdefault((row.side, row.text), i))
        for match in row.matches:
            tie(i, at[match])
    return [root(i) for i in range(len(rows))]


def _not_one_to_one(rows: Sequence[RetrieveExample]) -> frozenset[str]:
    """Ids of queries whose gold a one-to-one pairing of texts cannot give in full."""
    queries, corpus = _sides(rows)
    text_of = {rows[i].id: rows[i].text for i in corpus}
    texts_to_ids: dict[str, set[str]] = defaultdict(set)
    for i in corpus:
        texts_to_ids[rows[i].text].add(rows[i].id)
    wanted: dict[str, set[str]] = defaultdict(set)
    wanting: dict[str, set[str]] = defaultdict(set)
    for i in queries:
        for match in rows[i].matches:
            wanted[rows[i].text].add(text_of[match])
            wanting[text_of[match]].add(rows[i].text)
    lossy = set()
    for i in queries:
        texts = wanted[rows[i].text]
        shared = any(len(wanting[text]) > 1 for text in texts)
        partial = any(texts_to_ids[text] - set(rows[i].matches) for text in texts)
        if len(texts) > 1 or shared or partial:
            lossy.add(rows[i].id)
    return frozenset(lossy)
