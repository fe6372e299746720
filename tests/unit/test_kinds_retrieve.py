"""Retrieval: exact search in blocks, margin mining, duplicates, gold vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters_xling import metrics
from adapters_xling.errors import ConfigError, DataError
from adapters_xling.spec import FileSource, TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.tasks.check import check_task
from adapters_xling.tasks.examples import RetrieveExample
from adapters_xling.tasks.kinds.search import mine, nearest, unit
from tests.unit.tiny import tiny_tokenizer

KIND = kinds.get("retrieve")


def spec(*names: str, **options: object) -> TaskSpec:
    return TaskSpec(
        name="mine",
        kind="retrieve",
        role="private",
        title="a test",
        languages=("de",),
        sources=(FileSource(reader="rows", splits={}),),
        metrics=names or ("retrieval_accuracy",),
        options=options,
    )


def query(id_: str, text: str, *matches: str) -> RetrieveExample:
    return RetrieveExample(id=id_, text=text, side="query", matches=matches)


def corpus(id_: str, text: str) -> RetrieveExample:
    return RetrieveExample(id=id_, text=text, side="corpus")


def decode(rows: list[RetrieveExample], vectors: list[list[float]], task: TaskSpec) -> list:
    features = KIND.encode(rows, tiny_tokenizer(), task, max_length=16)
    return KIND.decode([np.array(v, np.float32) for v in vectors], features, rows, task)


def pairs_of(queries: np.ndarray, sentences: np.ndarray, **how: int) -> list[tuple[int, int, float]]:
    return list(zip(*(part.tolist() for part in mine(queries, sentences, **how)), strict=True))


# --- rows and task files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "mode", "reason"),
    [
        (query("q", "the cat", "c"), "nearest", None),
        (corpus("c", "the cat"), "nearest", None),
        (query("q", "the cat"), "mine", None),
        (query("q", "the cat"), "nearest", "query without a match"),
        (query("q", "  ", "c"), "mine", "text is blank"),
        (RetrieveExample(id="x", text="a", side="left"), "mine", "side 'left' is not one of query, corpus"),
        (RetrieveExample(id="x", text="a", side="corpus", matches=("q",)), "mine", "matches belong to queries"),
        (query("q", "a", "c", "c"), "mine", "lists a match twice"),
    ],
)
def test_unusable_rows_are_named(row: RetrieveExample, mode: str, reason: str | None) -> None:
    found = KIND.check_example(row, spec(mode=mode), need_gold=True)
    assert found is reason if reason is None else reason in (found or "")


def test_a_task_file_that_cannot_work_is_refused() -> None:
    KIND.check_spec(spec("mining_f1", mode="mine", neighbours=4))
    with pytest.raises(ConfigError, match="'nearest', 'mine'"):
        KIND.check_spec(spec(mode="margin"))
    with pytest.raises(ConfigError, match=r"options\.top_k must be at least 1"):
        KIND.check_spec(spec(top_k=0))
    with pytest.raises(ConfigError, match="has none"):
        KIND.check_spec(TaskSpec(**{**{f: getattr(spec(), f) for f in spec().__struct_fields__}, "labels": ("a", "b")}))


def test_retrieval_has_no_head_and_no_loss() -> None:
    assert KIND.trains is False
    assert KIND.make_head(spec(), hidden_size=8, dropout=0.1) is None
    with pytest.raises(ConfigError, match="no loss"):
        KIND.loss(torch.zeros(1, 8), {})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([query("q", "a", "c")], "needs both sides"),
        ([query("q", "a", "lost"), corpus("c", "b")], "'q': its match 'lost' is not among the 1 corpus"),
    ],
)
def test_retrieval_over_part_of_a_split_is_refused(rows: list[RetrieveExample], message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode(rows, [[1.0, 0.0]] * len(rows), spec())


# --- search ---------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 15),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(0, 999),
)
def test_blocks_give_what_one_big_sort_gives(
    num_queries: int, num_corpus: int, k: int, rows: int, columns: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    # few distinct vectors, so that ties are common
    queries = unit(generator.integers(-1, 2, (num_queries, 2)) + 0.0)
    sentences = unit(generator.integers(-1, 2, (num_corpus, 2)) + 0.0)
    scores, indices = nearest(queries, sentences, k=k, block_rows=rows, block_columns=columns)
    sims = queries @ sentences.T
    expected = -np.sort(-sims, axis=1)[:, : min(k, num_corpus)]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(sims, indices, axis=1), expected, atol=1e-6)
    assert all(len(set(row)) == len(row) for row in indices.tolist())


def test_hits_are_ranked_by_cosine_not_by_length() -> None:
    rows = [query("q", "the cat", "near"), corpus("long", "a"), corpus("near", "b"), corpus("far", "c")]
    vectors = [[2.0, 0.0], [30.0, 30.0], [0.1, 0.01], [0.0, 5.0]]
    (prediction,) = decode(rows, vectors, spec(top_k=2))
    assert [hit[0] for hit in prediction.value] == ["near", "long"]
    assert prediction.value[1][1] == pytest.approx(np.sqrt(0.5), rel=1e-5)
    (prediction,) = decode(rows, vectors, spec())
    assert len(prediction.value) == 1
    (prediction,) = decode(rows, vectors, spec(top_k=9))
    assert len(prediction.value) == 3


def test_the_margin_is_the_cosine_over_the_average_neighbourhood() -> None:
    queries, sentences = unit(np.array([[1, 0], [0, 1.0]])), unit(np.array([[1, 0], [1, 1.0]]))
    # cosines: q0 (1, h), q1 (0, h) with h = sqrt(1/2); k = 2 takes all. means: q0 (1+h)/2, q1 h/2; c0 1/2, c1 h
    h = np.sqrt(0.5)
    pairs = pairs_of(queries, sentences, k=2)
    # q0c0: 1 / (((1+h)/2 + 1/2) / 2) = 1.478; q0c1: h / (((1+h)/2 + h) / 2) = .906; q1c1: h / ((h/2 + h) / 2) = 4/3
    assert [pair[:2] for pair in pairs] == [(0, 0), (1, 1)]
    assert pairs[0][2] == pytest.approx(1 / (((1 + h) / 2 + 1 / 2) / 2), rel=1e-5)
    assert pairs[1][2] == pytest.approx(4 / 3, rel=1e-5)


def test_mining_gives_each_sentence_to_one_partner_only() -> None:
    generator = np.random.default_rng(0)
    pairs = pairs_of(unit(generator.normal(size=(30, 8))), unit(generator.normal(size=(20, 8))))
    assert len({q for q, _, _ in pairs}) == len({c for _, c, _ in pairs}) == len(pairs)
    assert [score for *_, score in pairs] == sorted((score for *_, score in pairs), reverse=True)


def test_a_hub_that_is_near_to_everything_is_marked_down() -> None:
    # the hub is nearest to both queries by cosine; the margin gives each query its own partner
    queries = unit(np.array([[1, 0.5, 0], [1, 0, 0.5]]))
    sentences = unit(np.array([[1, 0.25, 0.25], [0.5, 0.52, 0], [0.5, 0, 0.52]]))
    _, top = nearest(queries, sentences, k=1)
    assert top[:, 0].tolist() == [0, 0]
    found = {q: c for q, c, _ in pairs_of(queries, sentences, k=3)}
    assert found == {0: 1, 1: 2}


def test_equal_texts_are_one_sentence_for_mining_and_share_the_hit() -> None:
    rows = [
        query("q1", "the cat", "c1", "c2"),
        query("q2", "the cat", "c1", "c2"),
        query("q3", "the dog"),
        corpus("c1", "der Hund"),
        corpus("c2", "der Hund"),
        corpus("c3", "Haus"),
    ]
    east, north = [1.0, 0.0, 0.0], [0.0, 1.0, 0.1]
    found = decode(rows, [east, east, north, east, east, [0.0, 0.1, 1.0]], spec("mining_f1", mode="mine"))
    assert [p.id for p in found] == ["q1", "q2", "q3"]
    assert [hit[0] for hit in found[0].value] == ["c1", "c2"]
    assert found[0].value == found[1].value
    assert [hit[0] for hit in found[2].value] == ["c3"]


def test_a_query_left_over_by_mining_has_an_empty_prediction() -> None:
    rows = [query("q1", "the cat", "c1"), query("q2", "the dog"), corpus("c1", "Hund")]
    found = decode(rows, [[1.0, 0.0], [0.6, 0.8], [1.0, 0.0]], spec(mode="mine"))
    assert [hit[0] for hit in found[0].value] == ["c1"]
    assert found[1].value == ()


@pytest.mark.parametrize("num_lone", [0, 40])
@pytest.mark.parametrize("num_pairs", [8, 300])
def test_gold_vectors_score_a_hundred_in_both_modes(num_pairs: int, num_lone: int) -> None:
    rows = [query(f"q{i}", f"cat {i}", f"c{i}") for i in range(num_pairs)]
    rows += [corpus(f"c{i}", f"Hund {i}") for i in range(num_pairs)]
    rows += [corpus(f"lone{i}", f"Haus {i}") for i in range(num_lone)]
    lone = [query(f"alone{i}", f"house {i}") for i in range(num_lone)]
    for names, mode, extra in ((("retrieval_accuracy", "mrr"), "nearest", []), (("mining_f1",), "mine", lone)):
        task = spec(*names, mode=mode)
        all_rows = rows + extra
        features = KIND.encode(all_rows, tiny_tokenizer(), task, max_length=16)
        found = KIND.decode(KIND.gold_outputs(features, all_rows, task), features, all_rows, task)
        golds = [KIND.gold(row) for row in all_rows if row.side == "query"]
        for name in names:
            assert metrics.get(name)(golds, [p.value for p in found], "de")[metrics.main(name)] == 100.0


def test_gold_that_one_to_one_mining_cannot_give_is_marked() -> None:
    rows = [
        query("two", "the cat", "c1", "c2"),
        query("share1", "the dog", "c3"),
        query("share2", "a dog", "c3"),
        query("fine", "house", "c4"),
        query("twin", "park", "c5"),
        corpus("c1", "Hund"),
        corpus("c2", "Haus"),
        corpus("c3", "zum"),
        corpus("c4", "lief"),
        corpus("c5", "der"),
        corpus("c6", "der"),
    ]
    features = KIND.encode(rows, tiny_tokenizer(), spec(mode="mine"), max_length=16)
    marked = KIND.unreachable(features, rows, spec(mode="mine"))
    assert [rows[i].id for i in marked] == ["two", "share1", "share2", "twin"]
    assert KIND.unreachable(features, rows, spec()) == {}
    report = check_task(spec("mining_oracle_f1", mode="mine"), rows, tiny_tokenizer(), max_length=16)
    assert sum(report.unreachable.values()) == 4


def test_each_sentence_is_encoded_for_itself() -> None:
    rows = [query("q", "the cat", "c"), corpus("c", "Hund")]
    together = KIND.encode(rows, tiny_tokenizer(), spec(mode="mine"), max_length=16)
    alone = [KIND.encode([row], tiny_tokenizer(), spec(mode="mine"), max_length=16)[0] for row in rows]
    assert [(f.input_ids, f.meta) for f in together] == [(f.input_ids, f.meta) for f in alone]


def test_the_floor_is_the_first_corpus_sentence_for_every_query() -> None:
    rows = [query("q1", "a", "c2"), corpus("c1", "b"), query("q2", "c", "c1"), corpus("c2", "d")]
    found = KIND.majority([], rows, spec())
    assert [(p.id, p.value[0][0]) for p in found] == [("q1", "c1"), ("q2", "c1")]
