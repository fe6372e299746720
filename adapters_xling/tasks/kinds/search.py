"""Exact nearest-neighbour search and margin mining over unit vectors, in blocks of bounded memory.

Every pair of blocks is multiplied once and read both ways: by rows for the queries' neighbours, by columns for the
corpus'. A product only nominates: more neighbours than asked for are kept, and their cosines computed again in
float64 from the vectors. So scores and ties depend neither on block sizes, nor on threads, nor on the device, nor on
what the products are rounded to: a row whose best bfloat16 might have missed is searched again in float32. What float32
cannot tell apart, sentences within some 1e-7 of each other, is only decided among those kept: where more than the K and
`Plain.spare` others lie so close (a text many times over), which of them are found may depend on the blocks.
FAISS's exact search multiplies once per direction; `scripts/bench/retrieval.py` times both.

Shapes: Q queries, M corpus sentences, D vector size, K neighbours, R and C rows and columns of a block.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .products import CHUNK, Plain, Products, Rounded, fast_bfloat16
from .vectors import Vectors, as_vectors, unit

__all__ = ["Found", "Mined", "Neighbours", "mine", "nearest", "neighbours", "search", "unit"]

BLOCK_ROWS = 8192
BLOCK_COLUMNS = 4096
"""One block of similarities takes 128 MiB in float32, whatever queries and corpus."""
ROUNDED_FROM = 2**24
"""Pairs from which products in bfloat16 are tried, where the processor has instructions for them."""
GIVEN_UP = 0.25
"""Share of the first block's rows that may be searched again; above it everything is multiplied in float32."""

_MERGE_ROWS = 1024
_EXACT_NUMBERS = 2**18
_ID_MASK = 0xFFFFFFFF
_SIGN_MASK = 0x7FFFFFFF
_SMALLEST_MARGIN = 1e-6
_PAIRS_AT_ONCE = 65_536


class Found(NamedTuple):
    """Neighbours of the rows from `start` on: scores (R,K) float32 and indices (R,K) int64, best first."""

    start: int
    scores: np.ndarray
    indices: np.ndarray


class Neighbours(NamedTuple):
    """Neighbours both ways: scores float32 and indices int64, (Q,K) of the queries and (M,K) of the corpus."""

    forward: np.ndarray
    forward_ids: np.ndarray
    backward: np.ndarray
    backward_ids: np.ndarray


class Mined(NamedTuple):
    """Pairs, best first: query index (P,), corpus index (P,), score (P,) float64."""

    queries: np.ndarray
    corpus: np.ndarray
    scores: np.ndarray


def search(
    queries: Vectors | np.ndarray,
    corpus: Vectors | np.ndarray,
    *,
    k: int,
    on_reverse: Callable[[Found], Any] | None = None,
    on_block: Callable[[int], Any] | None = None,
    device: Any = "cpu",
    block_rows: int = BLOCK_ROWS,
    block_columns: int = BLOCK_COLUMNS,
    products: Literal["float32", "bfloat16"] | None = None,
) -> Iterator[Found]:
    """The k best corpus rows of every query by inner product, a block of queries at a time.

    Memory does not grow with the number of queries: it holds one block of either side, their products, and with
    `on_reverse` 8 bytes per corpus row and neighbour kept.

    Args:
        queries: unit vectors (Q,D).
        corpus: unit vectors (M,D), at most 2**32 of them.
        k: neighbours wanted; fewer come back when a side is smaller.
        on_reverse: also find the k best queries of every corpus row, and call this with them, block by block, after
            the last query.
        on_block: called with the number of queries just done (progress bars).
        device: where blocks are multiplied.
        block_rows: queries compared at once.
        block_columns: corpus rows compared at once.
        products: what blocks are multiplied in, which decides the time and not what is found; None takes bfloat16 for
            many pairs on a processor with instructions for it.

    Yields:
        Neighbours of the next queries: by score, equal scores by smaller index.
    """
    queries, corpus = as_vectors(queries), as_vectors(corpus)
    if products is None:
        worth = queries.shape[0] * corpus.shape[0] >= ROUNDED_FROM and str(device) == "cpu" and fast_bfloat16()
        products = "bfloat16" if worth else "float32"
    sizes = {"k": k, "device": device, "block_rows": block_rows, "block_columns": block_columns}

    blocks = None
    if products == "bfloat16" and queries.shape[0] and corpus.shape[0]:
        samples = [side.read(0, min(block_columns, side.shape[0])) for side in (queries, corpus)]
        found = _blocks(queries, corpus, Rounded.around(*samples), both=bool(on_reverse), **sizes)
        first = next(found)
        if first.certain.mean() >= 1 - GIVEN_UP:
            blocks = itertools.chain([first], found)
        else:
            found.close()
    for block in blocks or _blocks(queries, corpus, Plain(), both=bool(on_reverse), **sizes):
        if not block.is_reverse:
            yield _again(block, queries, corpus, **sizes)
            if on_block:
                on_block(len(block.certain))
        elif on_reverse:
            on_reverse(_again(block, corpus, queries, **sizes))


class _Block(NamedTuple):
    """What was found of some rows, for which of them (R,) it surely is the best, and whether they are the corpus'."""

    found: Found
    certain: np.ndarray
    is_reverse: bool


def _blocks(
    queries: Vectors,
    corpus: Vectors,
    products: Products,
    *,
    k: int,
    both: bool,
    device: Any,
    block_rows: int,
    block_columns: int,
) -> Generator[_Block]:
    """Neighbours of the queries, block by block, and after these of the corpus where `both` are wanted."""
    num_queries, num_corpus = queries.shape[0], corpus.shape[0]
    wide, tall = min(k + products.spare, num_corpus), min(k + products.spare, num_queries)
    reverse_MK = _nothing(num_corpus if both else 0, tall, device)
    buffer_RC = torch.empty(0, 0, device=device)

    for top in range(0, num_queries, block_rows):
        ours = queries.read(top, min(top + block_rows, num_queries))
        block_RW = products.left(ours, device)
        best_RK = _nothing(len(block_RW), wide, device)
        for left in range(0, num_corpus, block_columns):
            theirs = corpus.read(left, min(left + block_columns, num_corpus))
            tile_CW = products.right(theirs, device)
            if buffer_RC.shape != (len(block_RW), len(tile_CW)):
                buffer_RC = torch.empty(len(block_RW), len(tile_CW), device=device, dtype=products.dtype)
            sims_RC = torch.mm(block_RW, tile_CW.T, out=buffer_RC)
            sims_RC[len(ours) :] = -torch.inf
            sims_RC[:, len(theirs) :] = -torch.inf
            chunks_RnC = sims_RC.unflatten(1, (-1, CHUNK))
            _merge(best_RK, chunks_RnC, chunks_RnC.amax(2).float(), left)
            if both:
                chunks_nRC = sims_RC[:, : len(theirs)].unflatten(0, (-1, CHUNK))
                part_MK = reverse_MK[left : left + len(theirs)]
                _merge(part_MK, chunks_nRC.permute(2, 0, 1), chunks_nRC.amax(1).T.float(), top)
        best_RK = best_RK[: len(ours)]
        found = Found(top, *_exact(ours, best_RK, corpus, k))
        yield _Block(found, _certain(products, ours, found, best_RK, num_corpus, among="right"), is_reverse=False)
    for left in range(0, num_corpus if both else 0, block_columns):
        theirs = corpus.read(left, min(left + block_columns, num_corpus))
        part_MK = reverse_MK[left : left + len(theirs)]
        found = Found(left, *_exact(theirs, part_MK, queries, k))
        yield _Block(found, _certain(products, theirs, found, part_MK, num_queries, among="left"), is_reverse=True)


def _certain(
    products: Products, ours_RD: np.ndarray, found: Found, kept_RK: Tensor, num_others: int, *, among: str
) -> np.ndarray:
    """Which rows (R,) surely have their best among those kept."""
    if kept_RK.shape[1] == num_others:
        return np.ones(len(ours_RD), dtype=bool)
    return products.certain(ours_RD, found.scores[:, -1], _scores(kept_RK[:, -1]).cpu().numpy(), among=among)


def _again(block: _Block, ours: Vectors, others: Vectors, **how: Any) -> Found:
    """What was found, with the rows that are not certain searched once more, in float32."""
    found, rows = block.found, np.flatnonzero(~block.certain)
    if len(rows):
        again = nearest(ours.take(found.start + rows), others, products="float32", **how)
        found.scores[rows], found.indices[rows] = again
    return found


def nearest(
    queries: Vectors | np.ndarray, corpus: Vectors | np.ndarray, *, k: int, **how: Any
) -> tuple[np.ndarray, np.ndarray]:
    """All of `search` at once: scores (Q,K) float32 and indices (Q,K) int64, best first."""
    found = list(search(queries, corpus, k=k, **how))
    return np.concatenate([part.scores for part in found]), np.concatenate([part.indices for part in found])


def neighbours(queries: Vectors | np.ndarray, corpus: Vectors | np.ndarray, *, k: int, **how: Any) -> Neighbours:
    """The k nearest both ways from one pass over all products; arguments as `search`."""
    back: list[Found] = []
    forward = list(search(queries, corpus, k=k, on_reverse=back.append, **how))
    parts = [np.concatenate([getattr(one, f) for one in side]) for side in (forward, back) for f in Found._fields[1:]]
    return Neighbours(*parts)


def mine(queries: Vectors | np.ndarray, corpus: Vectors | np.ndarray, *, k: int = 4, **how: Any) -> Mined:
    """Pair sentences one to one by the ratio margin (Artetxe & Schwenk 2019), as XTREME's BUCC script does.

    The score of a pair is its cosine over the average of the mean cosines that either side has with its k nearest
    neighbours. Each query proposes its best-scoring neighbour and each corpus sentence its own; proposals are accepted
    from the best score downwards while both sides are free. Equal scores: smaller query index first, then smaller
    corpus index; of two neighbours with the same margin the nearer proposes.

    Args:
        queries: unit vectors, at least one.
        corpus: unit vectors, at least one.
        k: neighbours looked at on either side.
        how: as `search` takes it: `device`, `on_block`, block sizes.
    """
    found = neighbours(queries, corpus, k=k, **how)
    mean_Q, mean_M = (side.astype(np.float64).mean(axis=1) for side in (found.forward, found.backward))
    target_Q, score_Q = _proposals(found.forward, found.forward_ids, mean_Q, mean_M)
    target_M, score_M = _proposals(found.backward, found.backward_ids, mean_M, mean_Q)
    from_queries = np.concatenate([np.arange(len(target_Q)), target_M])
    from_corpus = np.concatenate([target_Q, np.arange(len(target_M))])
    scores = np.concatenate([score_Q, score_M])
    order = np.lexsort((from_corpus, from_queries, -scores))
    kept = _one_to_one(from_queries, from_corpus, order, len(target_Q), len(target_M))
    return Mined(from_queries[kept], from_corpus[kept], scores[kept])


def _proposals(
    cosines_NK: np.ndarray, ids_NK: np.ndarray, mean_N: np.ndarray, other_mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Neighbour with the highest margin of every row, and that margin in float64."""
    # kept above zero so that a negative average cannot turn the order around
    average_NK = np.maximum((mean_N[:, None] + other_mean[ids_NK]) / 2, _SMALLEST_MARGIN)
    margin_NK = cosines_NK / average_NK
    best_N1 = margin_NK.argmax(axis=1)[:, None]
    return np.take_along_axis(ids_NK, best_N1, 1)[:, 0], np.take_along_axis(margin_NK, best_N1, 1)[:, 0]


def _one_to_one(
    queries: np.ndarray, corpus: np.ndarray, order: np.ndarray, num_queries: int, num_corpus: int
) -> np.ndarray:
    """Positions of the proposals that are accepted when they are taken in order while both sides are free."""
    used_queries, used_corpus = bytearray(num_queries), bytearray(num_corpus)
    kept = np.zeros(len(order), dtype=bool)
    for at in range(0, len(order), _PAIRS_AT_ONCE):
        part = order[at : at + _PAIRS_AT_ONCE]
        for i, (query, sentence) in enumerate(zip(queries[part].tolist(), corpus[part].tolist(), strict=True), at):
            if not used_queries[query] and not used_corpus[sentence]:
                used_queries[query] = used_corpus[sentence] = kept[i] = True
    return order[kept]


# --- the best of a block ----------------------------------------------------------------------------------------
#
# A score and an index are one int64: the float32's bits, made to sort as integers, above the complement of the index.
# The larger is the better, equal scores with the smaller index first, and no two are equal: every way of picking the
# k largest picks the same.


def _keys(scores: Tensor, ids: Tensor | int) -> Tensor:
    bits = (scores + 0.0).view(torch.int32)  # + 0.0 makes -0.0 the same as 0.0
    return ((bits ^ ((bits >> 31) & _SIGN_MASK)).long() << 32) | (_ID_MASK - ids)


def _ids(keys: Tensor) -> Tensor:
    return _ID_MASK - (keys & _ID_MASK)


def _scores(keys: Tensor) -> Tensor:
    order = (keys >> 32).int()
    return (order ^ ((order >> 31) & _SIGN_MASK)).view(torch.float32)


def _nothing(rows: int, k: int, device: Any) -> Tensor:
    """Keys (rows,k) that everything beats."""
    return _keys(torch.full((rows, k), -torch.inf, device=device), _ID_MASK)


def _merge(best_RK: Tensor, chunks_RnC: Tensor, maxima_Rn: Tensor, offset: int) -> None:
    """Let a block's scores compete with the best so far of each of its rows, in place.

    Only rows whose best new score beats their worst kept one are looked at, and of these only the chunks of columns
    whose maximum does, no more than K of them: the K best of a row lie in them. New indices are higher than old ones,
    so an equal score loses.

    Args:
        best_RK: keys, best first.
        chunks_RnC: scores of the block, each row's columns in n chunks.
        maxima_Rn: the highest score of each chunk, float32.
        offset: index of the first column.
    """
    beating_R = (maxima_Rn > _scores(best_RK[:, -1])[:, None]).sum(1)
    active = beating_R.nonzero().squeeze(1)
    active = active[beating_R[active].argsort()]  # rows with as many chunks to look at side by side
    k, num_chunks = best_RK.shape[1], maxima_Rn.shape[1]
    numbers_n = torch.arange(num_chunks, device=best_RK.device)
    columns_C = offset + torch.arange(CHUNK, device=best_RK.device)
    for rows_A in active.split(_MERGE_ROWS) if len(active) else ():
        most = min(k, int(beating_R[rows_A[-1]]))
        chosen_An = _ids(_keys(maxima_Rn[rows_A], numbers_n).topk(most, dim=1).values)
        ids_AnC = chosen_An[:, :, None] * CHUNK + columns_C
        new_A = _keys(chunks_RnC[rows_A[:, None], chosen_An].float(), ids_AnC).flatten(1)
        best_RK[rows_A] = torch.cat([best_RK[rows_A], new_A], dim=1).topk(k, dim=1).values


def _exact(ours_RD: np.ndarray, best_RK: Tensor, others: Vectors, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best nominees of every row by their cosine computed in float64 and rounded to float32."""
    ids_RK = _ids(best_RK).cpu()
    k = min(k, ids_RK.shape[1])
    step = max(1, _EXACT_NUMBERS // (ids_RK.shape[1] * ours_RD.shape[1]))
    scores, indices = [], []
    for top in range(0, len(ours_RD), step):
        ids = ids_RK[top : top + step]
        theirs = torch.from_numpy(others.take(ids.reshape(-1).numpy())).double().unflatten(0, tuple(ids.shape))
        ours = torch.from_numpy(ours_RD[top : top + step]).double()
        cosines = (theirs * ours[:, None]).sum(2).float()
        keys = _keys(cosines, ids).topk(k, dim=1).values
        scores.append(_scores(keys).numpy())
        indices.append(_ids(keys).numpy())
    return np.concatenate(scores), np.concatenate(indices)
