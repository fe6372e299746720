"""Made-up submissions: predictions, labels and the scores they must get, worked out with plain arithmetic.

Each language of a task gets another score, so that an average over the wrong languages, or with the wrong weights,
shows. Nothing here uses the package's scorers.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


def codes(text: str) -> list[str]:
    return text.split()


XNLI = codes("ar bg de el en es fr hi ru sw th tr ur vi zh")
UDPOS = codes("af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh")
PANX = codes(
    "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl tr ur vi "
    "yo zh"
)
TATOEBA = [code for code in PANX if code not in ("en", "ms", "my", "yo")]
XQUAD = codes("ar de el en es hi ru th tr vi zh")
MLQA = codes("ar de en es hi vi zh")
TYDIQA = codes("ar bn en fi id ko ru sw te")
LANGUAGES = {
    "xtreme": {
        "xnli": XNLI,
        "pawsx": ["de", "en", "es", "fr", "ja", "ko", "zh"],
        "udpos": UDPOS,
        "panx": PANX,
        "xquad": XQUAD,
        "mlqa": MLQA,
        "tydiqa": TYDIQA,
        "bucc2018": ["de", "fr", "ru", "zh"],
        "tatoeba": TATOEBA,
    },
    "xtreme-r": {
        "xnli": XNLI,
        "xcopa": ["et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh"],
        "udpos": sorted([*UDPOS, *["lt", "pl", "uk", "wo", "ro"]]),
        "panx": sorted([*PANX, *["qu", "pl", "uk", "az", "lt", "pa", "gu", "ro"]]),
        "xquad": sorted([*XQUAD, "ro"]),
        "mlqa": MLQA,
        "tydiqa": TYDIQA,
        "mewslix": ["ar", "de", "en", "es", "fa", "ja", "pl", "ro", "ta", "tr", "uk"],
        "lareqa": XQUAD,
        "tatoeba": sorted([*TATOEBA, *["az", "lt", "pl", "uk", "ro"]]),
    },
}
GROUPS = {
    "xtreme": {
        "classification": ["xnli", "pawsx"],
        "tagging": ["udpos", "panx"],
        "qa": ["xquad", "mlqa", "tydiqa"],
        "retrieval": ["bucc2018", "tatoeba"],
    },
    "xtreme-r": {
        "classification": ["xnli", "xcopa"],
        "tagging": ["udpos", "panx"],
        "qa": ["xquad", "mlqa", "tydiqa"],
        "retrieval": ["mewslix", "lareqa", "tatoeba"],
    },
}


class Made(NamedTuple):
    """Texts of two files and what the first must score against the second."""

    predictions: str
    labels: str
    scores: dict[str, float]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def of_three(right: int, of: int, predicted: int) -> dict[str, float]:
    precision, recall = right / predicted, right / of
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"precision": 100 * precision, "recall": 100 * recall, "f1": 100 * f1}


def labels(names: Sequence[str], i: int) -> Made:
    """Ten rows, of which 1 + i % 10 are right."""
    gold = [names[row % len(names)] for row in range(10)]
    right = 1 + i % 10
    guess = gold[:right] + [names[(row + 1) % len(names)] for row in range(right, 10)]
    return Made("\n".join(guess) + "\n", "\n".join(gold) + "\n", {"accuracy": 100 * right / 10})


def choices(i: int) -> Made:
    made = labels(["0", "1"], i)
    guess, gold = ([json.dumps({"label": int(row)}) for row in text.split()] for text in made[:2])
    return Made("\n".join(guess) + "\n", "\n".join(gold) + "\n", made.scores)


def indices(i: int) -> Made:
    """Twelve sentences; the predictions of the last ones all point to sentence 0."""
    right = 2 + i % 10
    gold = [str((5 * row + 1) % 12) for row in range(12)]
    guess = gold[:right] + ["0" if index != "0" else "3" for index in gold[right:]]
    return Made("\n".join(guess) + "\n", "\n".join(gold) + "\n", {"accuracy": 100 * right / 12})


def runs(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Chunks of tags without prefixes: equal neighbours are one, but each S… stands alone."""
    found, at = set(), 0
    for tag, group in itertools.groupby(tags):
        size = len(list(group))
        if tag.startswith("S"):
            found |= {(tag, place, place + 1) for place in range(at, at + size)}
        else:
            found.add((tag, at, at + size))
        at += size
    return found


def udpos(i: int) -> Made:
    """Two sentences, in which the i-th word or two are wrong in different ways."""
    gold = [
        ["PRON", "AUX", "VERB", "DET", "NOUN", "NOUN", "ADP", "PROPN", "PROPN", "PUNCT"],
        ["SCONJ", "SCONJ", "NOUN", "CCONJ", "NOUN", "SYM", "SYM", "NUM", "INTJ", "INTJ", "X"],
    ]
    wrong = ["CCONJ", "SCONJ", "NOUN", "VERB", "SYM"]
    guess = [list(row) for row in gold]
    guess[0][i % 10] = wrong[i % 5]
    guess[1][i % 11] = wrong[(i + 1) % 5]
    found, there = ({(s, *c) for s, row in enumerate(rows) for c in runs(row)} for rows in (guess, gold))
    return Made(sentences(guess), sentences(gold), of_three(len(found & there), len(there), len(found)))


def panx(i: int) -> Made:
    """Gold PER(0-1) LOC(3) LOC(4) ORG(6-8) and, in a second sentence, PER(0); predictions miss or cut one of them."""
    gold = [
        ["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "O", "B-ORG", "I-ORG", "I-ORG"],
        ["B-PER", "O", "O"],
    ]
    first = {
        0: ("B-PER I-PER O B-LOC B-LOC O B-ORG I-ORG I-ORG", 4, 4),  # all right
        1: ("B-PER O O B-LOC B-LOC O B-ORG I-ORG I-ORG", 3, 4),  # PER too short
        2: ("B-PER I-PER O B-LOC I-LOC O B-ORG I-ORG I-ORG", 2, 3),  # two LOC become one
        3: ("I-PER I-PER O B-LOC B-LOC O I-ORG I-ORG I-ORG", 4, 4),  # I- after O opens a chunk
        4: ("B-PER I-PER O O O O B-ORG I-PER I-ORG", 1, 4),  # ORG falls into three, LOC are lost
    }[i % 5]
    second, right, found = [("B-PER O O", 1, 1), ("O O O", 0, 0), ("B-LOC O B-PER", 0, 2)][i % 3]
    guess = [first[0].split(), second.split()]
    return Made(sentences(guess), sentences(gold), of_three(first[1] + right, 5, first[2] + found))


def sentences(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("".join(f"{tag}\n" for tag in row) for row in rows)


def answers(i: int) -> Made:
    """Four questions: some right, one with 1 of 2 words, one that is left out; the others answered wrongly."""
    right = i % 3
    gold = {f"q{n}": ["alpha beta", "gamma"] for n in range(4)}
    guess = {f"q{n}": "Gamma." for n in range(right)}
    guess["q2"] = "alpha delta"  # one word in common: precision 1/2, recall 1/2, F1 1/2
    guess |= {f"q{n}": "delta" for n in range(right, 2)}  # q3 is missing
    exact, overlap = 100 * right / 4, 100 * (right + 1 / 2) / 4
    return Made(json.dumps(guess), squad(gold), {"exact_match": exact, "f1": overlap, "mean": (exact + overlap) / 2})


def squad(golds: dict[str, list[str]]) -> str:
    questions = [
        {"id": id_, "question": "?", "answers": [{"text": text, "answer_start": 0} for text in texts]}
        for id_, texts in golds.items()
    ]
    article = {"title": "t", "paragraphs": [{"context": "alpha beta gamma", "qas": questions}]}
    return json.dumps({"version": "1.1", "data": [article]})


def pairs(code: str, i: int) -> Made:
    """Ten gold pairs, i % 4 of which are among four mined ones, one of them twice."""
    right = i % 4
    gold = [f"{code}-{n:06d}\ten-{n:06d}" for n in range(10)]
    guess = gold[:right] + [f"{code}-{n:06d}\ten-999999" for n in range(right, 4)]
    return Made("\n".join([*guess, guess[0]]) + "\n", "\n".join(gold) + "\n", of_three(right, 10, 4))


def entities(i: int) -> Made:
    """Three mentions: the right entity at rank 1 + i, at rank 21, and not at all (left out)."""
    others = [f"Q{n}" for n in range(100, 130)]
    guess = {"m1": [*others[:i], "Q1", *others[i:19]], "m2": [*others[:20], "Q2"]}
    gold = {"m1": ["Q1"], "m2": ["Q2"], "m3": ["Q3"]}
    return Made(json.dumps(guess), json.dumps(gold), {"mrr20": 100 * (1 / (1 + i)) / 3})


def sentences_of_answers(i: int) -> Made:
    """Two questions with three right sentences each: at ranks 1, 3 and 4 + i; none for the other."""
    ranking = ["a", "x0", "b", *[f"x{n}" for n in range(1, i + 1)], "c"]
    precision = (1 / 1 + 2 / 3 + 3 / (4 + i)) / 3
    guess = {"q1": ranking, "q2": ["x", "y"]}
    gold = {"q1": ["a", "b", "c"], "q2": ["d", "e", "f"]}
    return Made(json.dumps(guess), json.dumps(gold), {"map20": 100 * precision / 2})


def make(task: str, code: str, i: int) -> tuple[str, Made]:
    """Suffix and contents of a task's file in the i-th language."""
    if task == "xnli":
        return ".tsv", labels(["entailment", "neutral", "contradiction"], i)
    if task == "pawsx":
        return ".tsv", labels(["0", "1"], i)
    if task == "bucc2018":
        return ".tsv", pairs(code, i)
    if task in ("xquad", "mlqa", "tydiqa"):
        return ".json", answers(i // 2 if task == "tydiqa" else i)
    simple = {
        "xcopa": (".jsonl", choices),
        "udpos": (".tsv", udpos),
        "panx": (".tsv", panx),
        "tatoeba": (".tsv", indices),
        "mewslix": (".json", entities),
        "lareqa": (".json", sentences_of_answers),
    }
    suffix, maker = simple[task]
    return suffix, maker(i)


def write(root: Path, benchmark: str = "xtreme") -> dict[str, dict[str, dict[str, float]]]:
    """Write `root/predictions` and `root/labels`; gives task -> language -> metric -> the score it must get."""
    wanted: dict[str, dict[str, dict[str, float]]] = {}
    for task, codes in LANGUAGES[benchmark].items():
        for folder in ("predictions", "labels"):
            (root / folder / task).mkdir(parents=True)
        wanted[task] = {}
        for i, code in enumerate(codes):
            suffix, made = make(task, code, i)
            (root / "predictions" / task / f"test-{code}{suffix}").write_text(made.predictions, encoding="utf-8")
            (root / "labels" / task / f"test-{code}{suffix}").write_text(made.labels, encoding="utf-8")
            wanted[task][code] = made.scores
    return wanted


def task_score(languages: dict[str, dict[str, float]]) -> float:
    """What a task contributes: accuracy, F1, MRR or mAP; of questions the mean of mean EM and mean F1."""

    def over(name: str) -> float:
        return mean([scores[name] for scores in languages.values()])

    names = next(iter(languages.values()))
    if "exact_match" in names:
        return (over("exact_match") + over("f1")) / 2
    return over(next(name for name in ("accuracy", "f1", "mrr20", "map20") if name in names))
