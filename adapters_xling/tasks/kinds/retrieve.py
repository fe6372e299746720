"""Sentences that belong together, found by their vectors alone: nearest (Tatoeba, LAReQA, Mewsli-X), mining (BUCC).

Shapes: N sentences in the batch, T tokens, D vector size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from adapters_xling import metrics
from adapters_xling.errors import ConfigError, DataError, unknown
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks.examples import Example, Features, Prediction, RetrieveExample
from adapters_xling.tasks.sources import has_split

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
from .ideal import groups, ideal_vectors, not_one_to_one, outranked
from .options import DEFAULTS
from .search import mine, search
from .vectors import Subset, Vectors, as_vectors, unit

SIDES = ("query", "corpus")
MODES = ("nearest", "mine")
POOLINGS = ("mean", "mean-text", "first")
"""How token vectors become one: mean over all tokens; over those of the text, without special tokens; the first
token's (`<s>`, what others call cls)."""


class Retrieve(Kind):
    """Retrieval without training: no head, no loss; the model pools one vector per sentence.

    Options: `mode` is "nearest" (cosine, the `top_k` best hits of every query, which may have several matches) or
    "mine" (ratio margin over `neighbours` on either side, one-to-one; a query may stay without a hit). Equal texts are
    one sentence for mining, and every id of theirs gets the pair's score (jiant, the paper's code). `layer` and
    `pooling` say where sentences are read instead of where the backbone's row does; -1 and "" leave that to the row.
    """

    name = "retrieve"
    texts = "nothing: retrieval compares whole sets of sentences"
    example_type = RetrieveExample
    trains = False
    vectors = True
    default_options: ClassVar[dict[str, Any]] = DEFAULTS["retrieve"]

    def check_spec(self, task: TaskSpec) -> None:
        """See `Kind.check_spec`."""
        check_task_file(self, task, needs_labels=False)
        options = options_of(self, task)
        if options["mode"] not in MODES:
            raise ConfigError(f"task {task.name!r}: options.mode must be one of {MODES}, got {options['mode']!r}")
        if options["pooling"] and options["pooling"] not in POOLINGS:
            raise unknown("pooling", options["pooling"], POOLINGS, f"task {task.name!r}: options.pooling")
        check_at_least(task, options, top_k=1, neighbours=1, layer=-1)

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
        rows: Sequence[RetrieveExample] = examples  # type: ignore[assignment]
        queries, corpus = _sides(rows)
        if options_of(self, task)["mode"] == "mine":
            lossy = not_one_to_one(rows, queries, corpus)
            reason = "has several distinct matches, or shares one, where mining pairs one to one"
        else:
            lossy = outranked(rows, queries, corpus)
            reason = "has a match whose text also stands in the corpus without being a match"
        return {i: reason for i in queries if rows[i].id in lossy}

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
        assert [feature.example for feature in features] == list(range(len(examples)))
        return self.decode_vectors(as_vectors(unit(np.stack(outputs))), examples, task)

    def decode_vectors(
        self,
        vectors: Vectors,
        examples: Sequence[Example],
        task: TaskSpec,
        *,
        device: Any = "cpu",
        on_step: Callable[[str, int, int], Any] | None = None,
    ) -> list[Prediction]:
        """See `Kind.decode_vectors`; raises as `decode`."""
        rows: Sequence[RetrieveExample] = examples  # type: ignore[assignment]
        queries, corpus = _sides(rows)
        options = options_of(self, task)
        mining = options["mode"] == "mine"
        query_rows, query_twins = _by_text(rows, queries) if mining else (queries, {})
        corpus_rows, corpus_twins = _by_text(rows, corpus) if mining else (corpus, {})
        done = 0

        def on_block(count: int) -> None:
            nonlocal done
            done += count
            if on_step:
                on_step("search", done, len(query_rows))

        sides = Subset(vectors, np.array(query_rows)), Subset(vectors, np.array(corpus_rows))
        if not mining:
            predictions = []
            for top, scores_RK, indices_RK in search(*sides, k=options["top_k"], device=device, on_block=on_block):
                for i, js, scores in zip(queries[top:], indices_RK.tolist(), scores_RK.tolist(), strict=False):
                    hits = tuple((rows[corpus[j]].id, score) for j, score in zip(js, scores, strict=True))
                    predictions.append(Prediction(rows[i].id, hits))
            return predictions
        pairs = mine(*sides, k=options["neighbours"], device=device, on_block=on_block)
        found: dict[int, tuple[tuple[str, float], ...]] = {}
        for query, sentence, score in zip(*(part.tolist() for part in pairs), strict=True):
            i, j = query_rows[query], corpus_rows[sentence]
            hits = tuple((rows[twin].id, score) for twin in corpus_twins.get(j, (j,)))
            found.update(dict.fromkeys(query_twins.get(i, (i,)), hits))
        return [Prediction(rows[i].id, found.get(i, ())) for i in queries]

    def tuned_on(self, task: TaskSpec, split: str) -> str | None:
        """Mining's threshold for the test split is chosen on the dev split (XTREME), where the task has one."""
        mining = options_of(self, task)["mode"] == "mine"
        return "dev" if mining and split == "test" and has_split(task, "dev") else None

    def tune(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, float | None]:
        """Choose the threshold that maximises F1 over these pairs; `metrics.best_threshold` says how.

        None stands for a threshold above every pair: not one was right.

        Raises:
            DataError: when there is no gold pair.
        """
        scores, correct, num_gold = [], [], 0
        for (_, matches), prediction in zip(golds, predictions, strict=True):
            num_gold += len(matches)
            scores += [score for _, score in prediction.value]
            correct += [name in matches for name, _ in prediction.value]
        threshold, f1 = metrics.best_threshold(scores, correct, num_gold=num_gold)
        return {"threshold": threshold if math.isfinite(threshold) else None, "f1": f1}

    def apply(self, chosen: Mapping[str, float | None], predictions: Sequence[Prediction]) -> list[Prediction]:
        """Keep the pairs whose score reaches the threshold."""
        threshold = chosen["threshold"]
        least = math.inf if threshold is None else threshold
        return [one._replace(value=tuple(hit for hit in one.value if hit[1] >= least)) for one in predictions]

    def metrics_after_tuning(self, task: TaskSpec) -> tuple[str, ...]:
        """F1 of the pairs that were kept; what the task names would choose a threshold again."""
        return ("kept_f1",)

    def gold_outputs(
        self, features: Sequence[Features], examples: Sequence[Example], task: TaskSpec
    ) -> list[np.ndarray]:
        """Vectors that rank every query's matches first; see `ideal_vectors`."""
        rows: Sequence[RetrieveExample] = examples  # type: ignore[assignment]
        mining = options_of(self, task)["mode"] == "mine"
        vectors = ideal_vectors(rows, groups(rows, *_sides(rows)), split_groups=not mining)
        return [vectors[feature.example] for feature in features]

    def gold(self, example: Any) -> tuple[str, tuple[str, ...]]:
        """The query's id and the ids of its matches."""
        return example.id, example.matches

    def majority(self, train: Sequence[Example], examples: Sequence[Example], task: TaskSpec) -> list[Prediction]:
        """The first corpus sentence for every query."""
        rows: Sequence[RetrieveExample] = examples  # type: ignore[assignment]
        queries, corpus = _sides(rows)
        return [Prediction(rows[i].id, ((rows[corpus[0]].id, 0.0),)) for i in queries]


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


def _by_text(rows: Sequence[RetrieveExample], indices: Sequence[int]) -> tuple[list[int], dict[int, list[int]]]:
    """First index of every text, in order, and for texts that occur again all their indices by the first."""
    first: dict[str, int] = {}
    twins: dict[int, list[int]] = {}
    for i in indices:
        at = first.setdefault(rows[i].text, i)
        if at != i:
            twins.setdefault(at, [at]).append(i)
    return list(first.values()), twins
