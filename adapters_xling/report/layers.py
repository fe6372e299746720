"""Retrieval by layer, before and after an intermediate task: what sweeps of a grid found, kept and as a section."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from adapters_xling.errors import DataError
from adapters_xling.paths import atomic_write, hold
from adapters_xling.report.cells import BASE, Cell
from adapters_xling.report.curves import BARE, curves
from adapters_xling.report.effects import tint, whole_scale
from adapters_xling.report.formats import dagger, number, signed, spread
from adapters_xling.report.scores import EntryFacts, unconverged
from adapters_xling.report.sheets import Column, Item, Row, Section, Sheet
from adapters_xling.spec import FULL, Frozen

PATTERN = "layers-*.json"
LEAD = (
    "Each hidden state of the encoder read as sentence vectors (0: the token vectors), mean over the languages; below "
    "it the difference to the bare encoder at the same layer. ± is the standard deviation over seeds, † marks a run "
    "that did not beat guessing on its dev rows. Colours follow that difference."
)
FOOT = (
    "The layer that is read was fixed beforehand; the others are here to be looked at. Whether a difference at that "
    "layer is more than noise: see the comparisons."
)

RENEW = "To have all of them on the same languages, sweep the grid again: xling layers TASK --grid GRID."


class Swept(Frozen, frozen=True):
    """One encoder, every layer.

    Attributes:
        key: entry, or name of the bare backbone.
        method: training family, or `BASE`.
        intermediate: what it was trained on.
        seed: of the run.
        configured: layer that retrieval reads when nothing else is said.
        values: language -> percent by layer.
    """

    key: str
    method: str
    intermediate: str
    seed: int
    configured: int
    values: dict[str, tuple[float, ...]]

    def means(self, codes: Sequence[str]) -> list[float]:
        """Mean over these languages, by layer."""
        return _means(self.values[code] for code in codes)


class Layers(Frozen, frozen=True):
    """Sweeps of one retrieval task over the encoders of a grid, all read in the same way.

    Attributes:
        task: what was retrieved.
        split: of the rows.
        metric: of the values.
        pooling: how a hidden state became one vector.
        sweeps: one an encoder.
        precision: of the forward passes; empty in a file of before it was kept.
    """

    task: str
    split: str
    metric: str
    pooling: str
    sweeps: tuple[Swept, ...]
    precision: str = ""

    @property
    def languages(self) -> list[str]:
        """Every language that some encoder was swept on."""
        return list(dict.fromkeys(code for one in self.sweeps for code in one.values))

    @property
    def shared(self) -> list[str]:
        """Languages that every encoder was swept on: means over others are not to be compared."""
        return [code for code in self.languages if all(code in one.values for one in self.sweeps)]

    @property
    def reading(self) -> str:
        """How all were read, in words."""
        return f"pooling {self.pooling}" + (f", {self.precision}" if self.precision else "")

    def of(self, keys: Container[str]) -> Layers:
        """The sweeps of these entries, and those of bare encoders."""
        own = (one for one in self.sweeps if one.method == BASE or one.key in keys)
        return msgspec.structs.replace(self, sweeps=tuple(own))


def read_layers(folder: Path) -> list[Layers]:
    """All sweeps that a grid's folder keeps.

    Raises:
        DataError: for a file that holds something else.
    """
    return list(_files(folder).values())


def _files(folder: Path) -> dict[Path, Layers]:
    found = {}
    for path in sorted(folder.glob(PATTERN)):
        try:
            found[path] = msgspec.json.decode(path.read_bytes(), type=Layers)
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            raise DataError(f"{path}: {err}. Sweep the grid again to write it: xling layers … --grid") from err
    return found


def write_layers(folder: Path, layers: Layers, *, usual: str = FULL) -> Path:
    """Keep sweeps in a grid's folder; those of a part of the grid join what is there.

    What was read with another pooling or in another precision is not to be compared, and has a file of its own.

    Args:
        folder: of the grid's report.
        layers: what was swept.
        usual: precision of a file that does not say its own: what the grid scores in.

    Returns:
        The file.

    Raises:
        DataError: for a file of sweeps that holds something else.
    """
    with hold(folder / ".layers.lock", wait=True):  # another part of the grid may be joining now
        return _join(folder, layers, usual=usual)


def _join(folder: Path, layers: Layers, *, usual: str) -> Path:
    found = _files(folder)
    read = (layers.task, layers.split, layers.pooling, layers.precision or usual)
    same = (p for p, one in found.items() if (one.task, one.split, one.pooling, one.precision or usual) == read)
    path = folder / PATTERN.replace("*", f"{layers.task}-{layers.split}")
    path = next(same, path if path not in found else path.with_stem("-".join((path.stem, *read[2:]))))
    earlier = found.get(path)
    if earlier and earlier.metric == layers.metric:
        new = {one.key for one in layers.sweeps}
        kept = tuple(one for one in earlier.sweeps if one.key not in new)
        layers = msgspec.structs.replace(layers, sweeps=kept + layers.sweeps)
    atomic_write(path, msgspec.json.format(msgspec.json.encode(layers), indent=1))
    return path


def layers_section(every: Sequence[Layers], facts: Mapping[str, EntryFacts] | None = None) -> Section | None:
    """A table per task, and per way of reading where there are several: encoders down, layers across.

    What rests on an entry that did not converge, by the facts, carries a †. A note stands for the table of encoders
    that have no language in common; None where nothing was swept.
    """
    swept = [one for one in every if one.sweeps]
    sheets = []
    for one in swept:
        if one.shared:
            several = sum((other.task, other.split) == (one.task, one.split) for other in swept) > 1
            sheets.append(_sheet(one, one.reading if several else "", facts or {}))
    unlike = [f"{one.task} ({one.split}, {one.reading})" for one in swept if not one.shared]
    note = f"The encoders were swept on different languages, with none in common: {'; '.join(unlike)}. {RENEW}"
    if not swept:
        return None
    return Section("layers", "Retrieval by layer", tuple(sheets), lead=LEAD, note=note if unlike else "")


def _sheet(layers: Layers, reading: str, facts: Mapping[str, EntryFacts]) -> Sheet:
    """A table; it is called by the way of reading too where there is another one of the same task."""
    codes = layers.shared
    bare = next((one for one in layers.sweeps if one.method == BASE), None)
    groups: dict[tuple[str, str], list[Swept]] = {}
    for one in layers.sweeps:
        if one is not bare:
            groups.setdefault((one.method, one.intermediate), []).append(one)
    read = {name: _over_seeds(own, codes, facts) for name, own in groups.items()}
    lines = {name: [cell.mean for cell in cells] for name, cells in read.items()}
    base = bare.means(codes) if bare else None
    num = len(layers.sweeps[0].means(codes))
    scale = whole_scale(a - b for line in lines.values() for a, b in zip(line, base or line, strict=True))
    rows: list[Row] = []
    for (method, intermediate), line in read.items():
        seeds = {one.seed for one in groups[method, intermediate]}
        small = () if len(seeds) == 1 else (f"{len(seeds)} seeds",)
        cells = [_item(cell, base[i] if base else None, scale) for i, cell in enumerate(line)]
        rows.append((Item(method, after=intermediate, small=small), *cells))
    above: list[Row] = [(Item(BARE), *(Item(number(value), value) for value in base))] if base else []
    configured = layers.sweeps[0].configured
    names = [f"{i} (read)" if i == configured else str(i) for i in range(num)]
    title = f"{layers.task} ({layers.metric}, {layers.split}{f', {reading}' if reading else ''})"
    languages = f"{len(codes)} language{'s' * (len(codes) != 1)}, {layers.reading}."
    if left := [code for code in layers.languages if code not in codes]:
        languages += f" Left out, for only some encoders were swept on them: {', '.join(left)}. {RENEW}"
    place = "-".join(("layers", layers.task, layers.split, *reading.replace(",", "").split()))
    return Sheet(
        place,
        title,
        languages,
        (Column("encoder", numeric=False), *(Column(name, "layer") for name in names)),
        ((*above, *rows),),
        foot=FOOT,
        legend=("diverging", f"−{scale} (loss) → +{scale} points (gain)"),
        is_map=True,
        curves=curves(title, lines, base=base, read=configured),
    )


def _means(lines: Iterable[Sequence[float]]) -> list[float]:
    """Mean of several lines over layers, layer by layer."""
    return [math.fsum(column) / len(column) for column in zip(*lines, strict=True)]


def _over_seeds(entries: Sequence[Swept], codes: Sequence[str], facts: Mapping[str, EntryFacts]) -> list[Cell]:
    """What one row found by layer: means over the languages, an entry for each seed."""
    converged = not unconverged((one.key for one in entries), facts)
    return [
        Cell(dict(enumerate(column)), zero_shot=True, converged=converged)
        for column in zip(*(one.means(codes) for one in entries), strict=True)
    ]


def _item(cell: Cell, base: float | None, scale: float) -> Item:
    text = number(cell.mean) + spread(cell) + dagger(cell)
    if base is None:
        return Item(text, cell.mean)
    depth, sign = tint(cell.mean - base, scale)
    return Item(text, cell.mean, small=(signed(cell.mean - base),), tint=depth, sign=sign)
