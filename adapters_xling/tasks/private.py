"""A user's own rows as a task: look at a file, guess its columns, write the task file that a person then checks."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from adapters_xling import languages
from adapters_xling.errors import ConfigError, DataError, MissingData, unknown
from adapters_xling.spec import FileSource, TaskSpec, decode
from adapters_xling.strict import dump_yaml
from adapters_xling.tasks import data, readers, rows
from adapters_xling.tasks.data import Rows
from adapters_xling.tasks.examples import Example, SpanExample
from adapters_xling.tasks.readers.table import other_separator
from adapters_xling.tasks.rows import Raw

GOLD = ("label", "tags", "answers", "impossible")
"""Fields that are gold: rows to predict for may have such columns, and they are not looked at."""

_ASKED_ABOUT = ("context", "premise")
"""Usual names of a text that a question is asked about."""
_WORD_PER_LINE = (".conll", ".conllu", ".iob", ".iob2", ".bio")
"""Suffixes of files that reader `conll` reads: a word and its tag per line."""

_ONE_CHOICE = re.compile(r"choice[ _-]?(\d+)", re.IGNORECASE)

MAX_LABELS = 100
"""More different labels than this are taken for a column of free text."""


class Draft(NamedTuple):
    """A task file that was drafted from a table.

    Attributes:
        body: its fields.
        comment: what stands above them, for the person who checks it.
        unused: columns of the table that no field takes.
        lacking: fields of the kind that no column was found for.
    """

    body: dict[str, Any]
    comment: str
    unused: tuple[str, ...]
    lacking: tuple[str, ...]

    @property
    def text(self) -> str:
        """The file."""
        return self.comment + dumped(self.body)

    @property
    def remark(self) -> str:
        """What a person should know of the columns, in one line; empty where all are used."""
        if not self.unused:
            return ""
        fields = f"; fields without one: {', '.join(self.lacking)}" if self.lacking else ""
        return f"columns that are not used: {', '.join(self.unused)}{fields} (--columns FIELD=COLUMN)"


def dumped(body: Mapping[str, Any]) -> str:
    """The fields of a task file as YAML."""
    return dump_yaml(body, sort_keys=False, default_flow_style=None, width=110)


class _Form(NamedTuple):
    """Fields an example of a kind has, with the column names people give them; how it is scored by default."""

    required: Mapping[str, tuple[str, ...]]
    optional: Mapping[str, tuple[str, ...]]
    metric: str
    labels_from: str | None

    def of_texts(self, pair: bool | None) -> _Form:
        """The form of rows with two texts (a second one is required), with one (there is none), or with either."""
        if pair is None or "second" not in self.optional:
            return self
        optional = {field: names for field, names in self.optional.items() if field != "second"}
        second = {"second": self.optional["second"]} if pair else {}
        return self._replace(required={**self.required, **second}, optional=optional)


_FORMS = {
    "sentence": _Form(
        {
            "first": ("first", "premise", "sentence1", "sentence", "text", "question1"),
            "label": ("label", "gold_label", "class", "category", "target"),
        },
        {"second": ("second", "hypothesis", "sentence2", "question2"), "id": ("id", "uid"), "group": ("group",)},
        "accuracy",
        "label",
    ),
    "choice": _Form(
        {
            "prompt": ("prompt", "question", "context", "premise"),
            "choices": ("choices", "options", "endings"),
            "label": ("label", "answer"),
        },
        {"id": ("id", "uid"), "group": ("group",)},
        "accuracy",
        None,
    ),
    "tag": _Form(
        {"words": ("words", "tokens", "text", "sentence"), "tags": ("tags", "labels", "ner_tags", "pos_tags")},
        {"id": ("id", "uid"), "group": ("group",)},
        "tag_accuracy",
        "tags",
    ),
    "span": _Form(
        {"context": ("context", "passage", "paragraph"), "question": ("question",), "answers": ("answers",)},
        {"impossible": ("is_impossible", "impossible"), "id": ("id", "uid"), "group": ("group", "title")},
        "squad",
        None,
    ),
}


def draft(
    path: Path,
    *,
    name: str,
    kind: str,
    columns: Mapping[str, str] | None = None,
    language: str,
    pair: bool | None = None,
) -> Draft:
    """Draft a task file for a table of one's own (tsv, csv, jsonl, json), divided into train, dev and test by hash. Of
    kind tag it may also be a file of one word per line (conll, conllu, iob, iob2, bio).

    Columns that are not named are found by the names people give them; labels are those that occur. Every row is read
    and converted once, by the very reader and converter that training will use, so what is drafted can be loaded.
    Where a row's question is impossible, the task is scored as SQuAD 2.0 is.

    Args:
        path: the file. The task file names it by its absolute path, so that it needs no data folder; a path relative to
            the data folder (`--data-dir`) makes the task file movable.
        name: the task's name.
        kind: sentence, choice, tag or span.
        columns: field -> column, for what cannot be guessed.
        language: ISO 639 code of the language the rows are in; see `languages.language`.
        pair: of kind sentence: rows must have two texts, or one; by default two where a second column is found.

    Raises:
        MissingData: when the file is not there.
        DataError: for an empty file, a wrong encoding, a column that is not there, a cell that is no text, or a row
            that is not of the kind.
        ConfigError: for another format, or a label column with more than 100 different values.
        UnknownName: for an unknown kind or field, or what is no language.
    """
    if kind not in _FORMS:
        raise unknown("kind for a private task", kind, _FORMS)
    languages.language(language)
    if not path.is_file():
        raise MissingData(f"{path}: no such file")
    form = _FORMS[kind].of_texts(pair)
    _check_fields(form, columns or {}, kind, pair)
    reader, options = _reader(path, kind)
    raws = list(readers.get(reader).read([path], options=options, language=language))
    usable = [raw for raw in raws if raw.reject is None]
    if not usable:
        reason = f": {raws[0].place}: {raws[0].reject}" if raws else ""
        needed = ". A table needs a header line and at least one row." if reader == "table" else ""
        raise DataError(f"{path}: no usable row{reason}{needed}{other_separator(path)}")
    found = _columns(usable)
    chosen = _choose(path, form, found, columns or {}, kind)
    _refuse_cells(usable, chosen)
    body: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "role": "private",
        "title": name.replace("-", " ").replace("_", " ").capitalize(),
        "languages": [language],
        "train_languages": [language],
        "metrics": [form.metric],
        "sources": [
            {
                "type": "files",
                "reader": reader,
                "splits": {"all": str(path.resolve())},
                "options": {**options, "columns": chosen},
                "partition": {
                    "buckets": 10,
                    "splits": {"train": [0, 1, 2, 3, 4, 5, 6, 7], "dev": [8], "test": [9]},
                    "salt": name,
                },
            }
        ],
        "licence": "private",
    }
    if form.labels_from:
        body["labels"] = _labels(path, usable, chosen[form.labels_from], several=kind == "tag")
    if kind == "sentence":
        body["pair"] = "second" in chosen
    examples = _converted(path, usable, body, language)
    if any(isinstance(example, SpanExample) and example.impossible for example in examples):
        body |= {"metrics": ["squad2"], "options": {"impossible": True}}
    used = {column for _, column in _each(chosen)}
    unused = tuple(column for column in found if column not in used)
    notes = f"# Drafted from {path.name}: {len(usable)} rows"
    notes += f", {len(raws) - len(usable)} torn\n" if len(usable) < len(raws) else "\n"
    notes += "# Check columns and labels. Rows with the same group (default: the first text) stay in one split.\n"
    if unused:
        notes += f"# Columns that are not used: {json.dumps(unused, ensure_ascii=False)[1:-1]}\n"
    return Draft(body, notes, unused, tuple(field for field in form.optional if field not in chosen))


def _reader(path: Path, kind: str) -> tuple[str, dict[str, Any]]:
    """Reader of a file of one's own, and its options: a table, or to tag also words one per line, the tag in the last
    column (that of CoNLL-U is known to the reader).

    Comments and marks of documents say nothing of the columns.

    Raises:
        DataError: where blanks separate words and tags.
    """
    suffix = path.suffix.lower()
    if kind != "tag" or suffix not in _WORD_PER_LINE:
        return "table", {}
    if suffix == ".conllu":
        return "conll", {"conllu": True}
    said = (one for one in readers.lines(path) if one[1].strip() and not one[1].startswith(("#", "-DOCSTART-")))
    shown = next(said, (0, ""))
    number, first = next((one for one in itertools.chain([shown], said) if "\t" in one[1]), shown)
    last = first.count("\t")
    if not last and " " in first.strip():
        raise DataError(
            f"{path}: line {number} is {first!r}: a tab must separate the word and its tag. Where blanks do in the "
            rf"whole file: sed -E 's/ +/\t/g' {path.name} > tabs{suffix}"
        )
    return "conll", {"tag": last} if last > 1 else {}


def _converted(path: Path, raws: list[Raw], body: Mapping[str, Any], language: str) -> list[Example]:
    """Rows of the drafted task as examples, without those that loading will turn away too, and count.

    Raises:
        DataError: for a row that loading would refuse, naming it, or when none is left.
    """
    task = decode(TaskSpec, body, str(path))
    context = rows.Context(task, body["sources"][0]["options"], language=language)
    examples: list[Example] = []
    reasons: list[str] = []
    for raw in raws:
        try:
            examples.append(rows.convert(raw, str(raw.row), context))
        except rows.Reject as err:
            reasons.append(f"{raw.place}: {err}")
    if not examples:
        raise DataError(f"{path}: none of its {len(raws)} rows can be used; {reasons[0]}")
    return examples


def _check_fields(form: _Form, given: Mapping[str, str], kind: str, pair: bool | None) -> None:
    fields = {**form.required, **form.optional}
    for field in given:
        if field not in fields:
            raise unknown(f"field of kind {kind!r}{' with one text' if pair is False else ''}", field, fields)


def _choose(path: Path, form: _Form, found: list[str], given: Mapping[str, str], kind: str) -> dict[str, Any]:
    """Field -> column: as given, else by a usual name; choices may also be columns choice1, choice2, … A prompt is a
    text and a question about it where both are there."""
    lower = {column.lower(): column for column in reversed(found)}
    for field, column in given.items():
        if column not in found:
            raise DataError(f"{path}: no column {column!r} for {field!r}; found {', '.join(map(repr, found))}")
    chosen: dict[str, Any] = {}
    for field, usual in {**form.required, **form.optional}.items():
        if field in given:
            chosen[field] = given[field]
            continue
        taken = [column for _, column in _each(chosen)]
        match = next((lower[name] for name in usual if name in lower and lower[name] not in taken), None)
        text = next((lower[name] for name in _ASKED_ABOUT if name in lower), None)
        if field == "prompt" and text is not None and match == lower.get("question"):
            chosen[field] = {"join": [text, match]}
        elif match is not None:
            chosen[field] = match
        elif field == "choices" and len(apart := _choice_columns(found)) > 1:
            chosen[field] = apart
        elif field in form.required:
            more = ", or choice1, choice2, …" if field == "choices" else ""
            raise DataError(
                f"{path}: which column is {field!r} of kind {kind!r}? Found {', '.join(map(repr, found))}; usual names "
                f"are {', '.join(usual)}{more}.{_remedy(path, kind, field)}"
            )
    return chosen


def _remedy(path: Path, kind: str, field: str) -> str:
    """What to do where no column is the field's: the file may be another thing than the table its suffix tells."""
    remedy = other_separator(path) or f" Name it with --columns {field}=<column>"
    if kind == "tag" and path.suffix.lower() in (".txt", ".tsv"):
        remedy += f". If the file holds one word and its tag per line (CoNLL), name it {path.stem}.conll"
    return remedy


def _refuse_lacking(raws: list[Raw], chosen: Mapping[str, Any]) -> None:
    """Refuse a row without a column that other rows of the file have."""
    for raw in raws:
        for field, column in _each(chosen):
            if column not in raw.values:
                here, anywhere = (", ".join(map(repr, names)) for names in (raw.values, _columns(raws)))
                raise DataError(
                    f"{raw.place}: no column {column!r} for {field!r}; this row has {here or 'none'}, the file "
                    f"{anywhere}. Give every row that column, or name another one with --columns {field}=<column>"
                )


def _refuse_cells(raws: list[Raw], chosen: Mapping[str, Any]) -> None:
    """Refuse lists, objects and truth values where a text belongs: written out they are a text that nobody wrote."""
    for raw in raws:
        for field, column in _each(chosen):
            cell = raw.values.get(column)
            whole = field in ("choices", "words") and isinstance(chosen[field], str)
            wrong = [one for one in (_inside(cell) if whole else [cell]) if isinstance(one, (list, dict, bool))]
            if wrong and field not in GOLD:
                shown = json.dumps(wrong[0], ensure_ascii=False)
                shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
                raise DataError(
                    f"{raw.place}: column {column!r} holds {shown}, which is no text. Write {field!r} as text, or name "
                    f"another column with --columns {field}=<column>"
                )


def _each(chosen: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Field and column, one by one; choices may be several columns, and a text several joined."""
    return [
        (field, column)
        for field, found in chosen.items()
        for column in ([found] if isinstance(found, str) else found["join"] if isinstance(found, dict) else found)
    ]


def _inside(cell: Any) -> list[Any]:
    """The texts of choices or words that one cell holds: in a list, {name: text}, or {"label": […], "text": […]}."""
    if isinstance(cell, dict):
        return _inside(cell["text"]) if set(cell) == {"label", "text"} else list(cell.values())
    return cell if isinstance(cell, list) else [cell]


def _choice_columns(found: list[str]) -> list[str]:
    """Columns choice1, choice2, … in the order of their numbers."""
    numbered = [(int(match[1]), column) for column in found if (match := _ONE_CHOICE.fullmatch(column.strip()))]
    return [column for _, column in sorted(numbered)]


def _columns(raws: list[Raw]) -> list[str]:
    """Columns of the first rows, in order of first appearance."""
    return list(dict.fromkeys(itertools.chain.from_iterable(raw.values for raw in raws[:1000])))


def _labels(path: Path, raws: list[Raw], column: str, *, several: bool) -> list[str]:
    """Labels that occur, sorted; blanks are left out. With `several` of them in a row, blanks stand between."""
    counts: Counter[str] = Counter()
    for raw in raws:
        value = raw.values.get(column, "")
        if isinstance(value, list):
            counts.update(str(label) for label in value if label is not None)
        elif value is not None:
            counts.update(str(value).split() if several else [str(value).strip()])
    counts.pop("", None)
    if len(counts) < 2:
        raise DataError(f"{path}: column {column!r} holds {len(counts)} different label(s); a task needs at least two")
    if len(counts) > MAX_LABELS:
        shown = ", ".join(repr(label) for label, _ in counts.most_common(5))
        raise ConfigError(
            f"{path}: column {column!r} holds {len(counts)} different values ({shown}, …), too many for labels "
            f"(at most {MAX_LABELS}). Name the label column."
        )
    return sorted(counts)


def _as_the_task_has_them(
    task: TaskSpec, found: Sequence[str], fields: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns of some fields as one of the task's own files has them, where that file's columns are here, and what
    their values stand for: rows in the form of a benchmark are read as the benchmark's were."""
    for source in task.sources:
        options = getattr(source, "options", {})
        columns = {field: one for field, one in options.get("columns", {}).items() if field in fields and one}
        named = [column for _, column in _each(columns)]
        if len(named) > len(columns) and all(column in found for column in named):
            values = {column: one for column, one in options.get("values", {}).items() if column in named}
            return columns, values
    return {}, {}


def read_inputs(path: Path, task: TaskSpec, *, columns: Mapping[str, str] | None = None) -> Rows:
    """Read rows to predict for: a table with the columns of a kind of task. Columns of gold are not looked at.

    Choices are a list in one column, or columns choice1, choice2, …; words to tag are a list, or one text that is split
    at blanks.

    Args:
        path: tsv, csv, jsonl or json; of kind tag also one word per line (conll, conllu, iob, iob2, bio).
        task: whose kind and options say what a row is, and `pair` whether it has a second text.
        columns: field -> column, for what the usual names do not give.

    Raises:
        MissingData: when the file is not there.
        DataError: for an empty file, a wrong encoding, a missing column, a cell that is no text, or when no row is
            usable.
        UnknownName: for a field the kind does not have.
    """
    if not path.is_file():
        raise MissingData(f"{path}: no such file")
    if task.kind not in _FORMS:
        raise DataError(f"task {task.name!r} is of kind {task.kind!r}, which predicts for whole sets, not for rows")
    form = _FORMS[task.kind].of_texts(task.pair)
    _check_fields(form, columns or {}, task.kind, task.pair)
    plain = {field: column for field, column in (columns or {}).items() if field not in GOLD}
    inputs_form = form._replace(required={field: names for field, names in form.required.items() if field not in GOLD})
    reader, options = _reader(path, task.kind)
    found = readers.get(reader).read([path], options=options, language=task.languages[0])
    usable = [raw for raw in found if raw.reject is None]
    there = _columns(usable)
    own, values = _as_the_task_has_them(task, there, [field for field in inputs_form.required if field not in plain])
    rest = inputs_form._replace(required={f: names for f, names in inputs_form.required.items() if f not in own})
    chosen = {**_choose(path, rest, there, plain, task.kind), **own} if usable else {}
    _refuse_lacking(usable, {field: column for field, column in chosen.items() if field in inputs_form.required})
    _refuse_cells(usable, chosen)
    source = FileSource(
        reader=reader,
        splits={"test": str(path.resolve())},
        options={**options, "columns": {**chosen, **dict.fromkeys(GOLD, ())}, **({"values": values} if values else {})},
    )
    inputs = msgspec.structs.replace(task, sources=(source,), languages_by_split={}, labels_from=None)
    return data.load(inputs, "test", task.languages[0], need_gold=False)
