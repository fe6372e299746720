"""What retrieval could find at best: vectors of a perfect model, and gold that not even it would give in full.

Two sentences with one text have one vector, so gold that tells them apart is out of reach.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from adapters_xling.tasks.examples import RetrieveExample

Rows = Sequence[RetrieveExample]

_SIZE = 256
_SIDES = ("query", "corpus")


def groups(rows: Rows, queries: Sequence[int], corpus: Sequence[int]) -> list[int]:
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

    at = {rows[i].id: i for i in corpus}
    first: dict[tuple[str, str], int] = {}
    for i, row in enumerate(rows):
        tie(i, first.setdefault((row.side, row.text), i))
        for match in row.matches:
            tie(i, at[match])
    return [root(i) for i in range(len(rows))]


def ideal_vectors(rows: Rows, group: Sequence[int], *, split_groups: bool) -> list[np.ndarray]:
    """Vectors that a perfect model would give.

    Sentences of one group share a direction, random but fixed. A third of the dimensions each serves groups with both
    sides, lone queries and the lone corpus, so that lone sentences are at right angles to the whole other side. With
    `split_groups`, where queries of one group have different matches, every corpus text also has a coordinate of its
    own within the group, and a query the mean of its matches' coordinates, so that these come before the others.
    """
    sides_of: dict[int, set[str]] = defaultdict(set)
    texts_of: dict[int, dict[str, int]] = defaultdict(dict)
    text_of = {row.id: row.text for row in rows if row.side == "corpus"}
    wanted: dict[int, set[frozenset[str]]] = defaultdict(set)
    for row, one in zip(rows, group, strict=True):
        sides_of[one].add(row.side)
        if row.side == "corpus":
            texts_of[one].setdefault(row.text, len(texts_of[one]))
        else:
            wanted[one].add(frozenset(text_of[match] for match in row.matches))
    # one set of matches that is the whole group: nothing to tell apart
    split = {one for one, sets in wanted.items() if split_groups and sets != {frozenset(texts_of[one])}}
    num_own = max((len(texts_of[one]) for one in split), default=0)
    vectors = []
    for row, one in zip(rows, group, strict=True):
        third = 0 if len(sides_of[one]) == 2 else 1 + _SIDES.index(row.side)
        vector = np.zeros(3 * _SIZE + num_own, dtype=np.float32)
        shared = torch.randn(_SIZE, generator=torch.Generator().manual_seed(one)).numpy()
        vector[third * _SIZE : (third + 1) * _SIZE] = shared / np.linalg.norm(shared)
        if one in split:
            texts = {row.text} if row.side == "corpus" else {text_of[match] for match in row.matches}
            for text in texts:
                vector[3 * _SIZE + texts_of[one][text]] = len(texts) ** -0.5
        vectors.append(vector)
    return vectors


def not_one_to_one(rows: Rows, queries: Sequence[int], corpus: Sequence[int]) -> frozenset[str]:
    """Ids of queries whose gold a one-to-one pairing of texts cannot give in full."""
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


def outranked(rows: Rows, queries: Sequence[int], corpus: Sequence[int]) -> frozenset[str]:
    """Ids of queries that cannot have all their matches before everything else.

    A sentence with a match's text and another id has its score, and comes before whatever match follows it. Queries of
    one text have one ranking, so different matches cannot all lead it.
    """
    order = {rows[i].id: place for place, i in enumerate(corpus)}
    same_text: dict[str, list[str]] = defaultdict(list)
    for i in corpus:
        same_text[rows[i].text].append(rows[i].id)
    text_of = {rows[i].id: rows[i].text for i in corpus}
    golds: dict[str, set[frozenset[str]]] = defaultdict(set)
    for i in queries:
        golds[rows[i].text].add(frozenset(rows[i].matches))
    lossy = set()
    for i in queries:
        matches = set(rows[i].matches)
        texts = {text_of[match] for match in matches}
        strangers = [order[other] for text in texts for other in same_text[text] if other not in matches]
        last = max((order[match] for match in matches), default=-1)
        if len(golds[rows[i].text]) > 1 or any(len(texts) > 1 or place < last for place in strangers):
            lossy.add(rows[i].id)
    return frozenset(lossy)
