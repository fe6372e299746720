"""Experiments as data: expand a grid to runs, order them by parents, run what is missing, collect the scores."""

from adapters_xling.grid.estimate import Estimate, estimate, require_room, schedule
from adapters_xling.grid.execute import Common, Outcome, execute
from adapters_xling.grid.executors import EXECUTORS, Executor, open_executor
from adapters_xling.grid.memory import Need, device_memory
from adapters_xling.grid.mixing import Mix
from adapters_xling.grid.plan import Cell, Origin, Plan, expand
from adapters_xling.grid.runs import make_run, recipes
from adapters_xling.grid.spec import GridSpec, Intermediate, grid_path, load_grid
from adapters_xling.grid.targets import Target

__all__ = [
    "EXECUTORS",
    "Cell",
    "Common",
    "Estimate",
    "Executor",
    "GridSpec",
    "Intermediate",
    "Mix",
    "Need",
    "Origin",
    "Outcome",
    "Plan",
    "Target",
    "device_memory",
    "estimate",
    "execute",
    "expand",
    "grid_path",
    "load_grid",
    "make_run",
    "open_executor",
    "recipes",
    "require_room",
    "schedule",
]
