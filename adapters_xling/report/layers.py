"""Retrieval by layer, before and after an intermediate task: what sweeps of a grid found, kept and as a section."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import msgspec

from adapters_xling.errors import DataError
from adapters_xling.paths import atomic_write
from adapters_xling.report.cells import BASE
from adapters_xling.report.curves import BARE, curves
from adapters_xling.report.effects import tint, whole_scale
from adapters_xling.report.formats import number, signed
from adapters_xling.report.sheets import Column, Item, Row, Section, Sheet
from adapters_xling.spec import Frozen

PATTERN = "layers-*.json"
LEAD = (
    "Each hidden state of the encoder read as sentence vectors (0: the token vectors), mean over the languages; below "
    "it the difference to the bare encoder at the same layer. Colours follow that difference."
)
FOOT = (
    "The layer that is read was fixed beforehand; the others are here to be looked at. Whether a difference at that "
    "layer is more than noise: see the comparisons."
)


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

    @property
    def means(self) -> tuple[float, ...]:
        """Mean over the languages, by layer."""
        return tuple(math.fsum(column) / len(column) for column in zip(*self.values.values(), strict=True))


class Layers(Frozen, frozen=True):
    """Sweeps of one retrieval task over the encoders of a grid."""

    task: str
    split: str
    metric: str
    pooling: str
    sweeps: tuple[Swept, ...]

    def of(self, keys: Container[str]) -> Layers:
        """The sweeps of these entries, and those of bare encoders."""
        own = (one for one in self.sweeps if one.method == BASE or one.key in keys)
        return msgspec.structs.replace(self, sweeps=tuple(own))

    def file(self, folder: Path) -> Path:
        """Where a grid's folder keeps them."""
        return folder / PATTERN.replace("*", f"{self.task}-{self.split}")


def read_layers(folder: Path) -> list[Layers]:
    """All sweeps that a grid's folder keeps.

    Raises:
        DataError: for a file that holds something else.
    """
    found = []
    for path in sorted(folder.glob(PATTERN)):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Layers))
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            raise DataError(f"{path}: {err}. Sweep the grid again to write it: xling layers … --grid") from err
    return found


def write_layers(folder: Path, layers: Layers) -> Path:
    """Keep sweeps in a grid's folder; those of a part of the grid join what is there, read in the same way."""
    path = layers.file(folder)
    earlier = next((one for one in read_layers(folder) if one.file(folder) == path), None)
    if earlier and (earlier.metric, earlier.pooling) == (layers.metric, layers.pooling):
        new = {one.key for one in layers.sweeps}
        kept = tuple(one for one in earlier.sweeps if one.key not in new)
        layers = msgspec.structs.replace(layers, sweeps=kept + layers.sweeps)
    atomic_write(path, msgspec.json.format(msgspec.json.encode(layers), indent=1))
    return path


def layers_section(every: Sequence[Layers]) -> Section | None:
    """A table per task: encoders down, layers across; None where nothing was swept."""
    sheets = tuple(_sheet(one) for one in every if one.sweeps)
    return Section("layers", "Retrieval by layer", sheets, lead=LEAD) if sheets else None


def _sheet(layers: Layers) -> Sheet:
    bare = next((one for one in layers.sweeps if one.method == BASE), None)
    groups: dict[tuple[str, str], list[Swept]] = {}
    for one in layers.sweeps:
        if one is not bare:
            groups.setdefault((one.method, one.intermediate), []).append(one)
    lines = {name: _mean(own) for name, own in groups.items()}
    num = len(layers.sweeps[0].means)
    base = bare.means if bare else None
    scale = whole_scale(a - b for line in lines.values() for a, b in zip(line, base or line, strict=True))
    rows: list[Row] = []
    for (method, intermediate), line in lines.items():
        seeds = {one.seed for one in groups[method, intermediate]}
        small = () if len(seeds) == 1 else (f"{len(seeds)} seeds",)
        cells = [_cell(value, base[i] if base else None, scale) for i, value in enumerate(line)]
        rows.append((Item(method, after=intermediate, small=small), *cells))
    above: list[Row] = [(Item(BARE), *(Item(number(value), value) for value in base))] if base else []
    configured = layers.sweeps[0].configured
    names = [f"{i} (read)" if i == configured else str(i) for i in range(num)]
    languages = len(layers.sweeps[0].values)
    title = f"{layers.task} ({layers.metric}, {layers.split})"
    return Sheet(
        f"layers-{layers.task}-{layers.split}",
        title,
        f"{languages} languages, pooling {layers.pooling}.",
        (Column("encoder", numeric=False), *(Column(name, "layer") for name in names)),
        ((*above, *rows),),
        foot=FOOT,
        legend=("diverging", f"−{scale} (loss) → +{scale} points (gain)"),
        is_map=True,
        curves=curves(title, lines, base=base, read=configured),
    )


def _mean(sweeps: Iterable[Swept]) -> list[float]:
    """Mean over seeds, by layer."""
    return [math.fsum(column) / len(column) for column in zip(*(one.means for one in sweeps), strict=True)]


def _cell(value: float, base: float | None, scale: float) -> Item:
    if base is None:
        return Item(number(value), value)
    depth, sign = tint(value - base, scale)
    return Item(number(value), value, small=(signed(value - base),), tint=depth, sign=sign)
