"""Choose optimisation settings on English held-out rows alone, and keep every configuration that was tried.

    python scripts/tune.py kit-nli --backbone xlmr-mini --method full \\
        --vary learning_rate=1e-4,3e-4 --vary pooling=first,mean

trains the task once for each combination and reads what its own card says: the score on the task's English development
rows, which no table reports. Nothing else is scored. Runs are those of the product (`xling run` would find them), so
what was trained is not trained again, a killed call goes on where it was, and calls with other settings, methods, tasks
or seeds add to the same table. `tried.jsonl` has a line per configuration, `tried.md` is made from it.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from adapters_xling import api, grid, methods, tasks
from adapters_xling.errors import ConfigError, XlingError
from adapters_xling.grid import GridSpec, Plan
from adapters_xling.model import backbone_id, family_of
from adapters_xling.paths import atomic_write
from adapters_xling.spec import Recipe, key

RIGHT = {"learning_rate": "g"}
"""How a setting is printed, where not as it is."""


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="task that is trained; its English dev rows choose")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--recipe", default="mini-encoder")
    parser.add_argument(
        "--method",
        action="append",
        required=True,
        metavar="NAME[:SETTINGS]",
        help="family, with settings as YAML where they are not its own: 'full:{train_embeddings: false}'",
    )
    parser.add_argument(
        "--vary", action="append", default=[], metavar="FIELD=A,B", help="values of a recipe's field; combined freely"
    )
    parser.add_argument("--seed", type=int, action="append", help="0 when left out")
    parser.add_argument("--workers", type=int, default=0, help="runs at a time; one per core when left out")
    parser.add_argument("--out", type=Path, default=Path("docs/results/tuning"))
    return parser.parse_args(given)


def combinations(vary: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Every combination of the values given.

    Raises:
        ConfigError: for a field that no recipe has, or is given twice.
    """
    values: dict[str, list[Any]] = {}
    for text in vary:
        field, sign, listed = text.partition("=")
        if not sign or field not in Recipe.__struct_fields__ or field in values:
            raise ConfigError(
                f"--vary {text}: give each field of a recipe once, as FIELD=A,B; they are "
                f"{', '.join(Recipe.__struct_fields__)}"
            )
        values[field] = [_value(part) for part in listed.split(",")]
    for chosen in itertools.product(*values.values()):
        yield dict(zip(values, chosen, strict=True))


def _value(text: str) -> Any:
    found = yaml.safe_load(text)
    try:
        return float(found) if isinstance(found, str) else found  # YAML 1.1 reads 1e-4 as text
    except ValueError:
        return found


def plan(args: argparse.Namespace) -> Plan:
    """One run for each method, seed and combination."""
    source = tasks.train_task(tasks.get(args.task))
    settings = api.Settings()
    found = Plan(
        GridSpec(
            title=f"Tuning {source.name}",
            backbone=args.backbone,
            recipe=args.recipe,
            methods={},
            intermediate=(),
            targets=(),
        )
    )
    for given in args.method:
        name, _, text = given.partition(":")
        method = methods.resolve(name, yaml.safe_load(text) if text else {})
        method.check(family_of(args.backbone))
        for overrides, seed in itertools.product(combinations(args.vary), args.seed or [0]):
            run = grid.make_run(
                source,
                method,
                backbone=backbone_id(args.backbone),
                recipe=args.recipe,
                overrides=overrides,
                seed=seed,
                data_dir=settings.data_dir,
            )
            found.runs[key(run)] = run
    return found


def tried(planned: Plan, outcome: grid.Outcome) -> list[dict[str, Any]]:
    """A row for each run: what it was, its English dev score from its card, or why there is none."""
    zoo = api.open_zoo()
    rows = []
    for name, run in planned.runs.items():
        recipe = {field: getattr(run.recipe, field) for field in Recipe.__struct_fields__}
        settings = {field: value for field, value in run.method.settings.items() if value is not None}
        row = {
            "key": name,
            "task": run.task,
            "backbone": run.backbone.name,
            "method": run.method.name,
            "seed": run.seed,
        }
        row |= {"settings": settings, "recipe": recipe}
        if name in zoo:
            card = zoo.get(name, verify=False).card
            trained = card.training
            assert trained is not None
            row |= {"metric": trained.metric, "dev": trained.dev_score, "chance": trained.chance}
            row |= {"seconds": round(trained.seconds, 1), "num_trainable": card.num_trainable}
        else:
            row |= {"failed": outcome.failed.get(name, "not trained")}
        rows.append(row)
    return rows


def kept(file: Path) -> dict[str, dict[str, Any]]:
    """Rows of earlier calls, by key."""
    if not file.is_file():
        return {}
    return {row["key"]: row for row in map(json.loads, file.read_text(encoding="utf-8").splitlines())}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Every row, the best of each task, encoder and method first; settings that never differ are said once."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["task"], row["backbone"], row["method"]].append(row)
    lines = [
        "# Every configuration that was tried",
        "",
        "Chosen on English development rows alone, which no table of results is made of.",
        "Made by `scripts/tune.py` from `tried.jsonl`; failures are rows too.",
    ]
    for (task, backbone, method), own in sorted(groups.items()):
        unlike = [f for f in own[0]["recipe"] if len({json.dumps(row["recipe"].get(f)) for row in own}) > 1]
        unlike += [f for f in own[0]["settings"] if len({json.dumps(row["settings"].get(f)) for row in own}) > 1]
        own = sorted(own, key=lambda row: (-row.get("dev", -1.0), row["key"]))
        metric = next((row["metric"] for row in own if "metric" in row), "")
        alike = ["learning_rate", "batch_size", "max_steps", "pooling", "max_length", "precision"]
        same = ", ".join(f"{f} {_said(f, own[0]['recipe'][f])}" for f in alike if f not in unlike)
        lines += ["", f"## {task}, {backbone}, {method}", ""]
        chance = _score(own[0].get("chance"))
        lines += [
            f"{len(own)} tried; {metric} on dev rows, chance {chance}. The same in all: {same}.",
            "",
        ]
        lines += [
            f"| dev | {' | '.join([*unlike, 'seed', 'seconds', 'entry'])} |",
            f"| ---: |{' --- |' * (len(unlike) + 3)}",
        ]
        for row in own:
            values = [_said(f, {**row["settings"], **row["recipe"]}.get(f)) for f in unlike]
            score = _score(row.get("dev")) if "dev" in row else f"failed: {row['failed'].splitlines()[0]}"
            cells = [*values, str(row["seed"]), str(row.get("seconds", "·")), f"`{row['key']}`"]
            lines.append(f"| {score} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _said(field: str, value: Any) -> str:
    return format(value, RIGHT.get(field, "")) if value is not None else "·"


def _score(value: float | None) -> str:
    return "·" if value is None else f"{value:.1f}"


def main(given: Sequence[str] | None = None) -> None:
    """Train what is missing, then write both files."""
    args = arguments(given)
    planned = plan(args)
    have = sum(name in api.open_zoo() for name in planned.runs)
    print(f"{len(planned.runs)} configurations, {have} there already")
    outcome = api.run(
        planned,
        settings=api.Settings(workers=args.workers),
        on_event=lambda what, name, text: print(f"{what:<6} {name}  {text}", flush=True),
    )
    rows = kept(args.out / "tried.jsonl") | {row["key"]: row for row in tried(planned, outcome)}
    atomic_write(args.out / "tried.jsonl", "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows.values()))
    atomic_write(args.out / "tried.md", table(list(rows.values())))
    print(f"{args.out / 'tried.md'}: {len(rows)} configurations")


if __name__ == "__main__":
    try:
        main()
    except XlingError as err:
        raise SystemExit(f"error: {err}") from None
