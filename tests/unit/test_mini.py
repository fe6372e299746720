"""The mini world: splits apart, rows the same everywhere, labels true by the records, no one-sentence shortcut."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter

import pytest

from adapters_xling.tasks import mini
from adapters_xling.tasks.mini import grammar, plans, world

NUMBER = {"train": 250, "dev": 120, "test": 120}


def facts_of(plan: plans.Plan) -> list[grammar.Fact]:
    return [*plan.facts, *([plan.target] if plan.target else []), *plan.options]


@pytest.mark.parametrize("task", mini.TASKS)
@pytest.mark.parametrize("split", mini.SPLITS)
def test_every_fact_stays_in_its_split(task: str, split: str) -> None:
    for plan in plans.plans(task, split, NUMBER[split]):
        assert {world.split_of(fact) for fact in facts_of(plan)} == {split}


def test_pretraining_text_is_train_only() -> None:
    """Pretraining draws facts of the train split only, so its sentences state no dev or test combination."""
    held = {row["text"] for split in ("dev", "test") for row in mini.rows("mini-retrieval", split, "de", 120)}
    source = mini.text("de")
    assert not held & {next(source) for _ in range(4000)}


def test_same_rows_in_another_process() -> None:
    code = (
        "import json;from adapters_xling.tasks import mini;"
        "print(json.dumps([mini.rows(t,'dev','tr',12) for t in mini.TASKS]))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "77", "PYTHONPATH": ":".join(sys.path)},
    )
    assert json.loads(other.stdout) == [mini.rows(t, "dev", "tr", 12) for t in mini.TASKS]


@pytest.mark.parametrize("task", mini.TASKS)
def test_rows_are_parallel_prefix_stable_and_unique(task: str) -> None:
    english = mini.rows(task, "test", "en", 100)
    assert mini.rows(task, "test", "en", 40) == english[:40]
    assert len({row["id"] for row in english}) == len(english)
    assert len({json.dumps({k: v for k, v in row.items() if k != "id"}) for row in english}) == len(
        english
    ) or task in (
        "mini-mlm",
        "mini-pos",
        "mini-ner",
    )
    for language in mini.LANGUAGES:
        rows = mini.rows(task, "test", language, 100)
        assert [row["id"] for row in rows] == [row["id"] for row in english]
        if "label" in english[0]:
            assert [row["label"] for row in rows] == [row["label"] for row in english]


def contradicts(a: grammar.Fact, b: grammar.Fact) -> bool:
    """Written anew here: opposite polarity of the same fact, or two values where only one can hold."""
    if a._replace(neg=False) == b._replace(neg=False):
        return a.neg != b.neg
    if a.neg or b.neg or (a.kind, a.subj, a.time) != (b.kind, b.subj, b.time):
        return False
    if a.kind in ("at", "live"):
        return a.place != b.place
    if a.kind == "job":
        return a.pred != b.pred
    pairs = [{"big", "small"}, {"clean", "dirty"}, {"expensive", "cheap"}, {"red", "white"}, {"red", "black"}]
    pairs += [{"white", "black"}, {"happy", "sad"}, {"ill", "healthy"}]
    return a.kind in ("mood", "look") and {a.pred, b.pred} in pairs


def test_nli_labels_follow_from_the_facts() -> None:
    for split in mini.SPLITS:
        for plan in plans.plans("mini-nli", split, NUMBER[split]):
            if plan.target in plan.facts:
                expected = "entailment"
            elif any(contradicts(fact, plan.target) for fact in plan.facts):
                expected = "contradiction"
            else:
                expected = "neutral"
            assert plan.label == expected


def test_paraphrase_labels_follow_from_the_facts() -> None:
    for plan in plans.plans("mini-paraphrase", "train", 400):
        assert plan.label == str(int(plan.facts[0] == plan.target))


def test_paraphrases_differ_and_changes_are_small() -> None:
    """Word overlap must not give the label away: changed sentences overlap at least as much as true paraphrases."""
    overlap: dict[str, list[float]] = {"0": [], "1": []}
    for row in mini.rows("mini-paraphrase", "train", "en", 600):
        assert row["sentence1"] != row["sentence2"]
        a, b = (set(row[k].lower().strip(".").split()) for k in ("sentence1", "sentence2"))
        overlap[row["label"]].append(len(a & b) / len(a | b))
    means = {label: sum(values) / len(values) for label, values in overlap.items()}
    assert means["0"] > means["1"] - 0.25


def test_questions_have_one_answer() -> None:
    for plan in plans.plans("mini-qa", "test", 120):
        assert [f for f in plan.facts if plans.answers(f, plan.target, plan.part)] == [plan.target]


def test_one_choice_is_so_and_the_others_are_held_out_with_it() -> None:
    for plan in plans.plans("mini-choice", "test", 120):
        said = {f._replace(time="") for f in plan.facts}
        assert [option in said for option in plan.options] == [i == plan.label for i in range(4)]
        assert {world.split_of(option) for option in plan.options} == {"test"}


@pytest.mark.parametrize("language", mini.LANGUAGES)
def test_shared_words_do_not_tell_the_right_choice(language: str) -> None:
    """Taking the choice with the largest share of its words in the text, ties shared, is guessing."""
    rows = mini.rows("mini-choice", "test", language, 400)
    right = 0.0
    for row in rows:
        text = set(words_of(row["prompt"]))
        shares = [sum(w in text for w in words_of(c)) / len(words_of(c)) for c in row["choices"]]
        best = [i for i, share in enumerate(shares) if share == max(shares)]
        right += (row["label"] in best) / len(best)
    assert 100 * right / len(rows) < 31


def words_of(text: str) -> list[str]:
    """Lower-case words without marks."""
    return re.findall(r"[^\s.?!।。？¿]+", text.lower())


@pytest.mark.parametrize("language", mini.LANGUAGES)
def test_shapes(language: str) -> None:
    for task in ("mini-pos", "mini-ner"):
        known = set(mini.tags(task))
        for row in mini.rows(task, "dev", language, 150):
            assert len(row["words"]) == len(row["tags"]) > 0 and set(row["tags"]) <= known
            assert all(word and not word.isspace() and " " not in word for word in row["words"])
    for row in mini.rows("mini-ner", "dev", language, 150):
        for before, tag in zip(["O", *row["tags"]], row["tags"], strict=False):
            assert tag[0] != "I" or before[2:] == tag[2:]
    for row in mini.rows("mini-qa", "dev", language, 150):
        (answer,) = row["answers"]
        start, text = answer["answer_start"], answer["text"]
        assert text and row["context"][start : start + len(text)] == text
    for row in mini.rows("mini-choice", "dev", language, 150):
        assert len(set(row["choices"])) == 4 and 0 <= row["label"] < 4 and all(row["choices"])
    for task in ("mini-nli", "mini-paraphrase", "mini-retrieval"):
        for row in mini.rows(task, "dev", language, 50):
            assert all(value == value.strip() and "  " not in value for value in row.values() if isinstance(value, str))


@pytest.mark.parametrize("language", mini.LANGUAGES)
def test_vocabulary_covers_the_rows(language: str) -> None:
    known = set(mini.vocabulary(language))
    for split in mini.SPLITS:
        for row in mini.rows("mini-pos", split, language, 200):
            assert set(row["words"]) <= known


@pytest.mark.parametrize("language", mini.LANGUAGES)
def test_retrieval_sentences_are_distinct(language: str) -> None:
    for task in ("mini-retrieval", "mini-retrieval-hard"):
        texts = [row["text"] for row in mini.rows(task, "test", language, 200)]
        assert len(set(texts)) == len(texts)


def test_classes_are_balanced() -> None:
    for task in ("mini-nli", "mini-paraphrase", "mini-choice"):
        counts = Counter(row["label"] for row in mini.rows(task, "train", "en", 600))
        assert max(counts.values()) - min(counts.values()) < 80


def bayes(train: list[tuple[str, object]], test: list[tuple[str, object]]) -> float:
    """Accuracy of a naive Bayes classifier on words."""
    words: dict[object, Counter[str]] = {}
    for text, label in train:
        words.setdefault(label, Counter()).update(text.split())
    size = len(set().union(*words.values()))
    right = 0
    for text, label in test:
        scores = {
            y: sum(math.log((c[w] + 1) / (sum(c.values()) + size)) for w in text.split()) for y, c in words.items()
        }
        right += max(scores, key=scores.__getitem__) == label
    return right / len(test)


@pytest.mark.parametrize(
    ("task", "field", "chance"),
    [
        ("mini-nli", "hypothesis", 1 / 3),
        ("mini-nli", "premise", 1 / 3),
        ("mini-paraphrase", "sentence1", 1 / 2),
        ("mini-paraphrase", "sentence2", 1 / 2),
    ],
)
def test_one_sentence_does_not_tell_the_label(task: str, field: str, chance: float) -> None:
    train = [(row[field], row["label"]) for row in mini.rows(task, "train", "en", 2000)]
    held = train[1400:] + [(row[field], row["label"]) for row in mini.rows(task, "dev", "en", 400)]
    assert bayes(train[:1400], held) < chance + 0.08


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="mini-nli"):
        mini.rows("mini-nope", "train", "en")
    with pytest.raises(ValueError, match="sw"):
        mini.rows("mini-nli", "train", "xx")
