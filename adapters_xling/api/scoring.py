"""Scores of entries: one on one task, or many at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from adapters_xling import tasks
from adapters_xling.prefix_cache import OFF
from adapters_xling.spec import Score, TaskSpec

from . import compositions
from .settings import Settings, codes, named_folder, open_zoo, require_limit, task


def evaluate(
    entry: str,
    name: str,
    *,
    on_language: Callable[[str, list[Score]], Any] | None = None,
    **options: Any,
) -> list[Score]:
    """Score an entry (or a bare backbone, for retrieval) on a task, language by language; resumable.

    `on` says what the entry's heads stand on, as expressions in which ``slot`` is the entry: one for all languages, or
    ``sw=…`` and ``de,fr=…`` for some; ``{language}`` in a name is the language at hand. `backbone` names the
    folder of an entry's local backbone, where it cannot be found by its name.
    `layer`, `pooling` and `vectors` are retrieval's: see `scored.Reading`; `precision` is that of the forward
    passes, "fp32" or "bf16". With `unscored` only the predictions are kept, for test sets whose answers are withheld,
    and no score comes back. `on_left_out` hears of rows that were not scored, by reason. These and all other options
    are those of `evaluate_all`, of which this is the case of one.
    """
    each = None if on_language is None else lambda entry, name, language, scores: on_language(language, scores)
    return evaluate_all([entry], name, on_language=each, **options)


def evaluate_all(
    entries: Sequence[str],
    names: str | Sequence[str],
    *,
    languages: str | Sequence[str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    settings: Settings | None = None,
    on_language: Callable[[str, str, str, list[Score]], Any] | None = None,
    on_failure: Callable[[str, str, Exception], Any] | None = None,
    on_missing: Callable[[str, str], Any] | None = None,
    on_step: Callable[[str, str, int, int], Any] | None = None,
    layer: int | None = None,
    pooling: str | None = None,
    vectors: str = "float32",
    precision: str = "fp32",
    unscored: bool = False,
    on_left_out: Callable[[str, dict[str, int]], Any] | None = None,
    backbone: str | None = None,
    on: str | Sequence[str] = (),
) -> list[Score]:
    """Score several entries on one task or several; those of one method and backbone share an encoder and batches.

    What is kept is not computed again, and scores are those of `evaluate` up to rounding. An entry that cannot be
    scored takes no other along.

    Args:
        entries: keys, unambiguous beginnings of keys, or backbones.
        names: the task or tasks.
        languages: subset of each task's languages; codes, or text with commas between them.
        split: split to score; each task's own choice by default.
        limit: only the first rows of each language.
        settings: folders and device.
        on_language: called with entry, task, language and scores as each is done.
        on_failure: called with entry, task and reason; without it the first failure is raised when all else is done.
        on_missing: called with language and reason where rows are not at hand.
        on_step: called with languages, stage, what is done of it and its total.
        layer: retrieval: hidden state to read.
        pooling: retrieval: how sentences are pooled.
        vectors: retrieval: "float32" or "float16" on disk.
        precision: of the forward passes, "fp32" or "bf16".
        unscored: only keep the predictions.
        on_left_out: called with language and reason -> rows that were not scored.
        backbone: folder of the entries' local backbone, where it cannot be found by its name.
        on: what the heads stand on, as `evaluate` takes it; ``slot`` is each entry in turn.

    Raises:
        UnknownName: for a language that a task does not have, or one in `on` that is not evaluated.
        ConfigError: for no language, or a limit below 1.

    Returns:
        All scores, by task, entry and language in the order given.
    """
    from adapters_xling.model import is_backbone

    settings = settings or Settings()
    languages = codes(languages)
    require_limit(limit)
    zoo = open_zoo(settings)
    wanted = [task(name, settings) for name in ([names] if isinstance(names, str) else names)]
    keys = [entry if is_backbone(entry) else zoo.resolve(entry) for entry in entries]
    asked = {code for spec in wanted for code in tasks.check_languages(spec, languages, split or spec.eval_split)}
    ways = {key: compositions.routes_by_language(on, entry=key, zoo=zoo, languages=asked) for key in keys}
    folder = named_folder(backbone)
    from adapters_xling.evaluation import Opened, Reading  # once the names are right: it loads torch
    from adapters_xling.evaluation import evaluate_all as evaluate_entries

    opened = Opened(
        zoo=zoo,
        device=settings.device,
        backbone=folder,
        prefix_cache=settings.prefixes(OFF),
        attention=settings.attention,
        compiled=settings.compile,
    )
    scores: list[Score] = []
    failures: list[Exception] = []

    def on_scores(spec: TaskSpec, key: str, language: str, found: list[Score]) -> None:
        if on_language:
            on_language(key, spec.name, language, found)

    def failed(spec: TaskSpec, key: str, err: Exception) -> None:
        failures.append(err)
        if on_failure:
            on_failure(key, spec.name, err)

    for spec in wanted:
        found = evaluate_entries(
            keys,
            spec,
            zoo=zoo,
            runs_dir=settings.runs_dir,
            languages=languages,
            split=split,
            data_dir=settings.data_dir,
            limit=limit,
            extra_tasks=settings.tasks,
            on_language=functools.partial(on_scores, spec),
            on_failure=functools.partial(failed, spec),
            on_missing=on_missing,
            on_left_out=on_left_out,
            unscored=unscored,
            on_step=on_step,
            reading=Reading(layer=layer, pooling=pooling, vectors=vectors),
            precision=precision,
            backbone=folder,
            routes=lambda key, language: ways[key](language),
            opened=opened,
        )
        scores += [score for by in found.values() for score in by]
    if failures and on_failure is None:
        raise failures[0]
    return scores
