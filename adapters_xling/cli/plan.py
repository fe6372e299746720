"""`xling plan`, which `xling run --dry-run` is too: what a grid has, lacks and needs, before anything trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from adapters_xling import api
from adapters_xling.cli.common import duration, folders, listed, parts, print_json, print_table, settings_from, size

if TYPE_CHECKING:
    from adapters_xling.api import Settings
    from adapters_xling.grid import Estimate, Need, Plan

F = TypeVar("F", bound=Callable[..., Any])

GIB = 2**30
LONG_S = 3600
"""From so many seconds on the plan says how to do with less."""


def _numbers(value: str | None) -> list[int]:
    try:
        return [int(code) for code in parts(value, "--seeds")]
    except ValueError as err:
        raise click.BadParameter(f"{value!r} is not a list of whole numbers", param_hint="--seeds") from err


_PARTS = ("methods", "intermediate", "targets", "languages")


def narrowing(function: F) -> F:
    """Add the options that keep a part of a grid; `narrowed` reads them."""
    for option in (
        listed("--seeds", help="Only these seeds."),
        listed("--languages", help="Only these languages."),
        listed("--targets", help="Only these targets."),
        listed("--intermediate", help="Only these intermediate tasks."),
        listed("--methods", help="Only these methods (comma-separated)."),
    ):
        function = option(function)
    return function


def narrowed(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `narrowing` out of a command's options, as `api.plan` wants them."""
    narrow: dict[str, Any] = {name: parts(options.pop(name), f"--{name}") for name in _PARTS}
    return {**narrow, "seeds": _numbers(options.pop("seeds"))}


@click.command()
@click.argument("grid")
@narrowing
@click.option("--limit", type=click.IntRange(min=1), help="Score only the first rows of every set.")
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Runs at a time; one per core when left out.")
@click.option("--gpu-memory", metavar="SIZE", help="Memory of the GPU to plan for, e.g. 24GiB; else the visible one's.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@folders
def plan(grid: str, limit: int | None, gpu_memory: str | None, as_json: bool, **options: Any) -> None:
    """Say what GRID has, lacks and needs: runs, rows, time, disk and memory. Trains, downloads and writes nothing."""
    narrow = narrowed(options)
    settings = settings_from(options)
    show(grid, narrow, limit=limit, settings=settings, gpu_memory=gpu_memory, as_json=as_json)


def show(
    grid: str,
    narrow: dict[str, Any],
    *,
    limit: int | None,
    settings: Settings,
    gpu_memory: str | None = None,
    as_json: bool = False,
) -> None:
    """Print the plan of a grid."""
    planned = api.plan(grid, narrow=narrow, settings=settings)
    states = planned.state(api.open_zoo(settings))
    estimate = api.estimate(planned, limit=limit, gpu_memory=gpu_memory, settings=settings)
    if as_json:
        print_json(_as_json(planned, states, estimate))
        return
    jobs = estimate.jobs
    print_table(
        ("state", "time", "memory", "run"),
        [(state, duration(jobs[name].seconds), _memory(jobs[name].need), name) for name, state in states.items()],
    )
    say(planned, states, estimate)


def _memory(need: Need | None) -> str | None:
    """Memory of a run, with a mark where the device has less."""
    if need is None:
        return None
    return f"{need.footprint.peak / GIB:.2f} GiB" + (" !" if need.fits is False else "")


def _as_json(planned: Plan, states: dict[str, str], estimate: Estimate) -> dict[str, Any]:
    needs = {name: need for name in states if (need := estimate.jobs[name].need) is not None}
    return {
        "runs": states,
        "cells": len(planned.cells),
        "lacking": planned.lacking,
        "backbone_at_hand": planned.locked,
        "estimate_s": round(estimate.seconds, 1),
        "estimate_range_s": [round(estimate.low_s, 1), round(estimate.high_s, 1)],
        "estimate_basis": estimate.basis,
        "disk_bytes": estimate.disk_bytes,
        "free_bytes": estimate.free_bytes,
        "run_seconds": {name: round(estimate.jobs[name].seconds, 1) for name in states},
        "device": estimate.device,
        "memory_bytes": estimate.memory,
        "run_memory_bytes": {name: round(need.footprint.peak) for name, need in needs.items()},
        "run_fits": {name: need.fits for name, need in needs.items()},
        "run_smaller": {
            name: {"batch_size": need.smaller.batch_size, "accumulate": need.smaller.accumulate}
            for name, need in needs.items()
            if need.smaller
        },
    }


def say(planned: Plan, states: dict[str, str], estimate: Estimate) -> None:
    """Print what is there, what is missing and how to get it, how long the rest takes, and memory and disk."""
    counts = {state: list(states.values()).count(state) for state in ("have", "missing", "blocked", "lacking")}
    sets = sum(job.sets for job in estimate.jobs.values())
    lacking = f", {counts['lacking']} lack rows" if counts["lacking"] else ""
    click.echo(
        f"{len(states)} runs: {counts['have']} there, {counts['missing']} to train, {counts['blocked']} after their "
        f"parents{lacking}; {len(planned.cells)} cells, {sets} sets of rows to score"
    )
    for line in _lacking_lines(planned, estimate):
        click.secho(line, fg="yellow")
    for line in (*_time_lines(estimate), *_memory_lines(estimate), _disk_line(estimate)):
        click.echo(line)


def _lacking_lines(planned: Plan, estimate: Estimate) -> list[str]:
    """What is not at hand, and how to get it."""
    lines = []
    if not planned.locked:
        lines.append(
            f"backbone: {planned.grid.backbone} is not here. `xling run` downloads it; without a network put its "
            "config.json, tokenizer.json and model.safetensors into a folder and write that as the grid's backbone"
        )
    if planned.lacking:
        lines.append(
            "train or dev rows that are not at hand: "
            f"{', '.join(planned.lacking)}. `xling data status` says which and where they are "
            "looked for; --data-dir or XLING_DATA names the folder of original files, `xling data lock` pins hub data"
        )
        for name, why in planned.lacking.items():
            _, marked, own = why.splitlines()[-1].partition(" says where to get them. ")
            if marked and own:
                lines.append(f"  {name}: {own}")
        lines.append("  to run the rest: --without-lacking, or leave tasks out by --intermediate and --targets")
    if estimate.absent:
        lines.append(
            f"rows to score: none at hand of {', '.join(estimate.absent)}; counted as their task files say, but they "
            "cannot be scored"
        )
    lines += [
        f"rows to score: {name} has none at hand in {', '.join(codes)}, which no mean will count"
        for name, codes in estimate.partly.items()
    ]
    return lines


def _memory_lines(estimate: Estimate) -> list[str]:
    """The largest need, whether the device has it, and what to change where it has not."""
    needs = [job.need for job in estimate.jobs.values() if job.need is not None]
    if not needs:
        return []
    most = max(needs, key=lambda need: need.footprint.peak)
    place = "GPU" if estimate.device == "cuda" else f"{estimate.device}, for each of {estimate.workers}"
    text = f"memory: a run needs up to {most.footprint.peak / GIB:.2f} GiB ({place}; computed, rows of full length)"
    if estimate.memory is None:
        return [f"{text}; --gpu-memory 24GiB compares it with a device"]
    short = [need for need in needs if need.fits is False]
    lines = [f"{text}, of {estimate.memory / GIB:.1f} GiB: {len(needs) - len(short)} of {len(needs)} runs fit"]
    advice: dict[tuple[str, str, int], list[Need]] = {}
    for job in estimate.jobs.values():
        if job.need is not None and job.need.fits is False:
            advice.setdefault((job.label[0], job.need.task, job.need.recipe.batch_size), []).append(job.need)
    for (method, task, batch), found in advice.items():
        need = max(found, key=lambda one: one.footprint.peak)
        what = f"  {method} on {task}, batch {batch}: {need.footprint.peak / GIB:.1f} GiB"
        if need.smaller is not None:
            change = f"batch_size: {need.smaller.batch_size}, accumulate: {need.smaller.accumulate}"
            lines.append(f"{what}; fits as {change} (the same effective batch)")
        else:
            lines.append(f"{what}; even one row at a time does not: {_way_out(need)}")
    pieces: dict[str, int] = {}
    for (_, task, batch), found in advice.items():
        sizes = [need.smaller.batch_size for need in found if need.smaller is not None]
        pieces[task] = min([*sizes, pieces.get(task, batch)])
    if pieces:
        lines.append("  nothing is changed by itself. In a copy of the grid (these runs get keys of their own) write:")
        lines.append(f"    rows_at_once: {{{', '.join(f'{task}: {rows}' for task, rows in pieces.items())}}}")
    return lines


def _disk_line(estimate: Estimate) -> str:
    """What will be written, with a mark where the disk has less."""
    free = estimate.free_bytes
    mark = " !" if free is not None and estimate.disk_bytes > free else ""
    there = "free space unknown" if free is None else f"{size(free)} free"
    return f"disk: about {size(estimate.disk_bytes)} to write{mark}, {there}"


def _way_out(need: Need) -> str:
    """What else makes a run smaller."""
    ways = ["precision: bf16"] if need.recipe.precision != "bf16" else []
    ways += [f"max_length below {need.recipe.max_length}", "an adapter or LoRA instead", "a larger device"]
    return ", ".join(ways)


def _time_lines(estimate: Estimate) -> list[str]:
    jobs = estimate.jobs.values()
    if not any(job.train_s or job.sets for job in jobs):
        return [f"time: about {duration(estimate.seconds)}; nothing to train or score, only rows to read and a report"]
    train, score = sum(job.train_s for job in jobs), sum(job.score_s for job in jobs)
    bound = "at most " if estimate.at_most else ""
    lines = [
        f"time: {bound}about {duration(estimate.seconds)} ({duration(estimate.low_s)} to {duration(estimate.high_s)}) "
        f"with {estimate.workers} at a time: {duration(train)} of training, {duration(score)} of scoring",
        f"  {_basis(estimate)}",
    ]
    if estimate.at_most:
        lines.append("  runs may stop before their last step (patience)")
    if estimate.unread:
        lines.append(f"  the size of {estimate.unread} sets that were not fetched yet is a guess")
    if estimate.seconds > LONG_S:
        shares = [f"{name} {share:.0%}" for which in (0, 1) for name, share in list(estimate.shares(which).items())[:2]]
        lines.append(f"  most of it: {', '.join(shares)}")
        lines.append("  to narrow: --methods, --targets, --intermediate, --languages, --limit, --seeds")
    return lines


def _basis(estimate: Estimate) -> str:
    """What the figure stands on, in words."""
    trained, scored = estimate.num_timed
    timed = f"{trained} runs and {scored} scored sets timed on this machine"
    if estimate.basis == "measured":
        return f"from {timed}"
    where = (
        f"{estimate.flops / 1e9:.0f} GFLOP/s a core, measured now; for a machine that does nothing else"
        if estimate.device == "cpu"
        else f"{estimate.flops / 1e12:.0f} TFLOP/s, assumed for {estimate.device}"
    )
    if estimate.basis == "mixed":
        return f"partly from {timed}, the rest rough: from the encoder's size and {where}"
    return f"rough, for nothing like it was timed here: from the encoder's size and {where}"
