"""A folder of predictions scores what plain arithmetic says: every task, group and benchmark."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters_xling import submission, tasks
from adapters_xling.errors import ConfigError, DataError, MissingData, UnknownName
from adapters_xling.submission import Result, benchmark
from tests.unit import submissions as made

BENCHMARKS = ("xtreme", "xtreme-r")


@pytest.fixture(scope="module", params=BENCHMARKS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Any]:
    root = tmp_path_factory.mktemp(request.param)
    return request.param, root, made.write(root, request.param)


def score(root: Path, name: str = "xtreme", **options: Any) -> Result:
    return submission.score(root / "predictions", root / "labels", benchmark.get(name), **options)


# --- the benchmarks as data -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_has_the_tasks_languages_and_groups_of_its_scorer(name: str) -> None:
    found = benchmark.get(name)
    assert {part.task: sorted(part.languages) for part in found.tasks} == {
        task: sorted(codes) for task, codes in made.LANGUAGES[name].items()
    }
    assert {group: sorted(members) for group, members in found.groups.items()} == {
        group: sorted(members) for group, members in made.GROUPS[name].items()
    }


def test_xtreme_has_162_cells() -> None:
    assert benchmark.get("xtreme").num_files == 15 + 7 + 33 + 40 + 11 + 7 + 9 + 4 + 36 == 162


@pytest.mark.parametrize(
    "part", [p for name in benchmark.names() for p in benchmark.get(name).tasks], ids=lambda p: p.task
)
def test_a_part_fits_the_task_that_fills_it(part: benchmark.Part) -> None:
    task = tasks.get(part.rows_of)
    assert set(part.languages) <= set(task.languages_by_split.get(task.eval_split) or task.languages)
    if part.format in ("labels", "tags"):
        assert part.labels == task.labels
    if part.format == "answers":
        assert task.metrics[0] == part.metric


def test_a_misspelt_benchmark_or_language_names_the_closest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="'xtreme-r'"):
        benchmark.get("xtreme_r")
    own = tmp_path / "own.yaml"
    text = "name: own\ntitle: t\ntasks:\n  - {task: t, group: g, format: labels, metric: accuracy, "
    own.write_text(text + "labels: [a], languages: [english]}\n")
    with pytest.raises(UnknownName, match="'english'"):
        benchmark.get(str(own))
    own.write_text(text + "labels: [a], languages: [en], metrics: f1}\n")
    with pytest.raises(ConfigError, match="Did you mean 'metric'"):
        benchmark.get(str(own))
    own.write_text(text.replace("accuracy", "squad") + "labels: [a], languages: [en]}\n")
    with pytest.raises(UnknownName, match="metric of format 'labels'"):
        benchmark.get(str(own))


# --- equivalence ------------------------------------------------------------------------------------------------


def test_every_language_of_every_task_scores_what_it_must(whole: tuple[str, Path, Any]) -> None:
    name, root, wanted = whole
    found = score(root, name)
    assert set(found.tasks) == set(wanted)
    for task, languages in wanted.items():
        for code, scores in languages.items():
            assert found.tasks[task].languages[code] == pytest.approx(scores), (task, code)


def test_tasks_groups_and_overall_are_means_of_means(whole: tuple[str, Path, Any]) -> None:
    name, root, wanted = whole
    found = score(root, name)
    by_task = {task: made.task_score(languages) for task, languages in wanted.items()}
    assert {task: one.score for task, one in found.tasks.items()} == pytest.approx(by_task)
    assert len(set(by_task.values())) == len(by_task), "each task must have a score of its own"
    groups = {g: made.mean([by_task[task] for task in members]) for g, members in made.GROUPS[name].items()}
    assert found.groups == pytest.approx(groups)
    assert found.overall == pytest.approx(made.mean(list(by_task.values())))
    assert found.overall != pytest.approx(made.mean(list(groups.values()))), "not a mean of groups"
    assert not found.partial
    for task, one in found.tasks.items():
        for metric, value in one.averages.items():
            assert value == pytest.approx(made.mean([s[metric] for s in wanted[task].values()])), (task, metric)


def test_labels_against_themselves_score_100(whole: tuple[str, Path, Any], tmp_path: Path) -> None:
    name, root, _ = whole
    for part in benchmark.get(name).tasks:
        (tmp_path / part.task).mkdir()
        for code in part.languages:
            text = (root / "labels" / part.file(code)).read_text()
            if part.format == "answers":  # the other answer is as right as the first
                ids = [q["id"] for q in json.loads(text)["data"][0]["paragraphs"][0]["qas"]]
                text = json.dumps(dict.fromkeys(ids, "gamma"))
            (tmp_path / part.file(code)).write_text(text)
    found = submission.score(tmp_path, root / "labels", benchmark.get(name))
    assert found.overall == 100
    assert set(found.groups.values()) == {100}
    assert not found.notes


@pytest.mark.parametrize("form", ["dict of lists", "dict of texts", "list of articles"])
def test_labels_of_questions_may_have_another_form(form: str, tmp_path: Path) -> None:
    wanted = made.write(tmp_path)
    for path in (tmp_path / "labels" / "xquad").iterdir():
        articles = json.loads(path.read_text())["data"]
        golds = {q["id"]: [a["text"] for a in q["answers"]] for q in articles[0]["paragraphs"][0]["qas"]}
        body: Any = {"dict of lists": golds, "list of articles": articles}.get(form)
        if form == "dict of texts":
            body = {id_: texts[1] for id_, texts in golds.items()}
        path.write_text(json.dumps(body))
    found = score(tmp_path).tasks["xquad"]
    if form == "dict of texts":  # "gamma" alone: the answer with one word of the other alternative is now wrong
        assert found.averages["exact_match"] == pytest.approx(
            made.mean([s["exact_match"] for s in wanted["xquad"].values()])
        )
        assert found.averages["f1"] == pytest.approx(found.averages["exact_match"])
    else:
        assert found.score == pytest.approx(made.task_score(wanted["xquad"]))


# --- the rules that are easily missed ---------------------------------------------------------------------------


def one(tmp_path: Path, part: str, predictions: str, labels: str, name: str = "xtreme", language: str = "") -> Result:
    """Score a single language of a task."""
    found = benchmark.get(name).part(part)
    file = found.file(language or found.languages[0])
    for folder, text in (("predictions", predictions), ("labels", labels)):
        path = tmp_path / folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return score(tmp_path, name, allow_missing=True)


def only(result: Result) -> dict[str, float]:
    ((_, one_task),) = result.tasks.items()
    ((_, scores),) = one_task.languages.items()
    return scores


def test_cconj_and_sconj_are_different_parts_of_speech(tmp_path: Path) -> None:
    # three words, one confused: 2 of 3 chunks right; a scorer that strips the first letter sees CONJ twice and says 100
    found = only(one(tmp_path, "udpos", "CCONJ\nNOUN\nVERB\n", "SCONJ\nNOUN\nVERB\n"))
    assert found == pytest.approx({"f1": 200 / 3, "precision": 200 / 3, "recall": 200 / 3})


def test_sentences_do_not_run_into_one_another(tmp_path: Path) -> None:
    # the same tags as two sentences and as one: two chunks against one
    assert only(one(tmp_path, "udpos", "NOUN\n\nNOUN\n", "NOUN\n\nNOUN\n"))["f1"] == 100
    assert only(one(tmp_path / "b", "udpos", "NOUN\n\nVERB\n", "NOUN\n\nNOUN\n"))["f1"] == pytest.approx(50)


def test_a_sentence_with_too_few_tags_moves_what_follows_as_in_the_benchmark(tmp_path: Path) -> None:
    found = one(tmp_path, "udpos", "DET\nNOUN\n\nVERB\n", "DET\nNOUN\nNOUN\n\nVERB\n")
    # DET (0) is right; NOUN (1) is not NOUN (1-2); VERB stands at 3, not 4: 1 of 3 and 3
    assert only(found)["f1"] == pytest.approx(100 / 3)
    assert found.notes == ["udpos/test-af.tsv: line 1: a sentence of 2 tags begins here, the labels have 3"]


def test_no_entity_anywhere_scores_0_and_does_not_fail(tmp_path: Path) -> None:
    assert only(one(tmp_path, "panx", "O\nO\n", "O\nO\n"))["f1"] == 0


@pytest.mark.parametrize(
    ("language", "gold", "predicted"),
    [
        ("en", "the “Big” House", "a big house"),
        ("es", "¿La casa?", "unas casa"),
        ("de", "der Hund", "Einen Hund!"),
        ("ar", "الكتاب،", "كتاب"),
        ("hi", "राम।", "राम"),
        ("vi", "cái nhà", "những nhà"),
        ("zh", "北京，大学。", "北京大学"),
    ],
)
def test_mlqa_normalises_by_language(language: str, gold: str, predicted: str, tmp_path: Path) -> None:
    labels = made.squad({"q": [gold]})
    found = only(one(tmp_path, "mlqa", json.dumps({"q": predicted}), labels, language=language))
    assert found == {"f1": 100, "exact_match": 100, "mean": 100}


def test_chinese_is_compared_character_by_character_in_mlqa_and_as_a_word_in_xquad(tmp_path: Path) -> None:
    labels, predictions = made.squad({"q": ["北京大学"]}), json.dumps({"q": "北京"})
    assert only(one(tmp_path / "m", "mlqa", predictions, labels, language="zh"))["f1"] == pytest.approx(200 / 3)
    assert only(one(tmp_path / "x", "xquad", predictions, labels, language="zh"))["f1"] == 0


def test_answers_that_normalising_empties_match_but_share_no_word(tmp_path: Path) -> None:
    found = only(one(tmp_path, "mlqa", json.dumps({"q": "Una."}), made.squad({"q": ["una"]}), language="es"))
    assert found == {"exact_match": 100, "f1": 0, "mean": 50}


def test_questions_left_out_score_0_and_are_counted(tmp_path: Path) -> None:
    golds = made.squad({"a": ["x"], "b": ["y"], "c": ["z"]})
    found = one(tmp_path, "xquad", json.dumps({"a": "x", "d": "x"}), golds)
    assert only(found)["exact_match"] == pytest.approx(100 / 3)
    assert found.notes == ["xquad/test-ar.json: lacks 2 ids of 3, which score 0: 'b', 'c' (and 1 more)"]


def test_of_an_id_given_twice_the_last_counts(tmp_path: Path) -> None:
    found = one(tmp_path, "xquad", '{"a": "wrong", "a": "x"}', made.squad({"a": ["x"]}))
    assert only(found)["f1"] == 100
    assert "given more than once" in found.notes[0]


def test_a_pair_given_twice_counts_once_and_nothing_mined_scores_0(tmp_path: Path) -> None:
    gold = "de-1\ten-1\nde-2\ten-2\n"
    # 1 right of 1 distinct, 2 gold: P 1, R 1/2
    found = only(one(tmp_path / "a", "bucc2018", "de-1\ten-1\nde-1\ten-1\n", gold))
    assert found == pytest.approx({"precision": 100, "recall": 50, "f1": 200 / 3})
    assert only(one(tmp_path / "b", "bucc2018", "", gold))["f1"] == 0


def test_only_twenty_entities_count(tmp_path: Path) -> None:
    others = [f"Q{n}" for n in range(50, 90)]
    gold = json.dumps({"m": ["Q1"]})
    for rank, wanted in ((20, 100 / 20), (21, 0)):
        guess = json.dumps({"m": [*others[: rank - 1], "Q1"]})
        found = only(one(tmp_path / str(rank), "mewslix", guess, gold, "xtreme-r"))
        assert found == pytest.approx({"mrr20": wanted})


def test_a_right_sentence_listed_twice_is_found_once(tmp_path: Path) -> None:
    gold = json.dumps({"q": ["a", "b"]})
    found = only(one(tmp_path, "lareqa", json.dumps({"q": ["a", "a", "b"]}), gold, "xtreme-r"))
    assert found == pytest.approx({"map20": 100 * (1 / 1 + 2 / 3) / 2})


def test_labels_with_blanks_around_and_windows_line_ends_are_the_same_labels(tmp_path: Path) -> None:
    assert only(one(tmp_path, "pawsx", " 1 \r\n0\r\n", "1\n0\n"))["accuracy"] == 100


def test_xcopa_labels_may_be_the_rows_of_the_data_set(tmp_path: Path) -> None:
    gold = '{"premise": "p", "label": 1}\n{"premise": "q", "label": 0}\n'
    found = only(one(tmp_path, "xcopa", '{"label": 1}\n{"label": 1}\n', gold, "xtreme-r"))
    assert found == {"accuracy": 50}


# --- what is missing or cannot be scored ------------------------------------------------------------------------


def test_a_missing_language_is_an_error_and_all_of_them_are_listed(tmp_path: Path) -> None:
    made.write(tmp_path)
    for name in ("xnli/test-sw.tsv", "tydiqa/test-te.json"):
        (tmp_path / "predictions" / name).unlink()
    (tmp_path / "labels" / "panx/test-yo.tsv").unlink()
    with pytest.raises(MissingData, match="3 files missing") as caught:
        score(tmp_path)
    for name in ("predictions/xnli/test-sw.tsv", "predictions/tydiqa/test-te.json", "labels/panx/test-yo.tsv"):
        assert name in str(caught.value)


def test_missing_languages_may_be_allowed_and_are_never_averaged_on(tmp_path: Path) -> None:
    wanted = made.write(tmp_path)
    (tmp_path / "predictions" / "xnli" / "test-sw.tsv").unlink()
    found = score(tmp_path, allow_missing=True)
    there = {code: scores for code, scores in wanted["xnli"].items() if code != "sw"}
    assert found.tasks["xnli"].score == pytest.approx(made.task_score(there))
    assert found.tasks["xnli"].missing == ("sw",)
    assert (found.overall, found.partial) == (None, True)
    assert set(found.groups) == {"tagging", "qa", "retrieval"}


def test_a_task_without_folder_is_left_out_as_in_the_benchmark(tmp_path: Path) -> None:
    made.write(tmp_path)
    (tmp_path / "predictions" / "bucc2018").rename(tmp_path / "predictions" / "bucc")
    found = score(tmp_path)
    assert found.overall is None
    assert set(found.groups) == {"classification", "tagging", "qa"}
    assert found.absent == {"bucc2018": "no folder bucc2018 among the predictions"}
    assert "folder bucc is no task of xtreme and was left out; is bucc2018 meant?" in found.notes


def test_nothing_to_score_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    (tmp_path / "labels" / "xnli").mkdir(parents=True)
    with pytest.raises(MissingData, match="nothing of xtreme can be scored"):
        score(tmp_path)


@pytest.mark.parametrize(
    ("part", "predictions", "labels", "message"),
    [
        ("xnli", "neutral\n", "neutral\nneutral\n", "has 1 line, the labels have 2"),
        ("xnli", "", "neutral\n", "is empty"),
        ("udpos", "NOUN\n", "NOUN\n\nNOUN\n", "has 1 sentence, the labels have 2"),
        ("xquad", '{"a": ', made.squad({"a": ["x"]}), "line 1: is not JSON: Expecting value at column 7"),
        ("xquad", '["a"]', made.squad({"a": ["x"]}), "not one JSON object"),
        ("xquad", '{"a": 3}', made.squad({"a": ["x"]}), "the answer of 'a' is not a text"),
        ("xquad", '{"a": "x"}', made.squad({"a": [""]}), "every answer is blank"),
        ("xquad", '{"a": "x"}', made.squad({"a": []}), "question 'a' has no gold answer"),
        ("xquad", '{"a": "x"}', '{"data": [{"paragraphs": 3}]}', "neither SQuAD's JSON"),
        ("xquad", '{"a": "x"}', '{"data": []}', "holds no question"),
        ("bucc2018", "de-1\ten-1\n", "", "no gold pair"),
    ],
)
def test_what_cannot_be_scored_names_file_and_reason(
    part: str, predictions: str, labels: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        one(tmp_path, part, predictions, labels)
    assert message in str(caught.value)
    assert f"{part}/test-" in str(caught.value)


def test_every_file_that_cannot_be_scored_is_named(tmp_path: Path) -> None:
    made.write(tmp_path)
    for name in ("xnli/test-sw.tsv", "mlqa/test-hi.json", "udpos/test-yo.tsv"):
        (tmp_path / "predictions" / name).write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="3 files") as caught:
        score(tmp_path)
    assert all(name in str(caught.value) for name in ("xnli/test-sw.tsv", "mlqa/test-hi.json", "udpos/test-yo.tsv"))
    assert "is not UTF-8 (byte 0xff)" in str(caught.value)


# --- laws -------------------------------------------------------------------------------------------------------

TAGS = st.lists(
    st.lists(st.sampled_from(["NOUN", "CCONJ", "SCONJ", "SYM", "INTJ", "X", "PUNCT"]), min_size=1, max_size=6),
    min_size=1,
    max_size=6,
)
WORDS = st.lists(st.sampled_from(["a", "the", "cat", "Dog,", "北京", "42", "é"]), min_size=1, max_size=4).map(" ".join)


def scored(part: str, predictions: Any, golds: Any, name: str = "xtreme", language: str = "") -> dict[str, float]:
    """Write rows in the format's own way, and score them from the files."""
    form = benchmark.get(name).part(part).contents
    text = made.squad(golds) if part in ("xquad", "mlqa") else form.write(golds)
    with tempfile.TemporaryDirectory() as folder:
        return only(one(Path(folder), part, form.write(predictions), text, name, language))


@settings(max_examples=25, deadline=None)
@given(TAGS, st.randoms(use_true_random=False))
def test_tags_score_100_against_themselves_whatever_the_order_of_sentences(
    rows: list[list[str]], shuffler: random.Random
) -> None:
    assert scored("udpos", rows, rows)["f1"] == 100
    guess = [[shuffler.choice(["NOUN", tag]) for tag in row] for row in rows]
    order = list(range(len(rows)))
    shuffler.shuffle(order)
    there = scored("udpos", guess, rows)
    assert scored("udpos", [guess[i] for i in order], [rows[i] for i in order]) == there
    # precision and recall change places with predictions and labels
    back = scored("udpos", rows, guess)
    assert (back["precision"], back["recall"], back["f1"]) == (there["recall"], there["precision"], there["f1"])


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text("abc123", min_size=1, max_size=4), WORDS, min_size=1, max_size=6), WORDS)
def test_answers_do_not_depend_on_order_and_a_second_answer_never_hurts(golds: dict[str, str], other: str) -> None:
    lists = {id_: [text] for id_, text in golds.items()}
    guess = {id_: text if i % 2 else other for i, (id_, text) in enumerate(golds.items())}
    there = scored("xquad", guess, lists)
    assert scored("xquad", dict(reversed(guess.items())), dict(reversed(lists.items()))) == pytest.approx(there)
    more = scored("xquad", guess, {id_: [*texts, other] for id_, texts in lists.items()})
    assert more["exact_match"] == 100
    assert all(more[name] >= there[name] - 1e-9 for name in there)
    assert scored("xquad", golds, lists)["exact_match"] == 100


@settings(max_examples=25, deadline=None)
@given(
    st.sets(st.tuples(st.sampled_from(["de-1", "de-2", "de-3"]), st.sampled_from(["en-1", "en-2"])), min_size=1),
    st.sets(st.tuples(st.sampled_from(["de-1", "de-2", "de-3"]), st.sampled_from(["en-1", "en-2"]))),
)
def test_pairs_are_sets(golds: set[tuple[str, str]], guess: set[tuple[str, str]]) -> None:
    right = len(golds & guess)
    wanted = 200 * right / (len(golds) + len(guess))
    assert scored("bucc2018", sorted(guess), sorted(golds))["f1"] == pytest.approx(wanted)
    assert scored("bucc2018", sorted(guess, reverse=True) * 2, sorted(golds))["f1"] == pytest.approx(wanted)
    assert scored("bucc2018", sorted(golds), sorted(golds))["f1"] == 100


@settings(max_examples=25, deadline=None)
@given(st.lists(st.permutations([f"Q{n}" for n in range(1, 8)]), min_size=1, max_size=4))
def test_rankings_score_the_place_of_the_right_one(rankings: list[list[str]]) -> None:
    guess = {f"m{i}": ranking for i, ranking in enumerate(rankings)}
    golds = {query: ["Q3"] for query in guess}
    wanted = 100 * made.mean([1 / (1 + ranking.index("Q3")) for ranking in rankings])
    assert scored("mewslix", guess, golds, "xtreme-r") == pytest.approx({"mrr20": wanted})
    # with one right answer, average precision is the reciprocal rank
    assert scored("lareqa", guess, golds, "xtreme-r") == pytest.approx({"map20": wanted})


# --- the benchmark's own mock folder, and speed -----------------------------------------------------------------


PUBLISHED = {
    "pawsx": {"accuracy": 51.4286},
    "xnli": {"accuracy": 30.6667},
    "panx": {"f1": 57.5079},
    "udpos": {"f1": 70.2175},
    "bucc2018": {"f1": 55.0},
    "tatoeba": {"accuracy": 53.6111},
    "xquad": {"exact_match": 77.2727, "f1": 79.9587},
    "mlqa": {"exact_match": 57.1429, "f1": 81.7687},
    "tydiqa": {"exact_match": 88.8889, "f1": 97.2222},
}


def test_the_benchmarks_own_mock_folder_scores_what_its_test_says() -> None:
    """`XLING_XTREME_MOCK` names `mock_test_data` of google-research/xtreme @ 838c13b6."""
    value = os.environ.get("XLING_XTREME_MOCK")
    if not value:
        pytest.skip(
            "XLING_XTREME_MOCK names no mock_test_data folder of google-research/xtreme: its figures are unchecked"
        )
    root = Path(value)
    for folder in ("predictions", "labels"):
        assert (root / folder).is_dir(), f"XLING_XTREME_MOCK={root}: no folder {folder} in it"
    found = submission.score(root / "predictions", root / "labels", benchmark.get("xtreme"))
    for task, scores in PUBLISHED.items():
        averages = {name: found.tasks[task].averages[name] for name in scores}
        assert averages == pytest.approx(scores, abs=5e-5), task
    assert found.overall is not None
    if (root / "labels" / "mewslix").is_dir():
        mewslix = submission.score(root / "predictions", root / "labels", benchmark.get("xtreme-r"), allow_missing=True)
        assert mewslix.tasks["mewslix"].score == pytest.approx(14.3903, abs=5e-5)


def test_scoring_loads_no_heavy_library(tmp_path: Path) -> None:
    made.write(tmp_path)
    code = (
        "import sys; from adapters_xling import cli; cli.main(sys.argv[1:]); "
        "print([m for m in ('torch', 'numpy', 'transformers', 'datasets') if m in sys.modules])"
    )
    words = ["submission", "score", str(tmp_path / "predictions"), str(tmp_path / "labels")]
    found = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
