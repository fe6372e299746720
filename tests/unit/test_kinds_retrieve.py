"""Retrieval: exact search in blocks, margin mining, duplicates, gold vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from adapters_xling import metrics
from adapters_xling.errors import ConfigError, DataError, UnknownName
from adapters_xling.spec import FileSource, TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.tasks.check import check_task
from adapters_xling.tasks.examples import Prediction, RetrieveExample
from adapters_xling.tasks.kinds.options import resolved
from adapters_xling.tasks.kinds.search import mine, nearest, unit
from adapters_xling.tasks.kinds.vectors import VectorFile
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
    KIND.check_spec(spec(layer=0, pooling="mean-text"))
    with pytest.raises(ConfigError, match=r"options\.layer must be at least -1"):
        KIND.check_spec(spec(layer=-2))
    with pytest.raises(UnknownName, match="Did you mean 'mean-text'"):
        KIND.check_spec(spec(pooling="mean-txt"))
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


# --- several answers ----------------------------------------------------------------------------------------------


def answers() -> list[RetrieveExample]:
    """Questions in two languages over one pool: sets of answers that are equal, overlap, and hold a text twice."""
    return [
        query("en1", "who gave", "de-a", "en-a"),
        query("de1", "wer gab", "de-a", "en-a"),
        query("en2", "where", "de-b", "en-b", "en-c"),
        query("en3", "where else", "en-c"),
        query("en4", "when", "en-d", "en-d2"),
        query("en5", "what", "en-e2"),
        query("en6", "why", "en-f"),
        corpus("de-a", "Hund"),
        corpus("en-a", "dog"),
        corpus("de-b", "Haus"),
        corpus("en-b", "house"),
        corpus("en-c", "a house"),
        corpus("en-d", "on Monday"),
        corpus("en-d2", "on Monday"),
        corpus("en-e", "a book"),
        corpus("en-e2", "a book"),
        corpus("en-f", "never"),
        corpus("en-f2", "never"),
        *(corpus(f"other{i}", f"cat {i}") for i in range(60)),
    ]


def test_every_gold_answer_counts_and_gold_vectors_rank_them_all_first() -> None:
    task = spec("map20", top_k=20)
    rows = answers()
    features = KIND.encode(rows, tiny_tokenizer(), task, max_length=16)
    found = {
        p.id: [hit[0] for hit in p.value]
        for p in KIND.decode(KIND.gold_outputs(features, rows, task), features, rows, task)
    }
    assert all(len(hits) == 20 for hits in found.values())
    for row in rows[:5]:
        assert set(found[row.id][: len(row.matches)]) == set(row.matches), row.id
    # en-e has the text of en5's only match and comes before it; en-f2 comes behind and does no harm
    marked = KIND.unreachable(features, rows, task)
    assert [rows[i].id for i in marked] == ["en5"]
    report = check_task(task, rows, tiny_tokenizer(), max_length=16)
    assert report.scores == {"map20": 100.0}
    assert sum(report.unreachable.values()) == 1


def test_one_text_asked_twice_with_other_answers_has_one_ranking() -> None:
    rows = [query("q1", "who", "a"), query("q2", "who", "b"), corpus("a", "Hund"), corpus("b", "Haus")]
    features = KIND.encode(rows, tiny_tokenizer(), spec(), max_length=16)
    assert [rows[i].id for i in KIND.unreachable(features, rows, spec())] == ["q1", "q2"]


@pytest.mark.parametrize("mode", ["nearest", "mine"])
def test_vectors_on_disk_are_decoded_as_vectors_in_memory(mode: str, tmp_path: Path) -> None:
    task = spec(mode=mode, top_k=3)
    generator = np.random.default_rng(4)
    rows = [query(f"q{i}", f"cat {i % 30}", f"c{i}") for i in range(40)] + [
        corpus(f"c{i}", f"dog {i % 45}") for i in range(50)
    ]
    rows = [rows[i] for i in generator.permutation(len(rows))]
    texts = {row.text: generator.normal(size=8).astype(np.float32) for row in rows}
    outputs = [texts[row.text] for row in rows]
    features = KIND.encode(rows, tiny_tokenizer(), task, max_length=16)
    file = VectorFile.open(tmp_path / "v", rows=len(rows), width=8, identity="x")
    file.append(np.stack(outputs))
    steps: list[tuple[str, int, int]] = []
    found = KIND.decode_vectors(file, rows, task, on_step=lambda *step: steps.append(step))
    assert found == KIND.decode(outputs, features, rows, task)
    assert [p.id for p in found] == [row.id for row in rows if row.side == "query"]
    asked = 40 if mode == "nearest" else 30  # mining asks each text once
    assert steps == [("search", asked, asked)]


# --- a threshold from other rows ----------------------------------------------------------------------------------


def test_the_threshold_of_dev_pairs_is_applied_to_others() -> None:
    golds = [("d1", ("a",)), ("d2", ()), ("d3", ("c",))]
    dev = [Prediction("d1", (("a", 1.5),)), Prediction("d2", (("b", 1.2),)), Prediction("d3", (("c", 1.3),))]
    chosen = KIND.tune(golds, dev)
    assert chosen == {"threshold": pytest.approx(1.25), "f1": 100.0}
    test = [Prediction("t1", (("x", 1.4), ("y", 1.4))), Prediction("t2", (("z", 1.24),)), Prediction("t3", ())]
    assert [p.value for p in KIND.apply(chosen, test)] == [(("x", 1.4), ("y", 1.4)), (), ()]
    assert KIND.tune([("d1", ("b",))], dev[:1])["threshold"] is None
    assert all(p.value == () for p in KIND.apply({"threshold": None}, test))


def test_f1_of_pairs_as_they_stand() -> None:
    golds = [("t1", ("x", "y")), ("t2", ("z",)), ("t3", ())]
    # three gold pairs, two found, one of them right
    scores = metrics.get("kept_f1")(golds, [(("x", 1.4), ("x", 1.4)), (), (("w", 1.1),)], "de")
    assert scores == pytest.approx({"f1": 200 * 1 / (3 + 2), "precision": 50.0, "recall": 100 / 3})
    assert metrics.get("kept_f1")(golds, [(), (), ()], "de")["f1"] == 0.0
    with pytest.raises(DataError, match="none of the 1 queries has a gold pair"):
        metrics.get("kept_f1")([("t3", ())], [()], "de")


def test_only_a_test_split_of_mining_with_a_dev_split_waits_for_a_threshold() -> None:
    both, alone = (
        TaskSpec(**{**vars_of(spec("mining_f1", mode="mine")), "sources": (FileSource(reader="rows", splits=splits),)})
        for splits in ({"dev": "a", "test": "b"}, {"test": "b"})
    )
    nearest_ = TaskSpec(**{**vars_of(both), "options": {}})
    assert KIND.tuned_on(both, "test") == "dev"
    assert [KIND.tuned_on(*case) for case in ((both, "dev"), (alone, "test"), (nearest_, "test"))] == [None] * 3


def test_options_that_came_later_change_no_digest_at_their_default() -> None:
    before = {"mode": "nearest", "top_k": 1, "neighbours": 4}
    assert resolved(spec()) == resolved(spec(layer=-1, pooling="")) == before
    assert resolved(spec(layer=3)) == {**before, "layer": 3}


def vars_of(task: TaskSpec) -> dict[str, object]:
    return {field: getattr(task, field) for field in task.__struct_fields__}
