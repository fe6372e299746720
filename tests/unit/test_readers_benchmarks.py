"""Readers of licensed and retrieval sets, and what XTREME's scripts leave of others: rows, reasons, refusals."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from adapters_xling import tasks
from adapters_xling.errors import ConfigError, DataError, MissingData
from adapters_xling.tasks import readers, rows
from adapters_xling.tasks.readers.conll import Token, as_xtreme, fuse
from adapters_xling.tasks.rows import Raw


def read(name: str, *files: Path, language: str = "en", **options: Any) -> list[Raw]:
    return list(readers.get(name).read(files, options=options, language=language))


def put(folder: Path, name: str, text: str, *, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


# --- CCGbank -----------------------------------------------------------------------------------------------------


def auto(*sentences: list[tuple[str, str]], first: int = 1, file: str = "wsj_0001") -> str:
    lines = []
    for number, leaves in enumerate(sentences, start=first):
        nodes = " ".join(f"(<L {category} NN NN {word} {category}_1>)" for word, category in leaves)
        lines += [f"ID={file}.{number} PARSER=GOLD NUMPARSE=1", f"(<T S[dcl] 0 2> {nodes} )"]
    return "\n".join(lines) + "\n"


def ccg(root: Path, changes: dict[int, str] | None = None) -> Path:
    """All sections of CCGbank, invented; `changes` replaces some."""
    for section in range(22):
        text = auto([("Cats", "N"), ("run", "S[dcl]\\NP"), (".", ".")], file=f"wsj_{section:02d}01")
        put(
            root,
            f"intermediate/ccgbank/AUTO/{section:02d}/wsj_{section:02d}01.auto",
            (changes or {}).get(section, text),
        )
    return root


def test_words_and_categories_are_those_of_the_leaves(tmp_path: Path) -> None:
    text = auto([("-LRB-", "LRB"), ("Mr.", "N/N"), ("no", "(S\\NP)\\(S\\NP)")], [("Yes", "S")])
    found = read("ccgbank", put(tmp_path, "a.auto", text))
    assert [row.values["id"] for row in found] == ["wsj_0001.1", "wsj_0001.2"]
    assert found[0].values["words"] == ["-LRB-", "Mr.", "no"]
    assert found[0].values["tags"] == ["LRB", "N/N", "(S\\NP)\\(S\\NP)"]
    assert found[0].values["group"] == "wsj_0001" and found[1].row == 3


@pytest.mark.parametrize(
    ("text", "reject"),
    [
        ("ID=a.1 PARSER=GOLD\nID=a.2 PARSER=GOLD\n(<L N NN NN Cats N>)\n", ["no derivation follows the id", None]),
        ("ID=a.1 PARSER=GOLD\n", ["no derivation follows the id"]),
        ("ID=a.1 PARSER=GOLD\n(<T S 0 2> (<L N NN NN Cats N>) (<L N NN NN>) )\n", ["a leaf that is not <L category"]),
    ],
)
def test_a_sentence_that_is_torn_is_rejected(tmp_path: Path, text: str, reject: list[str | None]) -> None:
    found = [row.reject for row in read("ccgbank", put(tmp_path, "a.auto", text))]
    assert [one and one[: len(wanted or "")] for one, wanted in zip(found, reject, strict=True)] == reject


def test_another_file_than_ccgbanks_is_refused_by_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.auto: line 2 is neither a sentence's id .* data/AUTO"):
        read("ccgbank", put(tmp_path, "a.auto", "ID=a.1\nCats N\n"))
    with pytest.raises(DataError, match=r"line 1 is not UTF-8"):
        read("ccgbank", put(tmp_path, "b.auto", "ID=\xe4\n", encoding="latin-1"))
    ccg(tmp_path, dict.fromkeys(range(19), ""))
    with pytest.raises(DataError, match="hold 0 different tags"):
        tasks.load(tasks.get("ccg"), "dev", "en", data_dir=tmp_path)


def test_the_tags_are_read_off_the_train_sections_and_new_ones_in_dev_are_counted(tmp_path: Path) -> None:
    new = auto([("Cats", "N"), ("whom", "NP\\NP")], file="wsj_2001")
    ccg(tmp_path, {20: new})
    task = tasks.get("ccg")
    assert tasks.with_labels(task, data_dir=tmp_path).labels == (".", "N", "S[dcl]\\NP", rows.UNSEEN)
    train = tasks.load(task, "train", "en", data_dir=tmp_path)
    dev = tasks.load(task, "dev", "en", data_dir=tmp_path)
    assert (train.kept, train.unseen, dev.kept, dev.unseen) == (19, 0, 3, 1)
    assert [example.id for example in dev.examples] == ["wsj_1901.1", "wsj_2001.1", "wsj_2101.1"]
    assert dev.examples[1].tags == ("N", rows.UNSEEN)  # type: ignore[union-attr]
    before = tasks.ref(task, data_dir=tmp_path)
    assert tasks.ref(task, data_dir=tmp_path) == before
    ccg(tmp_path, {5: new, 20: new})
    assert "NP\\NP" in tasks.with_labels(task, data_dir=tmp_path).labels
    assert tasks.ref(task, data_dir=tmp_path) != before


def test_missing_ccgbank_says_what_it_is_and_where_it_belongs(tmp_path: Path) -> None:
    ccg(tmp_path)
    (tmp_path / "intermediate/ccgbank/AUTO/07/wsj_0701.auto").unlink()
    with pytest.raises(MissingData) as caught:
        tasks.load(tasks.get("ccg"), "train", "en", data_dir=tmp_path)
    for part in ("AUTO/07/*.auto: not there", "LDC2005T13", "intermediate/ccgbank/AUTO/", "catalog.ldc.upenn.edu"):
        assert part in str(caught.value)


# --- Universal Dependencies as XTREME joins them -----------------------------------------------------------------


def tokens(*lines: str) -> list[Token]:
    """Tokens from ``id word tag head``."""
    return [Token(*line.split()) for line in lines]


@pytest.mark.parametrize(
    ("language", "lines", "expected"),
    [
        # equally high parts: the order of tags decides (ADP before DET)
        ("de", ("1-2 zum _ _", "1 zu ADP 3", "2 dem DET 3", "3 Haus NOUN 0"), [("zum", "ADP"), ("Haus", "NOUN")]),
        # the part nearest to the root decides, whatever its tag
        ("es", ("1-2 dámelo _ _", "1 da VERB 0", "2 melo PRON 1"), [("dámelo", "VERB")]),
        ("fr", ("1 va VERB 0", "2-3 des _ _", "2 de ADP 4", "3 les DET 4", "4 gens NOUN 1"), None),
        # DET above ADP in this tree
        ("it", ("1-2 della _ _", "1 di ADP 2", "2 la DET 3", "3 casa NOUN 0"), [("della", "DET"), ("casa", "NOUN")]),
        # a tag that the language's order lacks comes last
        ("es", ("1-2 xy _ _", "1 x NOUN 3", "2 y DET 3", "3 z VERB 0"), [("xy", "DET"), ("z", "VERB")]),
        # heads in a circle still end
        ("de", ("1-2 ab _ _", "1 a NOUN 2", "2 b VERB 1"), [("ab", "VERB")]),
    ],
)
def test_a_written_word_takes_the_tag_of_its_highest_part(
    language: str, lines: tuple[str, ...], expected: list[tuple[str, str]] | None
) -> None:
    expected = expected or [("va", "VERB"), ("des", "ADP"), ("gens", "NOUN")]
    assert [(token.word, token.tag) for token in fuse(tokens(*lines), language)] == expected


def test_sentences_without_words_are_turned_away_and_joiners_leave_words() -> None:
    assert as_xtreme(tokens("1 _ NOUN 0", "2 _ X 1", "3 . PUNCT 1"))[1] == "words are withheld (_)"
    assert as_xtreme(tokens("1 a NOUN 0", "2 _ PUNCT 1", "3 b X 1"))[1] is None
    cleaned, _ = as_xtreme([Token("1", "می\u200cشود کرد", "VERB", "0")])
    assert cleaned[0].word == "میشودکرد"


CONLLU = """# text = zum Haus
1-2\tzum\t_\t_\t_\t_\t_\t_\t_\t_
1\tzu\tzu\tADP\t_\t_\t3\tcase\t_\t_
2\tdem\tder\tDET\t_\t_\t3\tdet\t_\t_
2.1\tleer\t_\tX\t_\t_\t_\t_\t_\t_
3\tHaus\tHaus\tNOUN\t_\t_\t0\troot\t_\t_

"""


def test_all_treebanks_of_a_language_are_joined_by_file_name(tmp_path: Path) -> None:
    for folder, name in (("UD_German-PUD", "de_pud"), ("UD_German-GSD", "de_gsd"), ("UD_English-PUD", "en_pud")):
        text = CONLLU.replace("Haus", f"Haus-{name}")
        put(tmp_path, f"ud/ud-treebanks-v2.5/{folder}/{name}-ud-test.conllu", text)
    found = tasks.load(tasks.get("udpos"), "test", "de", data_dir=tmp_path)
    assert [example.words for example in found.examples] == [("zum", "Haus-de_gsd"), ("zum", "Haus-de_pud")]  # type: ignore[union-attr]
    assert found.examples[0].tags == ("ADP", "NOUN")  # type: ignore[union-attr]
    assert len(found.files) == 2
    parts = read("conll", tmp_path / found.files[0])[0]
    assert parts.values["words"] == ["zu", "dem", "Haus-de_gsd"]  # without `fused`: the parts


# --- retrieval ---------------------------------------------------------------------------------------------------


def xquad_r(title: str, sentences: list[str], questions: dict[str, int], *, answer: str | None = None) -> str:
    """One paragraph; each question is answered by the sentence of a number."""
    breaks, at = [], 0
    for sentence in sentences:
        breaks.append([at, at + len(sentence)])
        at += len(sentence) + 1
    qas = [
        {
            "id": key,
            "question": f"{key} ?",
            "answers": [{"text": sentences[n][:3] if answer is None else answer, "answer_start": breaks[n][0]}],
        }
        for key, n in questions.items()
    ]
    paragraph = {"context": " ".join(sentences), "sentence_breaks": breaks, "qas": qas}
    return json.dumps({"data": [{"title": title, "paragraphs": [paragraph]}]})


def test_a_question_matches_the_answer_sentence_of_every_language(tmp_path: Path) -> None:
    en = put(tmp_path, "en.json", xquad_r("T", ["Ada ran.", "Ben sat.", "Ada ran."], {"q1": 0, "q2": 1}))
    de = put(tmp_path, "de.json", xquad_r("T", ["Ada lief.", "Ben saß."], {"q1": 1, "q2": 1}))
    found = read("sentence_answers", en, en, de)
    values = {row.values["id"]: row.values for row in found}
    assert values["q1"]["matches"] == ("en_1_0", "en_1_2", "de_1_1")  # a sentence that is repeated counts each time
    assert values["q2"]["matches"] == ("en_1_1", "de_1_1")
    assert values["de_1_1"] == {"id": "de_1_1", "text": "Ben saß.", "side": "corpus", "group": "T"}
    assert Counter(row.values["side"] for row in found) == {"query": 2, "corpus": 5}


def test_answers_outside_of_sentences_and_blanked_ones_are_rejected(tmp_path: Path) -> None:
    text = xquad_r("T", ["Ada ran.", "Ben sat."], {"q1": 0, "q2": 1})
    good = put(tmp_path, "en.json", text)
    outside = put(tmp_path, "de.json", text.replace('"answer_start": 9', '"answer_start": 8'))
    rejects = [row.reject for row in read("sentence_answers", outside, good) if row.values["side"] == "query"]
    assert rejects == [None, "its answer begins in no sentence"]
    blank = put(tmp_path, "fr.json", xquad_r("T", ["Ada ran."], {"q1": 0}, answer=""))
    (question, _) = read("sentence_answers", blank, blank)
    assert (question.reject, question.values["matches"]) == ("blank answer", ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"data": [{"paragraphs": [{"context": "a", "qas": []}]}]}',
            "paragraph 1: not XQuAD-R's layout .*sentence_br",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "a", "sentence_breaks": [[0, 9]], "qas": []}]}]}',
            "paragraph 1: sentence break 0..9 is outs",
        ),
        ("[]", "paragraph 0: not XQuAD-R's layout"),
        ("{", "line 1 is not valid JSON"),
    ],
)
def test_another_layout_than_xquad_rs_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = put(tmp_path, "en.json", text)
    with pytest.raises(DataError, match=rf"en\.json: {message}"):
        read("sentence_answers", file, file)
    with pytest.raises(ConfigError, match="wants a file of questions and one or more to search"):
        read("sentence_answers", file)


def mewsli(**changes: Any) -> dict[str, Any]:
    text = "Rain fell. In Paris {x} it\nsnowed. End."
    mention = {"example_id": "m1", "entity_id": "Q90", "mention_span": {"start": 14, "end": 19, "text": "Paris"}}
    spans = [{"start": 0, "end": 10}, {"start": 11, "end": 34}, {"start": 35, "end": 39}]
    context = {"document_id": "en-1", "language": "en", "text": text, "sentence_spans": spans}
    return {"context": {**context, **changes}, "mentions": [mention]}


ENTITY = {"entity_id": "Q90", "description": "A city.\nBig.", "sentence_spans": [{"start": 0, "end": 7}]}


def test_mentions_are_marked_in_their_sentence_and_entities_are_described(tmp_path: Path) -> None:
    lines = [mewsli(), mewsli(language="de")]
    queries = put(tmp_path, "m.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    entities = put(tmp_path, "e.jsonl", json.dumps(ENTITY))
    query, entity = read("mentions", queries, entities)
    assert query.values["text"] == "Paris: In { Paris } {x} it snowed."
    assert (query.values["id"], query.values["matches"], entity.values["id"]) == ("m1", ("Q90",), "Q90")
    assert entity.values["text"] == "A city."


@pytest.mark.parametrize(
    ("line", "reject"),
    [
        (mewsli(text=""), "the article's text is not filled in"),
        (mewsli(text="x" * 39), "the mention is not in the text"),
        (mewsli(sentence_spans=[{"start": 0, "end": 16}, {"start": 16, "end": 39}]), "the mention lies in no single"),
    ],
)
def test_mentions_that_cannot_be_shown_are_rejected(tmp_path: Path, line: dict[str, Any], reject: str) -> None:
    files = put(tmp_path, "m.jsonl", json.dumps(line)), put(tmp_path, "e.jsonl", json.dumps(ENTITY))
    assert str(read("mentions", *files)[0].reject).startswith(reject)


def test_another_layout_than_mewslis_is_refused(tmp_path: Path) -> None:
    good, entity = put(tmp_path, "m.jsonl", json.dumps(mewsli())), put(tmp_path, "e.jsonl", json.dumps(ENTITY))
    with pytest.raises(DataError, match=r"x\.jsonl: row 1: not Mewsli-X's layout \(context, mentions\)"):
        read("mentions", put(tmp_path, "x.jsonl", '{"text": "a"}'), entity)
    with pytest.raises(DataError, match=r"y\.jsonl: row 1: not Mewsli-X's layout \(entity_id"):
        read("mentions", good, put(tmp_path, "y.jsonl", '{"entity_id": "Q1"}'))
    with pytest.raises(ConfigError, match="wants two files"):
        read("mentions", good)


def test_flores_files_are_found_by_their_own_codes(tmp_path: Path) -> None:
    folder = "flores200_dataset/devtest"
    for code in ("eng_Latn", "tha_Thai", "arb_Arab", "zho_Hans", "kor_Hang"):
        put(tmp_path, f"{folder}/{code}.devtest", f"b {code}\na {code}\n")
    for language, code in (("th", "tha_Thai"), ("ar", "arb_Arab"), ("zh", "zho_Hans"), ("ko", "kor_Hang")):
        found = tasks.load(tasks.get("flores200"), "test", language, data_dir=tmp_path).examples
        assert [e.text for e in found] == ["b eng_Latn", "a eng_Latn", f"b {code}", f"a {code}"]  # type: ignore[union-attr]


# --- tables ------------------------------------------------------------------------------------------------------


def test_files_are_taken_in_turn_where_the_task_says_so(tmp_path: Path) -> None:
    files = [put(tmp_path, f"{n}.tsv", "".join(f"{n}{i}\n" for i in range(n))) for n in (1, 3, 2)]
    found = read("table", *files, header=["text"], interleave=True)
    assert [row.values["text"] for row in found] == ["10", "30", "20", "31", "21", "32"]


def test_quotes_that_xtremes_script_doubled_are_read_as_they_were(tmp_path: Path) -> None:
    """Its csv writer quotes a text that has quotes in it; plain quotes of the authors' files stay."""
    plain = ['Le "Cimetière" de', '"Rang De Basanti".', '"', "no quotes", "", '"quoted"', 'a "" b']
    written = io.StringIO()
    csv.writer(written, delimiter="\t").writerows([text, "1"] for text in plain)
    file = put(tmp_path, "a.tsv", written.getvalue().replace("\r\n", "\n"))
    found = read("table", file, header=["text", "label"], unquote=True)
    assert [row.values["text"] for row in found] == plain
    authors = put(tmp_path, "b.tsv", "".join(f"{text}\t1\n" for text in plain))
    found = read("table", authors, header=["text", "label"], unquote=True)
    assert [row.values["text"] for row in found] == plain
    for name in ("pawsx", "kit-pawsx", "xnli", "mnli"):
        own = [one for one in tasks.get(name).sources if getattr(one, "options", {}).get("header")]
        assert own and all(one.options["unquote"] for one in own), name


def test_commonsenseqa_is_read_as_its_authors_and_as_the_hub_write_it(tmp_path: Path) -> None:
    choices = [{"label": "A", "text": "bank"}, {"label": "B", "text": "park"}]
    authors = {"answerKey": "B", "id": "1", "question": {"question_concept": "x", "choices": choices, "stem": "Where?"}}
    hub = {
        "answerKey": "B",
        "id": "1",
        "question": "Where?",
        "choices": {"label": ["A", "B"], "text": ["bank", "park"]},
    }
    for row in (authors, hub):
        put(tmp_path, "intermediate/commonsense_qa/dev_rand_split.jsonl", json.dumps(row))
        (found,) = tasks.load(tasks.get("commonsenseqa"), "dev", "en", data_dir=tmp_path).examples
        assert (found.prompt, found.choices, found.label) == ("Where?", ("bank", "park"), 1)  # type: ignore[union-attr]


def test_the_first_rows_of_anli_hold_all_rounds_alone_and_joined(tmp_path: Path) -> None:
    anli = {"context": "c", "hypothesis": "d", "label": "e"}
    for part in "123":
        rows = [json.dumps({**anli, "uid": f"r{part}-{i}"}) for i in range(3)]
        put(tmp_path, f"intermediate/anli/R{part}/dev.jsonl", "\n".join(rows))
    first = tasks.load(tasks.get("anli"), "dev", "en", data_dir=tmp_path, limit=4).examples
    assert [one.id for one in first] == ["r1-0", "r2-0", "r3-0", "r1-1"]
    for name, file in (("snli", "snli/snli_1.0/snli_1.0_dev"), ("mnli", "mnli/multinli_1.0/multinli_1.0_dev_matched")):
        lines = ["gold_label\tsentence1\tsentence2\tpairID", *(f"neutral\ta\tb\t{name}-{i}" for i in range(3))]
        put(tmp_path, f"intermediate/{file}.txt", "\n".join(lines))  # and no .jsonl, so the three are joined
    joined = tasks.load(tasks.get("anli-plus"), "dev", "en", data_dir=tmp_path, limit=9).examples
    assert {one.id for one in joined} == {f"{name}-{i}" for name in ("snli", "mnli") for i in range(3)} | {
        "r1-0", "r2-0", "r3-0",
    }  # fmt: skip


def test_anli_plus_is_the_union_with_labels_of_one_kind(tmp_path: Path) -> None:
    snli = {"sentence1": "a", "sentence2": "b", "gold_label": "neutral", "pairID": "s1"}
    anli = {"uid": "u1", "context": "c", "hypothesis": "d", "label": "e"}
    body = "intermediate"
    put(tmp_path, f"{body}/snli/snli_1.0/snli_1.0_dev.jsonl", json.dumps({**snli, "gold_label": "-"}))
    put(tmp_path, f"{body}/mnli/multinli_1.0/multinli_1.0_dev_matched.jsonl", json.dumps(snli))
    for part in "123":
        put(tmp_path, f"{body}/anli/R{part}/dev.jsonl", json.dumps({**anli, "uid": f"u{part}"}))
    found = tasks.load(tasks.get("anli-plus"), "dev", "en", data_dir=tmp_path)
    pairs = [(example.id, example.label) for example in found.examples]  # type: ignore[union-attr]
    assert pairs == [("s1", "neutral"), ("u1", "entailment"), ("u2", "entailment"), ("u3", "entailment")]
    assert found.dropped == {"label '-': no gold": 1}
    assert tasks.get("anli-plus").head_name == tasks.get("mnli").head_name == tasks.get("xnli").head_name
