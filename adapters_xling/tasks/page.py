"""The page docs/tasks.md: every shipped task as its YAML file describes it. Nothing on it is written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adapters_xling.spec import GeneratorSource, HubSource, Source, TaskSource, TaskSpec

_SECTIONS = {
    "intermediate": "English tasks that an encoder is trained on before it meets a target task.",
    "target": (
        "Tasks of XTREME, XTREME-R (its own, and `-xr`: its longer lists of languages) and FLORES-200. Rows are those "
        "of one language. What a target trains on stands under *trained on*; otherwise on its own English rows, or on "
        "nothing (retrieval)."
    ),
    "training": "Sets that only serve to train a target.",
    "kit": (
        "Parts of the public development sets, divided so that nothing that is scored was trained or selected on: for "
        "work without the large train sets. Their scores are not comparable with published ones."
    ),
    "mini": "The embedded world, made by this package: no download.",
}

_HEAD = """# Tasks

Made by `xling tasks --markdown` from the files in `task_configs/`; `xling tasks` prints the same in a terminal and
`xling tasks check` pushes rows that are at hand through each of them. Rows are published sizes of the splits; where the
data was read, the card of an entry says how many rows were kept, and why others were not. Sources are tried from left
to right. Paths are relative to the folder that `--data-dir` or `XLING_DATA` names.
"""


def markdown(tasks: Iterable[TaskSpec]) -> str:
    """The page as Markdown: a table for each role, tasks by name."""
    known = sorted(tasks, key=lambda task: task.name)
    parts = [_HEAD]
    for role in dict.fromkeys([*_SECTIONS, *(task.role for task in known)]):
        own = [task for task in known if task.role == role]
        if own:
            parts.append(_section(role, own))
    return "\n".join(parts)


def _section(role: str, tasks: Sequence[TaskSpec]) -> str:
    columns = ("task", "what it is", "kind", "languages", "rows", "metric", "trained on", "licence", "source")
    lines = [f"## {role.capitalize()}", "", _SECTIONS.get(role, "Tasks of your own."), ""]
    lines += [_line(columns), _line(["---"] * len(columns))]
    for task in tasks:
        lines.append(
            _line(
                (
                    f"`{task.name}`",
                    f"[{task.title}]({task.homepage})" if task.homepage else task.title,
                    task.kind,
                    _languages(task),
                    sizes(task),
                    ", ".join(f"`{metric}`" for metric in task.metrics),
                    f"`{task.train_on}`" if task.train_on else "",
                    task.licence,
                    "; ".join(dict.fromkeys(_source(source) for source in task.sources)),
                )
            )
        )
    notes = [f"- `{task.name}`: {task.access}" for task in tasks if task.access]
    return "\n".join([*lines, *(["", *notes] if notes else []), ""])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def sizes(task: TaskSpec) -> str:
    """Published sizes of a task's splits on one line; nothing where none are known.

    >>> from adapters_xling.tasks import get
    >>> sizes(get("mnli"))
    'train 392,702 · dev 9,815 · dev_mismatched 9,832'
    """
    shown = {split: f"{size:,}" if isinstance(size, int) else size for split, size in task.rows.items()}
    return " · ".join(f"{split} {size}" for split, size in shown.items())


def _languages(task: TaskSpec) -> str:
    """Number of languages and their codes; splits with fewer of them by number alone."""
    fewer = [f"{split}: {len(codes)}" for split, codes in task.languages_by_split.items()]
    text = f"{len(task.languages)}: {' '.join(task.languages)}" if len(task.languages) > 1 else task.languages[0]
    return text + (f" ({', '.join(fewer)})" if fewer else "")


def _source(source: Source) -> str:
    """Where rows are looked for: a folder of files, a hub repository at its revision, other tasks, a generator."""
    if isinstance(source, GeneratorSource):
        return "generated"
    if isinstance(source, TaskSource):
        return f"the rows of {', '.join(f'`{name}`' for name in source.tasks)}"
    if isinstance(source, HubSource):
        revision = source.revision[:12] if source.revision else "revision not resolved"
        return f"hub `{source.repo}` ({revision})"
    paths = [path for found in source.splits.values() for path in ((found,) if isinstance(found, str) else found)]
    folder = paths[0].rpartition("/")[0].partition("/{")[0].partition("/*")[0].partition("/UD_")[0]
    return f"`{folder}/`"
