"""Invented files in the layout that a shipped task file describes, so that every source of every task can be read.

What a row holds is made up; which columns, labels and paths it has comes from the task file.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters_xling import languages
from adapters_xling.spec import FileSource, TaskSpec

NUM_ROWS = 60
PLAIN_LINES = 1000
"""Running text: enough that one line in fifty, which a task may keep to select on, is some lines."""
TEXT = "the cat sat on the mat and the dog ran to the old house in the green park"
WORDS = TEXT.split()


def words(number: int, count: int = 5) -> list[str]:
    """Some words, different for every number."""
    return [*(WORDS[(number * 7 + i) % len(WORDS)] for i in range(count)), f"no{number}"]


def write(task: TaskSpec, source: FileSource, split: str, language: str, root: Path) -> None:
    """Write the files that a source wants for a split and language."""
    wanted = source.splits.get(split, source.splits.get("all", ()))
    patterns = (wanted,) if isinstance(wanted, str) else wanted
    paths = [root / languages.fill(pattern, language).replace("*", "xx") for pattern in patterns]
    for number, (path, text) in enumerate(zip(paths, _texts(task, source, language, paths), strict=True)):
        path.parent.mkdir(parents=True, exist_ok=True)
        if number == 0 or not path.exists():  # a list may name a file twice (LAReQA: the questions' language)
            path.write_text(text, encoding="utf-8")


def _texts(task: TaskSpec, source: FileSource, language: str, paths: list[Path]) -> list[str]:
    if source.reader in ("table", "linked"):
        return [_table(task, source.options, path) for path in paths]
    if source.reader == "conll":
        return [_conll(task, source.options, path, language) for path in paths]
    if source.reader == "squad":
        return [_squad(task, source.options, language) for _ in paths]
    if source.reader == "ccgbank":
        return [_auto(path) for path in paths]
    if source.reader == "sentence_answers":
        return [_answers(path.stem) for path in paths]
    if source.reader == "mentions":
        return _mentions(language)
    if source.reader == "plain":
        return ["".join(f"{' '.join(words(i))} {i}\n" for i in range(PLAIN_LINES)) for _ in paths]
    if source.reader == "aligned":
        before = source.options.get("from_line", 1) - 1
        num = before + NUM_ROWS
        return ["".join(f"{num - i} {side} line\n" for i in range(num)) for side in ("one", "two")]
    if source.reader == "bitext":
        pools = ["".join(f"{side}-{i}\t{side} {' '.join(words(i))}\n" for i in range(NUM_ROWS)) for side in "qc"]
        gold = "".join(f"q-{i}\tc-{i}\n" for i in range(0, NUM_ROWS, 2))
        return [*pools, gold][: len(paths)]
    raise AssertionError(f"nothing is invented for reader {source.reader!r}")


def row(task: TaskSpec, options: Mapping[str, Any], number: int, file: Path) -> dict[str, Any]:
    """One row by column names."""
    columns = options.get("columns", {})
    raw_labels = {value: key for key, value in options.get("labels", {}).items()}
    row: dict[str, Any] = {}

    def put(name: str, default: str, value: Any) -> None:
        column = columns.get(name, default)
        if isinstance(column, Mapping):
            for part in column["join"]:
                allowed = list(options.get("values", {}).get(part, {}))
                row[part] = allowed[number % len(allowed)] if allowed else f"{part} {value}"
        else:
            row[column if isinstance(column, str) else column[0]] = value

    if task.kind == "sentence":
        header = options.get("header", ["sentence1", "sentence2", "label"])
        texts = [column for column in header if column != "label"]
        put("first", texts[0], " ".join(words(number)))
        put("second", texts[1], " ".join(["because", *words(number)]))
        label = task.labels[number % len(task.labels)]
        put("label", "label", raw_labels.get(label, label))
    else:
        put("prompt", "prompt", " ".join(words(number)))
        wanted = columns["choices"]
        names = wanted if not isinstance(wanted, str) else ["A", "B", "C"]
        texts = [f"choice {name} {number}" for name in names]
        if not isinstance(wanted, str):
            row.update(zip(wanted, texts, strict=True))
            label = str(number % len(names))
        elif wanted == "endings":
            row[wanted], label = texts, str(number % len(names))
        else:
            row[wanted], label = dict(zip(names, texts, strict=True)), names[number % len(names)]
        put("label", "label", raw_labels.get(label, label))
    for name in ("id", "group", "choice_prefix"):
        if name in columns and (columns[name] if isinstance(columns[name], str) else columns[name][0]) not in row:
            put(name, name, f"{name} {number} {file.parent.name}/{file.stem}")
    return row


def _table(task: TaskSpec, options: Mapping[str, Any], path: Path) -> str:
    rows = [row(task, options, number, path) for number in range(NUM_ROWS)]
    if path.suffix == ".jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".json":
        return json.dumps(dict.fromkeys(options["at"], rows))
    header = list(options.get("header", rows[0]))
    if path.suffix == ".csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()
    lines = [] if "header" in options else ["\t".join(header)]
    if "where" in options:
        rows = [{**row, "language": language} for row in rows for language in ("en", "de")]
        lines = ["\t".join(rows[0])]
        header = list(rows[0])
    return "\n".join([*lines, *("\t".join(str(row[column]) for column in header) for row in rows)]) + "\n"


def _conll(task: TaskSpec, options: Mapping[str, Any], path: Path, language: str) -> str:
    prefix = f"{language}:" if options.get("strip_language") else ""
    sentences = []
    for number in range(NUM_ROWS):
        tags = [task.labels[(number + i) % len(task.labels)] for i in range(6)]
        if path.suffix == ".conllu":
            cells = [[str(i), w, "_", t, "_", "_", str(i - 1), "_", "_", "_"] for i, (w, t) in _numbered(number, tags)]
            sentences.append("# text\n" + "\n".join("\t".join(row) for row in cells))
        else:
            sentences.append("\n".join(f"{prefix}{w}\t{t}" for _, (w, t) in _numbered(number, tags)))
    return "\n\n".join(sentences) + "\n\n"


def _numbered(number: int, tags: list[str]) -> list[tuple[int, tuple[str, str]]]:
    return list(enumerate(zip(words(number), tags, strict=True), start=1))


def _squad(task: TaskSpec, options: Mapping[str, Any], language: str) -> str:
    prefix = languages.fill(options.get("id_prefix", ""), language)
    articles = []
    for number in range(NUM_ROWS):
        context = " ".join(words(number, 12))
        answer = {"text": f"no{number}", "answer_start": context.index(f"no{number}")}
        questions = [{"id": f"{prefix}{number}", "question": "where is the house ?", "answers": [answer]}]
        if task.options.get("impossible"):
            questions.append({"id": f"x{number}", "question": "who ?", "answers": [], "is_impossible": True})
        articles.append({"title": f"T{number}", "paragraphs": [{"context": context, "qas": questions}]})
    return json.dumps({"data": articles, "version": "1"})


def _auto(path: Path) -> str:
    lines = []
    for number in range(3):
        name = f"wsj_{path.parent.name}01.{number + 1}"
        leaves = [("N/N", "green"), ("N", "park"), ("S[dcl]\\NP", "ran"), (".", ".")]
        nodes = " ".join(f"(<L {category} XX XX {word} {category}>)" for category, word in leaves)
        lines += [f"ID={name} PARSER=GOLD NUMPARSE=1", f"(<T S[dcl] 0 2> {nodes} )"]
    return "\n".join(lines) + "\n"


def _answers(language: str) -> str:
    articles = []
    for number in range(NUM_ROWS):
        context = f"{language} one {number} . {language} two {number} ."
        middle = context.index(". ") + 1
        articles.append(
            {
                "title": f"T{number}",
                "paragraphs": [
                    {
                        "context": context,
                        "sentence_breaks": [[0, middle], [middle + 1, len(context)]],
                        "qas": [
                            {
                                "id": f"q{number}",
                                "question": f"who ran {number} ?",
                                "answers": [{"text": "two", "answer_start": context.index("two")}],
                            }
                        ],
                    }
                ],
            }
        )
    return json.dumps({"data": articles})


def _mentions(language: str) -> list[str]:
    queries, entities = [], []
    for number in range(NUM_ROWS):
        name = f"no{number}"
        text = f"the house . a cat sat on {name} ."
        start = text.index(name)
        span = {"start": start, "end": start + len(name), "text": name}
        context = {"document_id": f"d{number}", "language": language, "text": text}
        context["sentence_spans"] = [{"start": 0, "end": 11}, {"start": 12, "end": len(text)}]
        mention = {"example_id": f"m{number}", "entity_id": f"Q{number}", "mention_span": span}
        queries.append({"context": context, "mentions": [mention]})
        described = f"{name} is a park ."
        spans = [{"start": 0, "end": len(described)}]
        entities.append({"entity_id": f"Q{number}", "description": described, "sentence_spans": spans})
    return ["".join(json.dumps(row) + "\n" for row in rows) for rows in (queries, entities)]
