"""A grid as data: what its file may say, where files are, and what is kept of one that is narrowed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from adapters_xling import expressions, paths
from adapters_xling.errors import ConfigError, unknown
from adapters_xling.grid.language_adapters import LanguageAdapters, require_labels
from adapters_xling.grid.targets import Target
from adapters_xling.spec import Fresh, Frozen, Init, Name, Precision, Route, Slot, decode, read_yaml


class Intermediate(Frozen, frozen=True):
    """A mixture as the intermediate step of a grid, or one task under another name or recipe.

    Attributes:
        name: what the command line calls it.
        tasks: its tasks, in no order.
        mix: ``proportional``, ``proportional:<cap>``, ``uniform``, ``temperature:<T>`` or ``temperature:<T>:<cap>``.
        rates: task -> share of all steps, for tasks with a rate of their own.
        recipe: optimisation settings by name; null means the grid's for intermediate runs.
    """

    name: Name
    tasks: tuple[Name, ...]
    mix: str = "proportional"
    rates: dict[str, float] = {}
    recipe: str | None = None


class Composed(Frozen, frozen=True):
    """A target run that uses several intermediate entries at once, which an expression names by their tasks.

    Attributes:
        warm: what it starts from, e.g. ``average(mnli, squad1)``.
        on: what it stands on, e.g. ``fuse(mnli, squad1)``.
    """

    warm: str | None = None
    on: str | None = None

    def __post_init__(self) -> None:
        if (self.warm is None) == (self.on is None):
            raise ConfigError("compositions: each is either {warm: expression} or {on: expression}")

    @property
    def text(self) -> str:
        """The expression."""
        return str(self.on if self.warm is None else self.warm)

    def way(self, parents: Mapping[str, str]) -> tuple[Init, Route]:
        """Init and route over the entries of one method and seed.

        Args:
            parents: what the grid calls an intermediate step -> key of its entry.

        Raises:
            ExpressionError: naming the position of what is wrong.
        """

        def resolve(name: str) -> str:
            if name not in parents:
                raise unknown("intermediate task of this grid", name, parents)
            return parents[name]

        if self.warm is not None:
            return expressions.parse_init(self.warm, resolve=resolve), Slot()
        return Fresh(), expressions.parse_ground(str(self.on), resolve=resolve)


class GridSpec(Frozen, frozen=True):
    """One experiment: intermediate tasks × target tasks × methods × transfers × seeds on one backbone.

    Attributes:
        methods: label -> settings; `method` names the family where the label does not.
        recipe: optimisation settings by name.
        intermediate: tasks of phase 2, or mixtures of them; "none" is the run without one.
        intermediate_recipe: those of phase 2, where they are others than the targets'.
        transfer: how a target run uses its intermediate entry: start from it (warm) or stand on it (stack).
        compositions: further ways, which use several intermediate entries together. A method is left out of those it
            cannot do, with a warning.
        language_adapters: adapters trained on raw text of each language, on which every target is trained too, and
            which are swapped for the language at hand (MAD-X). A method that cannot stand on them is left out, with a
            warning.
        floors: what every table needs beside the methods: majority, head (frozen encoder), vectors (token vectors),
            random (the encoder `random`, all of whose weights are trained).
        floor_seeds: seeds of the floors that are trained; null means all of the grid's.
        random: backbone of the same shape with weights that were only drawn, by name.
        scoring_precision: of the forward passes that score; on processors with bfloat16 instructions bf16 takes a third
            of the time.
        overrides: differences to the recipe, for every run of the grid.
        rows_at_once: task -> most rows of a batch that go through the encoder together; a larger batch is cut into
            equal pieces that accumulate, so that the effective batch stays what the recipe says.
        languages: evaluation languages; null means all of each task's.
        warning: a sentence that is printed with every table.
        controls: further runs to compare with; ``equal-steps`` adds, for each run with an intermediate task, one
            without that may take as many steps as both together.
        published: rows of `task_configs/published.yaml` that the report shows in a section of their own; null for none.
    """

    title: str
    backbone: str
    recipe: str
    methods: dict[str, dict[str, Any]]
    intermediate: tuple[Intermediate | str, ...]
    targets: tuple[Target | str, ...]
    transfer: tuple[Literal["warm", "stack"], ...] = ("warm",)
    compositions: tuple[Composed, ...] = ()
    language_adapters: LanguageAdapters | None = None
    seeds: tuple[int, ...] = (0,)
    floors: tuple[Literal["majority", "head", "vectors", "random"], ...] = ("majority", "head", "vectors")
    floor_seeds: tuple[int, ...] | None = None
    random: str | None = None
    scoring_precision: Precision = "fp32"
    overrides: dict[str, Any] = {}
    rows_at_once: dict[str, Annotated[int, msgspec.Meta(ge=1)]] = {}
    intermediate_recipe: str | None = None
    languages: tuple[str, ...] | None = None
    warning: str = ""
    controls: tuple[Literal["equal-steps"], ...] = ()
    published: Name | None = None


def grid_path(name: str) -> Path:
    """Find a grid by name (shipped) or path.

    Raises:
        UnknownName: with the closest shipped grid.
    """
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        if not Path(name).is_file():
            raise ConfigError(f"grid file {name} does not exist")
        return Path(name)
    folder = paths.task_configs_dir() / "grids"
    known = {path.stem: path for path in folder.glob("*.yaml")}
    if name not in known:
        raise unknown("grid", name, known, "task_configs/grids/*.yaml, or give a path that ends in .yaml")
    return known[name]


def load_grid(name: str, *, narrow: dict[str, Sequence[Any]] | None = None) -> GridSpec:
    """Read a grid; `narrow` keeps only the named methods, intermediate tasks, targets, languages or seeds.

    A name keeps every target of that task.

    Raises:
        ConfigError: naming file and field, one that is empty among them.
        UnknownName: when `narrow` asks for something the grid does not have.
    """
    path = grid_path(name)
    grid = decode(GridSpec, read_yaml(path), str(path))
    needed = {
        "methods": "name at least one",
        "targets": "name at least one",
        "seeds": "name at least one",
        "languages": "name at least one, or leave the field out for all",
    }
    if not grid.language_adapters:
        needed["intermediate"] = "[none] is each target by itself"
    for what, advice in needed.items():
        if getattr(grid, what) in ((), {}):
            raise ConfigError(f"{path}: {what} is empty, which leaves nothing to run; {advice}")
    if grid.language_adapters:
        require_labels(grid.language_adapters, grid.methods)
    changes: dict[str, Any] = {}
    for what, wanted in (narrow or {}).items():
        if not wanted:
            continue
        have = getattr(grid, what)
        names: dict[Any, list[Any]] = {}
        for item in have or wanted:
            names.setdefault(_named(item), []).append(item)
        for item in wanted:
            if item not in names:
                raise unknown(what.rstrip("s"), str(item), map(str, names), str(path))
        kept = tuple(item for name in wanted for item in names[name])
        changes[what] = {name: have[name] for name in wanted} if isinstance(have, dict) else kept
    if grid.language_adapters and "methods" in changes:
        own = {label: given for label, given in grid.language_adapters.methods.items() if label in changes["methods"]}
        changes["language_adapters"] = msgspec.structs.replace(grid.language_adapters, methods=own)
    if "intermediate" in changes:
        gone = set(map(_named, grid.intermediate)) - set(map(_named, changes["intermediate"]))
        left = tuple(one for one in grid.compositions if not gone & set(expressions.names_in(one.text)))
        if dropped := [one.text for one in grid.compositions if one not in left]:
            warnings.warn(f"left out with the intermediate tasks that they name: {', '.join(dropped)}", stacklevel=2)
        changes["compositions"] = left
    return msgspec.structs.replace(grid, **changes)


def _named(item: Any) -> Any:
    """What the command line calls a target, a mixture, or anything that is its own name."""
    if isinstance(item, Target):
        return item.task
    return item.name if isinstance(item, Intermediate) else item
