"""Rows of a task: find the source that is at hand, read it, convert it, split it, and count what was turned away."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapters_xling import spec
from adapters_xling.errors import ConfigError, DataError, XlingError, unknown
from adapters_xling.spec import Partition, TaskRef, TaskSpec
from adapters_xling.tasks import catalog, labels, rows, sources
from adapters_xling.tasks.examples import ChoiceExample, Example, RetrieveExample, SentenceExample, TagExample
from adapters_xling.tasks.found import Found
from adapters_xling.tasks.kinds import options

NUM_SAMPLES = 3
MIN_SUSPICIOUS = 50
"""From so many rows on, gold that is the same everywhere is taken for a file with blanked answers."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of one (task, split, language), and what became of the others.

    Attributes:
        examples: in file order; at most `limit` of them.
        kept: rows that passed every check, before `limit`.
        dropped: reason -> number of rows turned away for it; of a partitioned file, rows too broken to know their
            group count in every split.
        samples: (file, row number, reason) of the first few of them.
        renamed: rows whose id an earlier row already had; they got ``<id>#2``, ``<id>#3``, …
        unseen: words whose tag became `rows.UNSEEN`, in the rows kept.
        source: where the rows came from, for people.
        identity: digest of the bytes, or of generator version or hub revision, that they came from.
        files: paths read, below the data folder where they lie there.
    """

    examples: list[Example]
    kept: int
    dropped: dict[str, int] = field(default_factory=dict)
    samples: tuple[tuple[str, int, str], ...] = ()
    renamed: int = 0
    unseen: int = 0
    source: str = ""
    identity: str = ""
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.examples)


def load(
    task: TaskSpec,
    split: str,
    language: str,
    *,
    data_dir: Path | None = None,
    limit: int | None = None,
    need_gold: bool = True,
) -> Rows:
    """Read the rows of one split in one language.

    Args:
        task: whose rows; `train_on` is not followed (see `catalog.train_task`).
        split: ``train``, ``dev`` or ``test``.
        language: code of the language.
        data_dir: folder of the original files; default `XLING_DATA`.
        limit: keep only the first so many; of a retrieval task so many queries, and the whole corpus they search.
        need_gold: turn rows without gold away (scoring, training), and read the next source at hand where one has no
            gold at all (XTREME's test files beside the originals; test rows only); False to predict for them.

    Raises:
        MissingData: when no source is at hand, with every place that was tried.
        DataError: for a file that is not what the task says, or of which nothing was usable.
        UnknownName: for a language the task does not have in this split.
    """
    check_language(task, split, language)
    task = labels.with_labels(task, data_dir=data_dir)
    first = sources.find(task, split, language, data_dir=data_dir)
    try:
        return _read(first, task, split, language, data_dir=data_dir, limit=limit, need_gold=need_gold)
    except _WithheldError as withheld:
        if split in ("train", "dev"):  # a run's key says which those are: the first source's (`ref`)
            raise
        try:
            for other in itertools.islice(sources.every(task, split, language, data_dir=data_dir), 1, None):
                with contextlib.suppress(_WithheldError):
                    return _read(other, task, split, language, data_dir=data_dir, limit=limit, need_gold=need_gold)
        except XlingError as err:
            raise DataError(f"{withheld} Another source of them does not serve either: {err}") from err
        raise


class _WithheldError(DataError):
    """A source that is whole, but whose gold was taken away; another one may have it."""


def _read(
    found: Found,
    task: TaskSpec,
    split: str,
    language: str,
    *,
    data_dir: Path | None,
    limit: int | None,
    need_gold: bool,
) -> Rows:
    """The rows of one source; arguments and errors as `load`'s."""
    from adapters_xling.tasks import kinds

    kind = kinds.get(task.kind)
    context = rows.Context(task, found.options, need_gold, language)
    examples: list[Example] = []
    dropped: Counter[str] = Counter()
    samples: list[tuple[str, int, str]] = []
    taken: Counter[str] = Counter()
    renamed = num_read = 0
    for raw, identifier in _numbered(found.read()):
        num_read += 1
        reason: str | None
        try:
            example = rows.convert(raw, identifier, context)
            taken[example.id] += 1
            if not in_split(example.group, split, found.partition):
                continue
            reason = kind.check_example(example, task, need_gold=need_gold)
        except rows.Reject as err:
            if "group" in raw.values and not in_split(str(raw.values["group"]), split, found.partition):
                continue
            reason = str(err)
        if reason is not None:
            dropped[reason] += 1
            if len(samples) < NUM_SAMPLES:
                samples.append((sources.shown(raw.file, data_dir), raw.row, reason))
            continue
        if taken[example.id] > 1:
            renamed += 1
            example = _with_id(example, f"{example.id}#{taken[example.id]}")
        examples.append(example)
    _refuse_unusable(task, split, language, found.description, num_read, examples, dropped, samples, found.files)
    if need_gold:
        _refuse_blanked(task, split, found.description, examples)
    return Rows(
        examples=_first(examples, limit),
        kept=len(examples),
        dropped=dict(dropped),
        samples=tuple(samples),
        renamed=renamed,
        unseen=sum((example.tags or ()).count(rows.UNSEEN) for example in examples if isinstance(example, TagExample)),
        source=found.description,
        identity=found.identity(),
        files=tuple(sources.shown(str(file), data_dir) for file in found.files),
    )


def check_language(task: TaskSpec, split: str, language: str) -> None:
    """Refuse a language that the task's file does not list for the split.

    Raises:
        UnknownName: with the languages it has.
    """
    known = task.languages_by_split.get(split) or tuple(dict.fromkeys(task.languages + task.train_languages))
    if language not in known:
        raise unknown(f"language of task {task.name!r} ({split})", language, known)


def bucket(group: str, partition: Partition) -> int:
    """Bucket of a group: a hash of it, so that neither order nor company of rows changes where it lands.

    >>> bucket("Warsaw", Partition(buckets=20, splits={}, salt="a:"))
    10
    """
    digest = hashlib.sha256((partition.salt + group).encode()).hexdigest()
    return int(digest[:8], 16) % partition.buckets


def in_split(group: str, split: str, partition: Partition | None) -> bool:
    """Whether a group's rows belong to a split; without a partition every row belongs to its file's split."""
    return partition is None or bucket(group, partition) in partition.splits[split]


def _numbered(raws: Iterable[rows.Raw]) -> Iterator[tuple[rows.Raw, str]]:
    """Give rows ids by position, equal over languages whose files are parallel: file number (if several) and row."""
    order: dict[str, int] = {}
    for raw in raws:
        file = order.setdefault(raw.file, len(order))
        yield raw, f"{file + 1}.{raw.row}" if file else str(raw.row)


def _first(examples: list[Example], limit: int | None) -> list[Example]:
    if limit is None:
        return examples
    corpus = [e for e in examples if isinstance(e, RetrieveExample) and e.side == "corpus"]
    return [e for e in examples if not (isinstance(e, RetrieveExample) and e.side == "corpus")][:limit] + corpus


def _with_id(example: Example, identifier: str) -> Example:
    return dataclasses.replace(example, id=identifier)


def _refuse_unusable(
    task: TaskSpec,
    split: str,
    language: str,
    source: str,
    num_read: int,
    examples: list[Example],
    dropped: Counter[str],
    samples: list[tuple[str, int, str]],
    files: Sequence[Path],
) -> None:
    if examples:
        if empty := [file for file in files if not file.stat().st_size]:
            raise DataError(f"{empty[0]}: is empty, but the rows of {source} are those of {len(files)} files together")
        return
    what = f"task {task.name!r}, {split}, {language}"
    if not num_read:
        raise DataError(f"{what}: no rows in {source}. An empty file, or its rows are filtered by options.where.")
    if not dropped:
        raise DataError(f"{what}: none of the {num_read} rows of {source} falls into this split of its partition")
    counts = "; ".join(f"{reason}: {count}" for reason, count in dropped.most_common(4))
    file, row, _ = samples[0]
    text = f"{what}: no row of {source} is usable ({counts}; the first is {file}, row {row})."
    if set(dropped) & {rows.BLANK_LABEL, rows.BLANK_ANSWER}:
        raise _WithheldError(
            f"{text} Ready-made test sets often have their answers blanked: get the file with answers from the data "
            "set's authors, or predict without scoring."
        )
    raise DataError(text)


def _refuse_blanked(task: TaskSpec, split: str, source: str, examples: list[Example]) -> None:
    """Refuse gold that is the same in every row: an answer blanked to a constant (XTREME's XCOPA test: all 0); and
    sentences of which none matches any (its BUCC test, its Tatoeba with the English side sorted).
    """
    queries = [example for example in examples if isinstance(example, RetrieveExample) and example.side == "query"]
    if task.kind == "retrieve" and not any(query.matches for query in queries):
        raise _WithheldError(
            f"task {task.name!r}, {split}: no query of {source} has a match: this looks like a set whose gold was "
            "taken away (XTREME sorts Tatoeba's English side and removes BUCC's gold). Get the files with gold from "
            "the data set's authors, or predict without scoring."
        )
    golds = {example.label for example in examples if isinstance(example, (SentenceExample, ChoiceExample))}
    if len(examples) >= MIN_SUSPICIOUS and len(golds) == 1:
        raise _WithheldError(
            f"task {task.name!r}, {split}: all {len(examples)} rows of {source} have the label {golds.pop()!r}: this "
            "looks like a file whose answers were blanked. Get the file with answers from the data set's authors."
        )


def load_all(
    task: TaskSpec,
    split: str,
    languages: Sequence[str],
    *,
    data_dir: Path | None = None,
    limit: int | None = None,
) -> tuple[list[Example], dict[str, Rows]]:
    """Read one split in several languages as one list of rows with ids of their own.

    Parallel rows have the same id in every language, so with several languages each id becomes ``<language>:<id>``.
    With one language this is exactly `load`.

    Args:
        task: whose rows.
        split: ``train``, ``dev`` or ``test``.
        languages: codes; their rows follow one another in this order.
        data_dir: folder of the original files; default `XLING_DATA`.
        limit: rows of all languages together, divided equally, the first languages one more where it does not come
            out even. What a small language leaves unused goes to no other.

    Returns:
        All examples, and the rows of each language (with the same ids).

    Raises:
        MissingData, DataError, UnknownName: as `load` does.
    """
    found: dict[str, Rows] = {}
    for i, language in enumerate(languages):
        share = None if limit is None else limit // len(languages) + (i < limit % len(languages))
        rows_of = load(task, split, language, data_dir=data_dir, limit=share)
        if len(languages) > 1:
            own = [_in_language(example, language) for example in rows_of.examples]
            rows_of = dataclasses.replace(rows_of, examples=own)
        found[language] = rows_of
    return [example for rows_of in found.values() for example in rows_of.examples], found


def _in_language(example: Example, language: str) -> Example:
    if isinstance(example, RetrieveExample):
        example = dataclasses.replace(example, matches=tuple(f"{language}:{match}" for match in example.matches))
    return _with_id(example, f"{language}:{example.id}")


def ref(
    task: TaskSpec,
    *,
    data_dir: Path | None = None,
    train_on: str | None = None,
    extra: Path | None = None,
    allow_unlocked: bool = False,
) -> TaskRef:
    """Name and digest of everything about a task that changes what a model learns from it.

    Digested: kind, labels, options (with the kind's defaults) and head; of the task it trains on also reader, options,
    partition and the first metric, which selects the weights; the converters' version; and the identity of the train
    and dev rows. Titles, citations, other metrics, evaluation languages do not change weights and are left out. Imports
    no torch and reads no row (files are hashed, once per change), but those that `labels_from` names.

    Args:
        task: the task.
        data_dir: folder of the original files.
        train_on: another task to learn from than the file says.
        extra: private folder of task files.
        allow_unlocked: accept train rows from the hub at no fixed revision, for a look at a digest that does not tell
            which rows they are; nothing is trained under it.

    Raises:
        MissingData: when no source of the train rows is at hand.
        ConfigError: when the train or dev rows come from the hub at no fixed revision.
    """
    source = catalog.train_task(task, override=train_on, extra=extra)
    known = labels.with_labels(task, data_dir=data_dir).labels
    identities = []
    for split in ("train", "dev"):
        for language in source.train_languages if sources.has_split(source, split) else ():
            found = sources.find(source, split, language, data_dir=data_dir)
            if not (found.locked or allow_unlocked):
                raise ConfigError(
                    f"task {source.name!r}: the {split} rows in {language!r} would come from {found.description}: "
                    "at no fixed revision they can change from one day to the next, and nobody could say what was "
                    f"learnt from. Run `xling data lock {source.name}`, or put the original files under --data-dir or "
                    "XLING_DATA, or set `revision:` of that source in the task file to a commit of the data set"
                )
            identities.append([split, language, found.definition(), found.identity()])
    parts: dict[str, object] = {
        "kind": task.kind,
        "labels": known,
        "options": options.resolved(task),
        "head": task.head_name,
        "train_on": source.name,
        "train_options": options.resolved(source),
        "select_by": source.metrics[0],
        "converters": rows.VERSION,
        "rows": identities,
    }
    return TaskRef(name=task.name, digest=spec.digest(parts))


def splits_at_hand(task: TaskSpec, language: str, *, data_dir: Path | None = None) -> tuple[str, ...]:
    """Splits of a task that can be read in a language here and now, without asking the network."""
    found = []
    for split in ("train", "dev", "test"):
        try:
            check_language(task, split, language)
            if sources.local(task, split, language, data_dir=data_dir):
                found.append(split)
        except XlingError:
            continue
    return tuple(found)
