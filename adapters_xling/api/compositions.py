"""Compositions as a person writes them, with the names in them looked up in the zoo."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adapters_xling import expressions, tasks
from adapters_xling.errors import ConfigError, unknown
from adapters_xling.spec import Init, Merge, Route, Use
from adapters_xling.zoo import Entry, Zoo

from .settings import Settings, codes, named_folder, open_zoo, require_limit, task

if TYPE_CHECKING:
    from adapters_xling.choosing import Choice

_CODES = re.compile(r"\s*([a-z]{2,3}(?:\s*,\s*[a-z]{2,3})*)\s*=(.*)", re.DOTALL)


def settings_for(init: Init, method: str, given: Mapping[str, Any] | None, *, zoo: Zoo) -> Mapping[str, Any] | None:
    """A method's settings for a start: a merge brings along those of its result, where no others were given."""
    if not isinstance(init, Merge):
        return given
    from adapters_xling.model.merges import merged_method

    result = merged_method(init, [zoo.get(name) for name in init.entries])
    if result.name != method:
        raise ConfigError(
            f"the merged entries are of method {result.name!r}, this run's is {method!r}: give --method {result.name}"
        )
    return {**result.spec().settings, **(given or {})}


def routes_by_language(
    on: str | Sequence[str], *, entry: str, zoo: Zoo, languages: Collection[str]
) -> Callable[[str], Route | None]:
    """What an entry's heads stand on in each language.

    Args:
        on: expressions: one for all languages, and any number for some of them, ``sw=…`` or ``de,fr=…``. In names
            ``{language}`` is the language at hand; ``slot`` is the entry.
        entry: its key.
        zoo: where names are looked up.
        languages: codes of what is evaluated; no other has a composition.

    Raises:
        ConfigError: when a language is given twice.
        UnknownName: for a language that is not evaluated.
        ExpressionError: naming the position of what is wrong, at once as far as it holds for every language.
    """
    texts: dict[str, str] = {}
    for one in [on] if isinstance(on, str) else on:
        found = _CODES.fullmatch(one)
        codes, text = (re.split(r"\s*,\s*", found[1]), found[2].strip()) if found else ([""], one)
        list(expressions.names_in(text))
        for code in codes:
            if code and code not in languages:
                raise unknown("language with a composition", code, languages, f"what is evaluated; in {one!r}")
            if code in texts:
                raise ConfigError(f"two compositions are given for {code or 'all languages'}: {texts[code]} and {text}")
            texts[code] = text

    def route(language: str) -> Route | None:
        text = texts.get(language, texts.get(""))
        if text is None:
            return None
        return expressions.parse_route(text, resolve=zoo.resolve, slot=Use(entry=entry), language=language)

    return route


def choose(
    entry: str,
    name: str,
    candidates: Sequence[str],
    *,
    languages: str | Sequence[str] | None = None,
    split: str = "dev",
    limit: int | None = None,
    settings: Settings | None = None,
    backbone: str | None = None,
) -> list[Choice]:
    """Choose for each language what an entry's heads stand on; see `choosing.choose`.

    Args:
        entry: key, or an unambiguous beginning of one.
        name: task to score.
        candidates: expressions in which ``slot`` is the entry and ``{language}`` the language at hand; the first is
            what would be taken without choosing.
        languages: subset of the task's languages; codes, or text with commas between them.
        split: rows to choose and check on.
        limit: only the first rows of each language.
        settings: folders and device.
        backbone: folder of the entry's local backbone, where it cannot be found by its name.

    Raises:
        ConfigError: for no language, or a limit below 1.
    """
    settings = settings or Settings()
    languages = codes(languages)
    require_limit(limit)
    zoo = open_zoo(settings)
    key = zoo.resolve(entry)
    spec = task(name, settings)
    asked = tasks.check_languages(spec, languages, split)
    routes = [routes_by_language([one], entry=key, zoo=zoo, languages=asked) for one in candidates]
    from adapters_xling import choosing  # once the names are right: it loads torch

    return choosing.choose(
        key,
        spec,
        routes,
        zoo=zoo,
        languages=languages,
        split=split,
        limit=limit,
        data_dir=settings.data_dir,
        device=settings.device,
        backbone=named_folder(backbone),
        extra_tasks=settings.tasks,
    )


def merge(expression: str, *, settings: Settings | None = None, backbone: str | None = None) -> Entry:
    """Merge entries and keep the result as an entry of its own.

    Args:
        expression: ``average(a:0.7, b:0.3)``, ``arithmetic(+a:1, -b:0.5)``, ``ties(a, b)`` or ``dare(a, b)``.
        settings: folders.
        backbone: folder of the entries' local backbone, where it cannot be found by its name.

    Raises:
        ExpressionError: naming the position of what is wrong.
        ConfigError: for entries that cannot be merged so.
    """
    zoo = open_zoo(settings or Settings())
    wanted = expressions.parse_merge(expression, resolve=zoo.resolve)
    from adapters_xling.model import keep_merge  # once the names are right: it loads torch

    return keep_merge(wanted, zoo=zoo, backbone=named_folder(backbone))
