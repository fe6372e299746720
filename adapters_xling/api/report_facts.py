"""What a grid's report says beside its scores: facts of entries, notes, languages and metrics of targets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from adapters_xling.errors import XlingError
from adapters_xling.spec import Merge, MethodSpec, RunSpec, Score, entries
from adapters_xling.zoo import Zoo

from .settings import Settings, task

if TYPE_CHECKING:
    from adapters_xling.grid import Plan
    from adapters_xling.report import EntryFacts
    from adapters_xling.zoo import Card, Provenance


def facts_known(zoo: Zoo, name: str, planned: Plan) -> EntryFacts:
    """`facts_of`, or of an entry that cannot be read why."""
    from adapters_xling.report import EntryFacts

    try:
        return facts_of(zoo, name, planned)
    except XlingError as err:
        return EntryFacts(failure=str(err))


def facts_of(zoo: Zoo, name: str, planned: Plan) -> EntryFacts:
    """What the card of an entry says, under the names that the grid gives mixtures and methods."""
    from adapters_xling.report import EntryFacts

    card = zoo.get(name, verify=False).card
    trained = card.training
    method = _row_method(zoo, card.run)
    device = trained.device if trained else None
    return EntryFacts(
        steps=trained.steps if trained else None,
        device=device_name(card.provenance, device) if device else "",
        on_gpu=device != "cpu" if device else None,
        num_devices=trained.get("processes", 1) if trained and device else None,  # each on a device of its own
        parents=card.parents,
        stands_on=entries(card.run.route),
        mixture=_mixture(name, card, planned),
        num_trainable=card.num_trainable,
        num_bytes=card.num_bytes,
        seconds=trained.seconds if trained else None,
        converged=trained.converged if trained else None,
        dev_score=trained.dev_score if trained else None,
        chance=trained.chance if trained else None,
        method_settings={k: v for k, v in method.settings.items() if v is not None},
        label=method_label(method, planned.grid.methods),
    )


def _mixture(name: str, card: Card, planned: Plan) -> str:
    """What the grid calls a run's intermediate step, or several, where a mixture is among them; else empty."""
    if name in planned.mixtures:
        return planned.mixtures[name]
    if not any(parent in planned.mixtures for parent in card.parents):
        return ""
    return "+".join(dict.fromkeys(planned.mixtures.get(one) or planned.runs[one].task for one in card.parents))


def _row_method(zoo: Zoo, run: RunSpec) -> MethodSpec:
    """The method that a run's row of a table is under: its own, but where it starts from a merge the one that all
    merged entries have, for merging may add their ranks up, and its Δ is to the run that starts from nothing."""
    if not isinstance(run.init, Merge) or not all(name in zoo for name in run.init.entries):
        return run.method
    merged = [zoo.get(name, verify=False).card.run.method for name in run.init.entries]
    return merged[0] if all(one == merged[0] for one in merged) else run.method


def method_label(method: MethodSpec, named: Mapping[str, Mapping[str, Any]]) -> str:
    """What a grid calls a method with its settings; empty for one that it does not name, like that of a floor."""
    from adapters_xling.grid.runs import method_from

    return next((label for label, settings in named.items() if method_from(label, settings).spec() == method), "")


def without_cost(facts: EntryFacts) -> EntryFacts:
    """Facts of an entry scored on another route: the same weights, for which nothing was trained once more."""
    return msgspec.structs.replace(facts, steps=None, seconds=None, num_bytes=None, device="", on_gpu=None)


def device_name(origin: Provenance, device: str) -> str:
    """What an entry was trained on: a GPU by its name, a processor with the threads that were used of it."""
    if device == "cuda" and origin.gpu:
        return re.sub(r" x\d+$", "", origin.gpu)  # how many there were says nothing about how many were used
    if device != "cpu":
        return device
    return f"{origin.cpu}, {origin.num_threads} thread{'s' * (origin.num_threads != 1)}"


def all_languages(planned: Plan, settings: Settings | None) -> dict[str, tuple[str, ...]]:
    """Languages of each target of which every row is scored: what a published mean is over.

    Of several splits of a task it is the test rows', or those of the first in order.
    """
    extra = (settings or Settings()).tasks
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for target in dict.fromkeys(cell.target for cell in planned.cells):
        if target.limit is None:
            spec = task(target.task, Settings(tasks=extra))
            split = target.split or spec.eval_split
            found.setdefault(target.task, {})[split] = spec.languages_by_split.get(split, spec.languages)
    return {name: splits[min(splits, key=lambda split: (split != "test", split))] for name, splits in found.items()}


def _rank(run: RunSpec) -> str:
    """Rank of a run's LoRA in words; empty for other methods."""
    rank = run.method.settings.get("r") if run.method.name == "lora" else None
    return f"r={rank}" if rank else ""


def notes(planned: Plan, limit: int | None) -> Iterator[str]:
    """What must be said beside every table of a grid: its own warning, and which rows were left out."""
    if planned.grid.warning:
        yield planned.grid.warning
    if added := sorted({_rank(run) for run in planned.runs.values() if isinstance(run.init, Merge)} - {""}):
        yield f"Rows that start from merged LoRAs train the ranks of these together ({', '.join(added)})."
    steps = ((parent, planned.runs[name].task) for name, parent in planned.without_pooler.items())
    alone = sorted({f"{planned.mixtures.get(parent) or planned.runs[parent].task} → {task}" for parent, task in steps})
    if alone:
        yield f"The pooler stays behind where it reads rows another way than the target does: {', '.join(alone)}."
    if planned.left_out:
        yield f"Left out, for their training rows were not at hand: {', '.join(planned.left_out)}."
    if limit:
        yield f"Only the first {limit} rows of each set were scored."
        return
    limited = {cell.target.task: cell.target.limit for cell in planned.cells if cell.target.limit}
    if limited:
        named = ", ".join(f"{name} {rows}" for name, rows in limited.items())
        yield f"Only the first rows of each language were scored: {named}."


def incomplete(planned: Plan, scores: Iterable[Score], settings: Settings | None) -> Iterator[str]:
    """A sentence for each target that was scored in some of its languages only, which no mean shows by itself."""
    from adapters_xling.grid.targets import languages_of

    scored: dict[tuple[str, str], set[str]] = {}
    for score in scores:
        scored.setdefault((score.task, score.split), set()).add(score.language)
    for target in dict.fromkeys(cell.target for cell in planned.cells):
        spec = task(target.task, Settings(tasks=(settings or Settings()).tasks))
        wanted = languages_of(target, spec, planned.grid)
        have = scored.get((spec.name, target.split or spec.eval_split), set())
        lacking = [code for code in wanted if code not in have]
        if have and lacking:
            num = len(wanted) - len(lacking)
            rest = f"the other {num} languages" if num > 1 else "the other language"
            yield f"{target.label} is not scored in {', '.join(lacking)}: means are over {rest}."


def retrieval_tasks(planned: Plan, settings: Settings | None) -> tuple[str, ...]:
    """Targets of a grid that are retrieval."""
    from adapters_xling.tasks import kinds

    extra = (settings or Settings()).tasks
    names = dict.fromkeys(cell.target.task for cell in planned.cells)
    return tuple(name for name in names if kinds.get(task(name, Settings(tasks=extra)).kind).vectors)


def main_metrics(planned: Plan, settings: Settings | None) -> dict[str, str]:
    """Metric that stands for each target of a grid."""
    from adapters_xling import metrics

    extra = (settings or Settings()).tasks
    names = dict.fromkeys(cell.target.task for cell in planned.cells)
    return {name: metrics.main(task(name, Settings(tasks=extra)).metrics[0]) for name in names}
