"""Blockwise search and margin mining: the numbers of a dense computation, whatever the blocks, ties included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters_xling.tasks.kinds import search as module
from adapters_xling.tasks.kinds.products import Plain, Rounded
from adapters_xling.tasks.kinds.search import mine, nearest, neighbours
from adapters_xling.tasks.kinds.vectors import InMemory, unit


def cosines(queries: np.ndarray, corpus: np.ndarray) -> np.ndarray:
    return (queries.astype(np.float64) @ corpus.astype(np.float64).T).astype(np.float32)


def dense_neighbours(sims: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.argsort(-sims, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(sims, ids, 1), ids


def dense_mining(queries: np.ndarray, corpus: np.ndarray, k: int) -> list[tuple[int, int, float]]:
    """Every margin of every pair; each side proposes its best among its k nearest; greedy from the top."""
    sims = cosines(queries, corpus)
    mean_q = [float(np.mean(sorted(row.tolist(), reverse=True)[:k])) for row in sims]
    mean_c = [float(np.mean(sorted(row.tolist(), reverse=True)[:k])) for row in sims.T]
    proposals = set()
    for i in range(len(queries)):
        near = dense_neighbours(sims[i : i + 1], k)[1][0]
        j = max(near, key=lambda j: float(sims[i, j]) / max((mean_q[i] + mean_c[j]) / 2, 1e-6))
        proposals.add((i, int(j)))
    for j in range(len(corpus)):
        near = dense_neighbours(sims.T[j : j + 1], k)[1][0]
        i = max(near, key=lambda i: float(sims[i, j]) / max((mean_q[i] + mean_c[j]) / 2, 1e-6))
        proposals.add((int(i), j))
    scored = sorted((-float(sims[i, j]) / max((mean_q[i] + mean_c[j]) / 2, 1e-6), i, j) for i, j in proposals)
    pairs: list[tuple[int, int, float]] = []
    for score, i, j in scored:
        if all(i != one and j != other for one, other, _ in pairs):
            pairs.append((i, j, -score))
    return pairs


def drawn(seed: int, num_queries: int, num_corpus: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    corpus = unit(generator.normal(size=(num_corpus, width)))
    queries = unit(generator.normal(size=(num_queries, width)))
    some = generator.integers(0, num_corpus, num_queries)
    queries[::2] = unit(corpus[some][::2] + 0.5 * queries[::2])
    return queries, corpus


def require_same(found: Any, wanted: Any) -> None:
    for part, reference in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(part, reference)


@pytest.mark.parametrize(
    ("num_queries", "num_corpus", "k", "rows", "columns"),
    [(150, 210, 4, 64, 64), (150, 210, 4, 37, 100), (90, 3, 4, 64, 64), (1, 80, 20, 8, 16), (70, 70, 1, 500, 500)],
)
def test_neighbours_both_ways_are_those_of_a_dense_computation(
    num_queries: int, num_corpus: int, k: int, rows: int, columns: int
) -> None:
    queries, corpus = drawn(0, num_queries, num_corpus, 24)
    found = neighbours(queries, corpus, k=k, block_rows=rows, block_columns=columns)
    sims = cosines(queries, corpus)
    for scores, ids, wanted in ((found[0], found[1], sims), (found[2], found[3], sims.T)):
        expected_scores, expected_ids = dense_neighbours(wanted, k)
        np.testing.assert_array_equal(ids, expected_ids)
        np.testing.assert_allclose(scores, expected_scores, rtol=0, atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 6), st.integers(0, 99))
def test_mined_pairs_are_those_of_a_dense_computation(num_queries: int, num_corpus: int, k: int, seed: int) -> None:
    queries, corpus = drawn(seed, num_queries, num_corpus, 12)
    found = mine(queries, corpus, k=k, block_rows=16, block_columns=9)
    wanted = dense_mining(queries, corpus, k)
    assert list(zip(found.queries.tolist(), found.corpus.tolist(), strict=True)) == [pair[:2] for pair in wanted]
    np.testing.assert_allclose(found.scores, [score for *_, score in wanted], rtol=1e-6)


def test_equal_vectors_are_taken_by_index_whatever_the_blocks() -> None:
    """Far more equal candidates than spare places, scattered over blocks, and both zeros and a negative among them."""
    generator = np.random.default_rng(3)
    kinds = unit(np.concatenate([generator.normal(size=(4, 17)), np.zeros((1, 17))]))
    corpus, queries = kinds[generator.integers(0, 5, 300)], kinds[generator.integers(0, 5, 130)]
    same = (corpus[None] == queries[:, None]).all(2)
    results = [
        neighbours(queries, corpus, k=6, block_rows=rows, block_columns=columns)
        for rows, columns in ((8192, 4096), (64, 64), (50, 23))
    ]
    for one in results[1:]:
        require_same(one, results[0])
    for i, ids in enumerate(results[0].forward_ids):
        if queries[i].any():
            assert ids.tolist() == np.flatnonzero(same[i])[:6].tolist()
        else:  # a zero vector is equally far from everything
            assert ids.tolist() == list(range(6))
    mined = [mine(queries, corpus, block_rows=rows, block_columns=columns) for rows, columns in ((999, 999), (64, 70))]
    require_same(*mined)


def test_a_score_is_the_cosine_itself_not_the_product_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that are off in the last digits nominate; what comes out is computed from the vectors again."""
    queries, corpus = drawn(1, 60, 200, 32)
    exact = torch.mm

    def sloppy(one: Any, other: Any, out: Any) -> Any:
        noise = torch.rand(out.shape, generator=torch.Generator().manual_seed(0)) * 1e-6
        return out.copy_(exact(one, other) + noise)

    monkeypatch.setattr(torch, "mm", sloppy)
    scores, ids = nearest(queries, corpus, k=5)
    expected_scores, expected_ids = dense_neighbours(cosines(queries, corpus), 5)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(scores, expected_scores, rtol=0, atol=1e-7)


class Repairs:
    """Counts rows that are searched again, and whether everything was multiplied in float32 after all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows, self.given_up = 0, False
        again, blocks = module._again, module._blocks

        def counted(block: Any, *args: Any, **how: Any) -> Any:
            self.rows += int((~block.certain).sum())
            return again(block, *args, **how)

        def watched(queries: Any, corpus: Any, products: Any, **how: Any) -> Any:
            self.given_up |= isinstance(products, Plain) and how["both"]
            return blocks(queries, corpus, products, **how)

        monkeypatch.setattr(module, "_again", counted)
        monkeypatch.setattr(module, "_blocks", watched)


@pytest.mark.parametrize(
    ("num_queries", "num_corpus", "k", "rows", "columns"),
    [(700, 900, 4, 256, 300), (700, 900, 4, 8192, 4096), (90, 3, 4, 64, 64), (1, 80, 20, 8, 16), (70, 70, 1, 500, 500)],
)
def test_products_in_bfloat16_find_what_float32_finds_bit_by_bit(
    num_queries: int, num_corpus: int, k: int, rows: int, columns: int
) -> None:
    for pull in (0.0, 3.0):  # all around, and all to one side, as a multilingual encoder's vectors are
        queries, corpus = drawn(5, num_queries, num_corpus, 96)
        queries, corpus = unit(queries + pull / 96**0.5), unit(corpus + pull / 96**0.5)
        how = {"k": k, "block_rows": rows, "block_columns": columns}
        require_same(neighbours(queries, corpus, products="bfloat16", **how), neighbours(queries, corpus, **how))


def test_rows_that_bfloat16_cannot_tell_apart_are_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty sentences stand closer together than bfloat16 can see, more than are kept; most others are easy."""
    queries, corpus = drawn(6, 600, 900, 64)
    generator = np.random.default_rng(0)
    crowd = generator.choice(900, 40, replace=False)
    corpus[crowd] = unit(corpus[crowd[:1]] + 1e-5 * generator.normal(size=(40, 64)))
    queries[:30] = unit(corpus[crowd[:1]] + 1e-5 * generator.normal(size=(30, 64)))
    wanted = neighbours(queries, corpus, k=4)
    repairs = Repairs(monkeypatch)
    require_same(neighbours(queries, corpus, k=4, products="bfloat16"), wanted)
    assert 60 <= repairs.rows < 400 and not repairs.given_up  # 30 one way, 40 the other, and some that are in doubt
    monkeypatch.setattr(module, "_certain", lambda *args, among: np.ones(len(args[1]), dtype=bool))
    wrong = neighbours(queries, corpus, k=4, products="bfloat16")
    assert (wrong.forward_ids[:30] != wanted.forward_ids[:30]).any()  # the crowd does need it


def test_where_bfloat16_sees_little_everything_is_multiplied_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    middle = generator.normal(size=(2, 64))
    queries, corpus = (
        unit(middle[generator.integers(0, 2, n)] + 1e-5 * generator.normal(size=(n, 64))) for n in (300, 400)
    )
    wanted = neighbours(queries, corpus, k=4, block_rows=128)
    repairs = Repairs(monkeypatch)
    seen: list[int] = []
    require_same(neighbours(queries, corpus, k=4, block_rows=128, products="bfloat16", on_block=seen.append), wanted)
    assert repairs.given_up and repairs.rows == 0 and sum(seen) == 300


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.sampled_from([0.0, 0.3, 3.0, 30.0]), st.sampled_from([8, 64, 384]))
def test_a_rounded_product_errs_by_no_more_than_its_bound(seed: int, pull: float, width: int) -> None:
    queries, corpus = (unit(side + pull / width**0.5) for side in drawn(seed, 64, 64, width))
    products = Rounded.around(queries, corpus)
    left, right = products.left(queries, "cpu"), products.right(corpus, "cpu")
    constant = float(products.centre.double().square().sum())
    exact = torch.from_numpy(queries).double() @ torch.from_numpy(corpus).double().T - constant
    for sums, rows, ours, among in (
        (left @ right.T, exact, queries, "right"),
        (right @ left.T, exact.T, corpus, "left"),
    ):
        centred, rounded = products._centred(ours)
        lengths, lost = (part.double().norm(dim=1).numpy() for part in (rounded, centred - rounded.float()))
        bound = torch.from_numpy(products.error(lengths, lost, among))[:, None] + 2**-8 * sums.double().abs()
        assert ((sums.double() - rows).abs() <= bound).all()
        assert float(bound.max()) < 0.02  # a bound that says nothing would do as well otherwise


def test_products_are_in_bfloat16_for_many_pairs_where_the_processor_has_instructions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[str] = []
    blocks = module._blocks

    def watched(queries: Any, corpus: Any, products: Any, **how: Any) -> Any:
        used.append(type(products).__name__)
        return blocks(queries, corpus, products, **how)

    monkeypatch.setattr(module, "_blocks", watched)
    queries, corpus = drawn(7, 40, 60, 16)
    for fast, pairs in ((True, 40 * 60), (True, 40 * 60 + 1), (False, 0)):
        monkeypatch.setattr(module, "fast_bfloat16", lambda fast=fast: fast)
        monkeypatch.setattr(module, "ROUNDED_FROM", pairs)
        nearest(queries, corpus, k=3)
    assert used == ["Rounded", "Plain", "Plain"]


SCORED = st.tuples(st.floats(-1, 1, width=32), st.integers(0, 2**32 - 1))


@given(st.lists(SCORED, min_size=2, max_size=20, unique_by=lambda pair: pair[1]))
def test_keys_sort_as_scores_and_then_indices_and_give_both_back(pairs: list[tuple[float, int]]) -> None:
    scores = torch.tensor([score for score, _ in pairs], dtype=torch.float32)
    ids = torch.tensor([number for _, number in pairs])
    keys = module._keys(scores, ids)
    assert torch.equal(module._scores(keys), scores + 0.0)
    assert torch.equal(module._ids(keys), ids)
    by_key = torch.argsort(keys, descending=True).tolist()
    assert by_key == sorted(range(len(pairs)), key=lambda i: (-pairs[i][0], pairs[i][1]))


class Spy(InMemory):
    """Vectors that remember the most that was asked of them at once."""

    most_read = most_taken = 0

    def read(self, start: int, stop: int) -> np.ndarray:
        self.most_read = max(self.most_read, stop - start)
        return super().read(start, stop)

    def take(self, rows: np.ndarray) -> np.ndarray:
        self.most_taken = max(self.most_taken, len(rows))
        return super().take(rows)


def test_no_more_than_a_block_is_in_memory_however_many_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EXACT_NUMBERS", 800)
    asked = []
    for num_queries in (100, 400):
        queries, corpus = map(Spy, drawn(2, num_queries, 300, 10))
        mine(queries, corpus, k=4, block_rows=64, block_columns=48)
        asked.append((queries.most_read, corpus.most_read, queries.most_taken, corpus.most_taken))
    assert asked[0] == asked[1] == (64, 48, 80, 80)


def test_progress_adds_up_to_the_queries() -> None:
    queries, corpus = drawn(2, 130, 20, 8)
    seen: list[int] = []
    nearest(queries, corpus, k=2, block_rows=64, on_block=seen.append)
    assert seen == [64, 64, 2]
