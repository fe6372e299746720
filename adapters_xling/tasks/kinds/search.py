"""Exact nearest-neighbour search and margin mining over unit vectors, in blocks of bounded memory.

Shapes: Q queries, M corpus sentences, D vector size, K neighbours.
"""

from __future__ import annotations

import numpy as np
import torch

BLOCK_ROWS = 1024
BLOCK_COLUMNS = 32_768
"""One block of similarities takes 128 MiB, whatever the corpus."""

_SMALLEST_MARGIN = 1e-6


def unit(vectors_MD: np.ndarray) -> np.ndarray:
    """Scale rows to length 1 in float32; a zero vector stays zero."""
    vectors_MD = np.asarray(vectors_MD, dtype=np.float32)
    return vectors_MD / np.maximum(np.linalg.norm(vectors_MD, axis=1, keepdims=True), 1e-12)


def nearest(
    queries_QD: np.ndarray,
    corpus_MD: np.ndarray,
    *,
    k: int,
    block_rows: int = BLOCK_ROWS,
    block_columns: int = BLOCK_COLUMNS,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best corpus rows of every query by inner product, best first; equal scores by smaller index.

    Args:
        queries_QD: unit vectors.
        corpus_MD: unit vectors.
        k: neighbours wanted; fewer come back when the corpus is smaller.
        block_rows: queries compared at once.
        block_columns: corpus rows compared at once.

    Returns:
        Scores (Q,K) float32 and indices (Q,K) int64.
    """
    k = min(k, len(corpus_MD))
    all_scores, all_indices = [], []
    for top in range(0, len(queries_QD), block_rows):
        block_QD = torch.from_numpy(queries_QD[top : top + block_rows])
        scores_QK = torch.empty(len(block_QD), 0)
        indices_QK = torch.empty(len(block_QD), 0, dtype=torch.long)
        for left in range(0, len(corpus_MD), block_columns):
            sims_QM = block_QD @ torch.from_numpy(corpus_MD[left : left + block_columns]).T
            found_QK = sims_QM.topk(min(k, sims_QM.shape[1]), dim=1)
            scores_QK = torch.cat([scores_QK, found_QK.values], dim=1)
            indices_QK = torch.cat([indices_QK, found_QK.indices + left], dim=1)
            # stable sorts, the lesser criterion first: by score, and by index among equal scores
            by_index = indices_QK.argsort(dim=1, stable=True)
            by_score = scores_QK.gather(1, by_index).argsort(dim=1, descending=True, stable=True)
            keep = by_index.gather(1, by_score)[:, :k]
            scores_QK, indices_QK = scores_QK.gather(1, keep), indices_QK.gather(1, keep)
        all_scores.append(scores_QK.numpy())
        all_indices.append(indices_QK.numpy())
    return np.concatenate(all_scores), np.concatenate(all_indices)


def mine(queries_QD: np.ndarray, corpus_MD: np.ndarray, *, k: int = 4) -> list[tuple[int, int, float]]:
    """Pair sentences one to one by the ratio margin (Artetxe & Schwenk 2019), as XTREME's BUCC script does.

    The score of a pair is its cosine over the average of the mean cosines that either side has with its k nearest
    neighbours. Each query proposes its best-scoring neighbour and each corpus sentence its own; proposals are accepted
    from the best score downwards while both sides are free.

    Args:
        queries_QD: unit vectors, at least one.
        corpus_MD: unit vectors, at least one.
        k: neighbours looked at on either side.

    Returns:
        (query index, corpus index, score), best first.
    """
    forward_QK, forward_ids_QK = nearest(queries_QD, corpus_MD, k=k)
    backward_MK, backward_ids_MK = nearest(corpus_MD, queries_QD, k=k)
    mean_Q, mean_M = forward_QK.mean(axis=1), backward_MK.mean(axis=1)
    forward_margin_QK = forward_QK / _denominator(mean_Q[:, None], mean_M[forward_ids_QK])
    backward_margin_MK = backward_MK / _denominator(mean_M[:, None], mean_Q[backward_ids_MK])
    rows_Q, rows_M = np.arange(len(queries_QD)), np.arange(len(corpus_MD))
    best_Q, best_M = forward_margin_QK.argmax(axis=1), backward_margin_MK.argmax(axis=1)
    scores = np.concatenate([forward_margin_QK[rows_Q, best_Q], backward_margin_MK[rows_M, best_M]])
    queries = np.concatenate([rows_Q, backward_ids_MK[rows_M, best_M]])
    corpus = np.concatenate([forward_ids_QK[rows_Q, best_Q], rows_M])
    pairs, used_queries, used_corpus = [], set(), set()
    for at in np.argsort(-scores, kind="stable"):
        query, sentence = int(queries[at]), int(corpus[at])
        if query not in used_queries and sentence not in used_corpus:
            used_queries.add(query)
            used_corpus.add(sentence)
            pairs.append((query, sentence, float(scores[at])))
    return pairs


def _denominator(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Average of two mean cosines, kept above zero so that a negative one cannot turn the order around."""
    return np.maximum((one + other) / 2, _SMALLEST_MARGIN)
