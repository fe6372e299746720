"""Metrics against averages worked out by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest

from adapters_xling import metrics
from adapters_xling.errors import DataError, UnknownName


def score(name: str, golds: list, predictions: list, language: str = "en") -> dict[str, float]:
    return metrics.get(name)(golds, predictions, language)


# --- the registry ---------------------------------------------------------------------------------------------


def test_every_metric_shows_a_key_that_it_returns() -> None:
    samples = {
        "sentence": (["1", "0"], ["1", "0"]),
        "choice": ([1, 0], [1, 0]),
        "tag": ([("B-PER", "O")], [("B-PER", "O")]),
        "span": ([("a cat",)], ["cat"]),
        "mlm": ([(5, 6)], [((5, 5), (6, 6))]),
        # ids whose halves differ, so that mining_f1 has gold on both sides
        "retrieve": (
            [(f"q{i}", (f"c{i}",)) for i in range(20)],
            [((f"c{i}", 1.0),) for i in range(20)],
        ),
    }
    for name in metrics.names():
        for kind in metrics.kinds(name):
            scores = score(name, *samples[kind])
            assert scores[metrics.main(name)] == 100.0, (name, kind, scores)


@pytest.mark.parametrize("name", metrics.names())
def test_an_empty_split_has_no_score(name: str) -> None:
    with pytest.raises(DataError, match="no rows"):
        score(name, [], [])


@pytest.mark.parametrize("name", metrics.names())
def test_a_row_without_gold_and_a_missing_prediction_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="row 0 has no gold"):
        score(name, [None], ["x"])
    with pytest.raises(DataError, match="2 gold rows but 1 predictions"):
        score(name, ["a", "b"], ["a"])


def test_an_unknown_metric_names_the_closest() -> None:
    with pytest.raises(UnknownName, match="'accuracy'"):
        metrics.get("acuracy")
    with pytest.raises(UnknownName):
        metrics.get("accuracy:yes")
    with pytest.raises(UnknownName):
        metrics.get("accuracy_f1:")


def test_metrics_load_without_torch_and_sklearn() -> None:
    code = "import sys, adapters_xling.metrics; print([m for m in ('torch', 'sklearn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# --- classes --------------------------------------------------------------------------------------------------


def test_accuracy_counts_what_is_equal() -> None:
    assert score("accuracy", ["a", "b", "a", "c"], ["a", "b", "b", "c"]) == {"accuracy": 75.0}
    assert score("accuracy", [0, 1, 2], [0, 0, 0])["accuracy"] == pytest.approx(100 / 3)


def test_accuracy_f1_averages_accuracy_and_the_f1_of_the_positive_label() -> None:
    # gold positives 3, predicted positives 2, both 2: P = 1, R = 2/3, F1 = 4/5; accuracy 4/5
    golds, predictions = ["1", "1", "1", "0", "0"], ["1", "1", "0", "0", "0"]
    assert score("accuracy_f1", golds, predictions) == pytest.approx({"accuracy": 80, "f1": 80, "mean": 80})
    # the same rows seen from the other label: gold 2, predicted 3, both 2: F1 = 4/5; one more error tells them apart
    golds, predictions = ["1", "1", "1", "0"], ["1", "0", "0", "0"]
    # positive 1: both 1 of 1 predicted and 3 gold: 2/4; positive 0: both 1 of 3 predicted and 1 gold: 2/4
    assert score("accuracy_f1", golds, predictions)["f1"] == pytest.approx(50)
    golds, predictions = ["yes", "yes", "no", "no", "no"], ["yes", "no", "no", "no", "no"]
    assert score("accuracy_f1:yes", golds, predictions)["f1"] == pytest.approx(100 * 2 / 3)  # 2*1/(1+2)
    assert score("accuracy_f1:no", golds, predictions)["f1"] == pytest.approx(100 * 6 / 7)  # 2*3/(4+3)


def test_accuracy_f1_refuses_a_positive_label_that_never_occurs() -> None:
    with pytest.raises(DataError, match="accuracy_f1:duplicate"):
        score("accuracy_f1", ["yes", "no"], ["yes", "no"])


# --- tags -----------------------------------------------------------------------------------------------------


def test_tag_accuracy_averages_over_words_not_sentences() -> None:
    # 1 of 1 and 1 of 3: 2 of 4 words
    assert score("tag_accuracy", [("A",), ("A", "B", "C")], [("A",), ("A", "C", "B")]) == {"accuracy": 50.0}


@pytest.mark.parametrize("name", ["tag_accuracy", "tag_f1", "span_f1"])
def test_a_prediction_of_another_length_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="row 1 has 2 gold tags but 1"):
        score(name, [("O",), ("B-X", "O")], [("O",), ("O",)])


def test_cconj_and_sconj_are_not_the_same_chunk() -> None:
    assert score("tag_f1", [("CCONJ",)], [("SCONJ",)])["f1"] == 0.0


def test_equal_neighbours_merge_unless_their_name_begins_with_s() -> None:
    assert metrics.chunks(["NOUN", "NOUN", "VERB"]) == {("NOUN", 0, 1), ("VERB", 2, 2)}
    assert metrics.chunks(["SCONJ", "SCONJ"]) == {("SCONJ", 0, 0), ("SCONJ", 1, 1)}
    assert metrics.chunks(["INTJ", "INTJ", "X"]) == {("INTJ", 0, 1), ("X", 2, 2)}


def test_tag_f1_is_below_accuracy_when_an_error_breaks_a_run() -> None:
    # gold chunks: DET(0) NOUN(1-3); predicted: DET(0) NOUN(1) VERB(2) NOUN(3): right 1, gold 2, predicted 4
    scores = score("tag_f1", [("DET", "NOUN", "NOUN", "NOUN")], [("DET", "NOUN", "VERB", "NOUN")])
    assert scores == pytest.approx({"precision": 25, "recall": 50, "f1": 100 / 3})


def test_chunks_do_not_run_over_sentences() -> None:
    # gold has two NOUN chunks in two sentences; a scorer that joined them would find one
    scores = score("tag_f1", [("NOUN",), ("NOUN",)], [("NOUN",), ("VERB",)])
    assert scores["f1"] == pytest.approx(50)


def test_span_f1_wants_type_and_both_borders() -> None:
    # gold: PER(0-1) LOC(3) ORG(4); predicted: PER(0) LOC(3) PER(4): 1 right of 3 and 3
    gold = ("B-PER", "I-PER", "O", "B-LOC", "B-ORG")
    guess = ("B-PER", "O", "O", "B-LOC", "B-PER")
    assert score("span_f1", [gold], [guess])["f1"] == pytest.approx(100 / 3)


def test_adjacent_entities_of_one_type_stay_two_and_a_stray_inside_tag_opens_one() -> None:
    assert metrics.chunks(["B-PER", "B-PER", "I-PER"]) == {("PER", 0, 0), ("PER", 1, 2)}
    assert metrics.chunks(["O", "I-LOC", "I-LOC", "I-PER"]) == {("LOC", 1, 2), ("PER", 3, 3)}


def test_predicting_no_entity_scores_zero_and_gold_without_entities_has_no_score() -> None:
    assert score("span_f1", [("B-PER",)], [("O",)]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    with pytest.raises(DataError, match="no chunk"):
        score("span_f1", [("O", "O")], [("O", "O")])


def test_span_f1_refuses_tags_without_prefix() -> None:
    with pytest.raises(DataError, match="use tag_f1"):
        score("span_f1", [("NOUN",)], [("NOUN",)])


# --- answers --------------------------------------------------------------------------------------------------


def test_squad_takes_the_best_alternative_of_each_question() -> None:
    golds = [("the red house", "house"), ("Anna",)]
    # 1st: "a house" normalises to "house": EM 1, F1 1 (2nd alternative). 2nd: "Anna Smith": EM 0, F1 2*1/(1+2) = 2/3
    scores = score("squad", golds, ["a house.", "Anna Smith"])
    assert scores == pytest.approx({"exact_match": 50, "f1": 100 * (1 + 2 / 3) / 2, "mean": (50 + 500 / 6) / 2})


def test_squad_counts_repeated_words_once_per_occurrence() -> None:
    # gold "x x y", predicted "x y y": common x, y = 2 of 3 and 3: F1 2/3
    assert score("squad", [("x x y",)], ["x y y"])["f1"] == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("name", "gold", "predicted", "exact", "f1"),
    [
        # normalising leaves nothing of "." and "the": SQuAD 1.1 and MLQA compare them as they are, and count 0 words
        ("squad", ("interventionism", "."), "", 1, 0),
        ("squad", ("the",), "a", 1, 0),
        ("mlqa", ("the",), "a", 1, 0),
        # SQuAD 2.0 leaves such answers out, and takes nothing for right where none is left
        ("squad2", ("interventionism", "."), "", 0, 0),
        ("squad2", ("interventionism", "."), "Interventionism!", 1, 1),
        ("squad2", ("the",), "a", 1, 1),
        ("squad2", (), "", 1, 1),
        ("squad2", (), "the", 1, 1),
        ("squad2", (), "cat", 0, 0),
    ],
)
def test_answers_that_normalising_empties_follow_each_script(
    name: str, gold: tuple[str, ...], predicted: str, exact: int, f1: int
) -> None:
    scores = score(name, [gold], [predicted])
    assert (scores["exact_match"], scores["f1"]) == (100 * exact, 100 * f1)


def test_squad2_shows_answerable_and_unanswerable_questions_apart() -> None:
    # answerable: right, and 1 of 2 words (F1 2/3); unanswerable: one right of three
    golds = [("x",), ("x y",), (), (), ()]
    scores = score("squad2", golds, ["x", "x", "", "x", "y"])
    assert scores == pytest.approx(
        {
            "exact_match": 40,
            "f1": 100 * (1 + 2 / 3 + 1) / 5,
            "mean": (40 + 100 * (1 + 2 / 3 + 1) / 5) / 2,
            "has_answer_exact_match": 50,
            "has_answer_f1": 100 * (1 + 2 / 3) / 2,
            "no_answer_exact_match": 100 / 3,
            "no_answer_f1": 100 / 3,
        }
    )
    assert "no_answer_f1" not in score("squad2", [("x",)], ["x"])


@pytest.mark.parametrize("name", ["squad", "squad2", "mlqa"])
def test_a_question_that_was_left_out_scores_0(name: str) -> None:
    assert score(name, [("x",), ("y",)], ["x", None])["f1"] == 50
    assert score(name, [(), ("y",)], [None, "y"])["exact_match"] == 50


def test_an_unanswerable_question_wants_the_empty_answer_and_nothing_else() -> None:
    assert score("squad", [(), ("cat",)], ["", ""])["exact_match"] == 50.0
    assert score("squad", [()], ["cat"]) == {"f1": 0.0, "exact_match": 0.0, "mean": 0.0}


@pytest.mark.parametrize(
    ("language", "gold", "predicted", "exact", "f1"),
    [
        ("en", "the Big “House”", "a big house", 1, 1),
        ("de", "der Hund", "Einen Hund!", 1, 1),
        ("es", "¿la casa?", "unas casa", 1, 1),
        ("vi", "cái nhà", "những nhà", 1, 1),
        ("hi", "राम।", "राम", 1, 1),
        ("ar", "الكتاب،", "كتاب", 1, 1),
        # 北京大学 and 北京: 2 characters in common of 4 and 2: F1 2*2/6
        ("zh", "北京大学。", "北京", 0, 2 / 3),
    ],
)
def test_mlqa_normalises_as_each_of_its_languages_wants(
    language: str, gold: str, predicted: str, exact: float, f1: float
) -> None:
    scores = score("mlqa", [(gold,)], [predicted], language)
    assert scores["exact_match"] == pytest.approx(100 * exact)
    assert scores["f1"] == pytest.approx(100 * f1)


def test_mlqa_and_squad_differ_where_the_article_is_not_english() -> None:
    assert score("squad", [("der Hund",)], ["Hund"], "de")["exact_match"] == 0.0
    assert score("mlqa", [("der Hund",)], ["Hund"], "de")["exact_match"] == 100.0
    assert score("mlqa", [("the Hund",)], ["Hund"], "de")["exact_match"] == 0.0


def test_chinese_with_latin_words_keeps_the_words_whole() -> None:
    assert metrics.normalize_mlqa("在IBM公司", "zh") == "在 ibm 公 司"


def test_mlqa_refuses_a_language_it_has_no_rules_for() -> None:
    with pytest.raises(UnknownName, match="metric squad"):
        score("mlqa", [("x",)], ["x"], "sw")
