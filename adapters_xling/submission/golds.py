"""Write the labels of a benchmark from rows whose answers are at hand, in the layout that `score` reads."""

from __future__ import annotations

from pathlib import Path

from adapters_xling.errors import MissingData, XlingError

from .benchmark import Benchmark, Part
from .building import Built, spec_of
from .kept import Kept
from .writing import check_target, refuse, write


def labels(
    out: Path,
    benchmark: Benchmark,
    *,
    data_dir: Path | None = None,
    extra_tasks: Path | None = None,
    allow_missing: bool = False,
    force: bool = False,
) -> Built:
    """Write a labels folder. Test sets whose answers are blanked have no labels, which is said and never guessed.

    Args:
        out: folder to write; it appears whole or not at all.
        benchmark: whose files.
        data_dir: folder of the original files.
        extra_tasks: private folder of task files.
        allow_missing: write what is there.
        force: replace a folder that holds a submission or labels.

    Raises:
        DataError: listing everything that is missing; nothing is written then.
        XlingError: when `out` exists and may not be replaced.
    """
    check_target(out, benchmark, force=force)
    texts: dict[str, str] = {}
    gaps: list[str] = []
    nowhere = False
    for part in benchmark.tasks:
        for code in part.languages:
            try:
                texts[part.file(code)] = _text(part, code, data_dir, extra_tasks)
            except XlingError as err:
                gaps.append(f"{part.file(code)}: {str(err).splitlines()[0].removesuffix(' Tried:')}")
                nowhere |= isinstance(err, MissingData)
    if not texts or (gaps and not allow_missing):
        hint = "Name the folder of the original files with --data-dir or XLING_DATA" if nowhere and not texts else ""
        refuse(benchmark, gaps, can_leave_out=bool(texts), hint=hint)
    write(texts, out, benchmark, labels=True)
    return Built(folder=out, num_files=len(texts), entries={}, left_out=tuple(gaps))


def _text(part: Part, language: str, data_dir: Path | None, extra_tasks: Path | None) -> str:
    from adapters_xling import tasks
    from adapters_xling.tasks import kinds

    task = spec_of(part, extra_tasks)
    if task is None:
        raise XlingError("there is no such task here")
    kind = kinds.get(task.kind)
    rows = tasks.load(task, task.eval_split, language, data_dir=data_dir)
    if rows.dropped and part.contents.needs_every_row:  # the benchmark also scores placeholders (PAWS-X's NS)
        rows = tasks.load(task, task.eval_split, language, data_dir=data_dir, need_gold=False)
        reasons = "; ".join(f"{why}: {number}" for why, number in rows.dropped.items())
        if without := sum(kind.gold(row) is None for row in rows.examples):
            reasons = "; ".join(filter(None, [reasons, f"without answer: {without}"]))
        if reasons:
            raise XlingError(f"rows were turned away ({reasons}), so the file would lack them")
    golds = tuple((row.id, kind.gold(row)) for row in rows.examples if getattr(row, "side", "query") == "query")
    kept = Kept(
        folder=Path(), task=task, split=task.eval_split, language=language, values=golds, dropped={}, data_dir=data_dir
    )
    return part.contents.write(part.contents.fill_labels(kept))
