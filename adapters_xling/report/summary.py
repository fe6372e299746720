"""The tables that sum a report up: means of every task, the floors beside the best, means by seed, and a few words."""

from __future__ import annotations

from adapters_xling.report.cells import FLOORS, Target
from adapters_xling.report.formats import (
    dagger,
    duration,
    intermediate_name,
    method_name,
    number,
    quantity,
    signed,
    source_name,
    target_name,
)
from adapters_xling.report.prose import lexical_lines
from adapters_xling.report.results import Results
from adapters_xling.report.sheets import Column, Item, Sheet, best_of, delta_item, mean_item, row_name


def summary_sheet(results: Results) -> Sheet:
    """Zero-shot means, source scores and Δ of every headline target, and what an entry costs."""
    columns = [Column("method", numeric=False)]
    said = "unweighted mean of the tasks"
    columns += [Column(name, results.overall_name, title=said) for name in (results.mean_name, "Δ")]
    for target in results.headline:
        source = [source_name(results.sources(target))] if _beside(results, target) else []
        title, name = f"{target.metric} on {target.split}", target_name(results, target)
        columns += [Column(column, name, title=title) for column in (results.mean_name, *source, "Δ")]
    columns += [Column(name, "cost per entry") for name in ("trainable", "size", "training")]
    best = [best_of(results.zero_shot_mean(t, s) for s in results.contenders) for t in results.headline]
    best_overall = best_of(results.overall(s) for s in results.contenders)
    alone = len(results.seeds) == 1
    one_seed = "" if alone else "1 seed"  # with one seed throughout, the heading says so
    bodies = []
    for systems in (results.contenders, results.floors):
        body = []
        for system in systems:
            items = [
                row_name(results, system),
                mean_item(results.overall(system), best=None if system.is_floor else best_overall),
                delta_item(results.overall_delta(system), system, one_seed=one_seed),
            ]
            for target, top in zip(results.headline, best, strict=True):
                mean = results.zero_shot_mean(target, system)
                items.append(mean_item(mean, best=None if system.is_floor else top))
                if _beside(results, target):
                    items.append(mean_item(results.source_mean(target, system)))
                delta, mark = results.delta(target, system), results.mark(target, system)
                items.append(delta_item(delta, system, mark=mark, one_seed=one_seed))
            cost = results.cost(system)
            items += [
                Item(quantity(cost.num_trainable), cost.num_trainable),
                Item(quantity(cost.num_bytes, unit="B"), cost.num_bytes),
                Item(duration(cost.seconds), cost.seconds),
            ]
            body.append(tuple(items))
        bodies.append(tuple(body))
    noise = "; 1 seed, so nothing here says how much is noise" if alone else ", ± standard deviation over seeds"
    return Sheet(
        "summary",
        "Summary",
        f"{means_of(results)} per task, in percent. Δ: difference to the same method without an intermediate task"
        f"{noise}. Bold: highest complete mean in its column.",
        tuple(columns),
        tuple(bodies),
        foot="Below the line: floors. Cost: largest entry of the row; training time is the mean of its entries, "
        "without the intermediate task's own.",
    )


def _beside(results: Results, target: Target) -> bool:
    """Whether the source languages have a column of their own beside the mean."""
    return bool(results.sources(target)) and not results.source_only


def means_of(results: Results) -> str:
    """What the means of a report are, as a heading begins."""
    return "Scores on the language trained on" if results.source_only else "Zero-shot means"


def floors_sheet(results: Results) -> Sheet | None:
    """Every floor of every headline target, and the best method's lead over token vectors; None without floors."""
    if not results.floors:
        return None
    names = [method_name(results, floor) for floor in results.floors]
    columns = [Column("task", numeric=False), *(Column(name) for name in names)]
    columns += [Column("lead of the best method over token vectors", numeric=False), Column("", numeric=False)]
    rows = []
    for target, (name, lead, lexical) in zip(results.headline, lexical_lines(results), strict=True):
        values = [mean_item(results.zero_shot_mean(target, floor)) for floor in results.floors]
        rows.append((Item(name), *values, Item(lead), Item("lexical" if lexical else "")))
    said = "; ".join(f"{name}: {FLOORS[f.method]}" for name, f in zip(names, results.floors, strict=True))
    return Sheet("floors", "Floors", f"What a score is worth. {said}.", tuple(columns), (tuple(rows),))


def seeds_sheet(results: Results) -> Sheet:
    """Zero-shot means by seed, and the deltas between them."""
    seeds = results.seeds
    columns = [Column("method", numeric=False), Column("task", numeric=False)]
    columns += [*(Column(f"seed {seed}") for seed in seeds), Column("sd"), Column("Δ")]
    rows = []
    for target in results.headline:
        for system in results.contenders:
            mean = results.zero_shot_mean(target, system)
            if mean.mean is not None:
                rows.append(
                    (
                        row_name(results, system),
                        Item(target_name(results, target)),
                        *(Item(number(value), value) for value in map(mean.by_seed.get, seeds)),
                        Item(number(mean.sd), mean.sd),
                        delta_item(results.delta(target, system), system, mark=results.mark(target, system)),
                    )
                )
    return Sheet("seeds", f"{means_of(results)} by seed", "", tuple(columns), (tuple(rows),), folded=True)


def highlights(results: Results) -> list[tuple[str, str]]:
    """A few numbers said in words; each is in the tables too."""
    found = []
    best = best_of(results.overall(s) for s in results.contenders)
    if best is not None:
        system = next(s for s in results.contenders if results.overall(s) == best)
        after = f" after {intermediate_name(results, system)}" if system.has_intermediate else ", no intermediate task"
        found.append(
            (
                number(best.mean) + dagger(best),
                f"highest {results.mean_name} mean over {results.overall_name}: {method_name(results, system)}{after}",
            )
        )
    parts = [part for s in results.contenders if (part := results.overall_delta(s)).mean is not None]
    deltas = [part.mean for part in parts if part.converged and part.mean is not None]
    if deltas:
        low, high = min(deltas), max(deltas)
        value = signed(low) if signed(low) == signed(high) else f"{signed(low)} to {signed(high)}"
        text = f"Δ from an intermediate task, over {len(deltas)} row{'s' * (len(deltas) != 1)}, "
        text += f"mean of {results.overall_name}"
        text += f" ({len(parts) - len(deltas)} † left out)" if len(parts) > len(deltas) else ""
        found.append((value, text))
    lexical = [name for name, _, is_lexical in lexical_lines(results) if is_lexical]
    if any(results.lexical_gap(target) for target in results.headline):
        text = f"tasks that token vectors nearly reach{': ' + ', '.join(lexical) if lexical else ''}"
        found.append((f"{len(lexical)} of {len(results.headline)}", text))
    return found
