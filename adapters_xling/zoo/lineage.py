"""Where an entry comes from: all its ancestors with data, recipe, seed, hardware and scores, as a tree, a Mermaid graph
or an SVG; and what the licences of all of them ask together."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adapters_xling import backbones, licences, spec
from adapters_xling.errors import ZooError
from adapters_xling.spec import Imported, RunSpec
from adapters_xling.zoo.card import Card
from adapters_xling.zoo.store import Zoo, ZooWarning

STARTS, STANDS = "starts from", "stands on"


@dataclass(frozen=True)
class Edge:
    """A parent of an entry and what it is to it: the slot starts from it, or stands on it, or both."""

    child: str
    parent: str
    role: str


@dataclass(frozen=True)
class Lineage:
    """An entry with all its ancestors.

    Attributes:
        key: the entry.
        cards: key -> card, each after its own parents, the entry last; None for one that is not in the zoo.
        edges: child, parent and role, in the order of the children.
    """

    key: str
    cards: Mapping[str, Card | None]
    edges: tuple[Edge, ...]

    @property
    def ancestors(self) -> tuple[Card, ...]:
        """Cards of the ancestors that are here."""
        return tuple(card for key, card in self.cards.items() if card is not None and key != self.key)

    @property
    def missing(self) -> tuple[str, ...]:
        """Keys of ancestors that are not here."""
        return tuple(key for key, card in self.cards.items() if card is None)

    @property
    def replaced(self) -> tuple[str, ...]:
        """Ancestors that are here with other weights than those a child was made from, as far as its card says."""
        pairs = [(p, w) for card in self.cards.values() if card for p, w in (card.parent_weights or {}).items()]
        found = (parent for parent, weights in pairs if (now := self.cards.get(parent)) and now.weights != weights)
        return tuple(dict.fromkeys(found))

    def licence(self) -> licences.Terms:
        """What the licences of the data, the backbones and all ancestors ask together; a missing one is unknown."""
        known = [licence_of(card) for card in self.cards.values() if card is not None]
        return licences.combine([*known, *(licences.Terms(unknown=(f"entry {key}",)) for key in self.missing)])

    def tree(self) -> str:
        """The lineage as a tree for the terminal, the entry at its root."""
        lines: list[str] = []
        seen: set[str] = set()

        def visit(key: str, role: str, lead: str, branch: str, below: str) -> None:
            card = self.cards[key]
            again = key in seen
            seen.add(key)
            note = "  (not in this zoo)" if card is None else "  (above)" if again else ""
            note += "  (trained again since: not the weights it was)" if key in self.replaced else ""
            lines.append(f"{lead}{branch}{role}{key}{note}")
            if card is None or again:
                return
            own = [edge for edge in self.edges if edge.child == key]
            inner = lead + below
            bar = "│  " if own else "   "
            lines.extend(f"{inner}{bar}{line}" for line in facts(card))
            for i, edge in enumerate(own):
                last = i == len(own) - 1
                visit(edge.parent, f"{edge.role} ", inner, "└─ " if last else "├─ ", "   " if last else "│  ")

        visit(self.key, "", "", "", "")
        return "\n".join(lines)

    def mermaid(self) -> str:
        """The lineage as a Mermaid flowchart, which GitHub and the Hugging Face Hub draw; parents above children."""
        names = {key: f"n{i}" for i, key in enumerate(self.cards)}
        lines = ["flowchart TD"]
        for key, card in self.cards.items():
            text = "<br/>".join(_mermaid(line) for line in box(key, card))
            lines.append(f'  {names[key]}["{text}"]')
        lines += [f"  {names[edge.parent]} -->|{edge.role}| {names[edge.child]}" for edge in self.edges]
        return "\n".join(lines)

    def svg(self) -> str:
        """The lineage as one SVG picture without scripts, parents above children."""
        levels = self._levels()
        widest = max(len(line) for key, card in self.cards.items() for line in box(key, card))
        width, line_height = 24 + 7 * widest, 17
        height = 20 + line_height * max(len(box(key, card)) for key, card in self.cards.items())
        rows = max(levels.values()) + 1
        by_level = [[key for key in self.cards if levels[key] == level] for level in range(rows)]
        columns = max(map(len, by_level))
        total_width, total_height = columns * (width + 40) + 40, rows * (height + 60) - 20
        place = {
            key: (
                20 + (total_width - 40) * (2 * i + 1) / (2 * len(keys)) - width / 2,
                20 + level * (height + 60),
            )
            for level, keys in enumerate(by_level)
            for i, key in enumerate(keys)
        }
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_width} {total_height}" role="img" '
            f'aria-label="Lineage of {html.escape(self.key)}" font-family="ui-monospace, monospace" font-size="11.5">'
        ]
        for edge in self.edges:
            (x1, y1), (x2, y2) = place[edge.parent], place[edge.child]
            x1, y1, x2 = x1 + width / 2, y1 + height, x2 + width / 2
            parts.append(f'<path d="M{x1:.0f},{y1:.0f} L{x2:.0f},{y2:.0f}" fill="none" stroke="#556" />')
            parts.append(
                f'<text x="{(x1 + x2) / 2 + 6:.0f}" y="{(y1 + y2) / 2 + 4:.0f}" fill="#334">{edge.role}</text>'
            )
        for key, card in self.cards.items():
            x, y = place[key]
            dash = ' stroke-dasharray="5 4"' if card is None else ""
            fill = "#eef4ff" if key == self.key else "#f7f7f7"
            parts.append(
                f'<rect x="{x:.0f}" y="{y:.0f}" width="{width}" height="{height}" rx="6" fill="{fill}" '
                f'stroke="#556"{dash}/>'
            )
            for i, line in enumerate(box(key, card)):
                weight = ' font-weight="bold"' if i == 0 else ""
                parts.append(
                    f'<text x="{x + 12:.0f}" y="{y + 22 + i * line_height:.0f}" fill="#112"{weight}>'
                    f"{html.escape(line)}</text>"
                )
        return "\n".join([*parts, "</svg>"])

    def plain(self) -> dict[str, Any]:
        """The lineage as plain data."""
        return {
            "key": self.key,
            "nodes": [{"key": key, "here": card is not None} for key, card in self.cards.items()],
            "edges": [{"child": one.child, "parent": one.parent, "role": one.role} for one in self.edges],
        }

    def _levels(self) -> dict[str, int]:
        """Row of each entry in a picture: below all its parents."""
        levels: dict[str, int] = {}
        for key in self.cards:  # parents come first
            levels[key] = max((levels[edge.parent] + 1 for edge in self.edges if edge.child == key), default=0)
        return levels


def alone(card: Card) -> Lineage:
    """The lineage of a card without a zoo at hand: its parents by name only."""
    cards = {**dict.fromkeys(card.parents), card.key: card}
    return Lineage(card.key, cards, tuple(Edge(card.key, name, role) for name, role in roles(card.run).items()))


def trace(zoo: Zoo, key: str) -> Lineage:
    """Follow an entry's parents to the end. A parent whose card cannot be read is as good as not there, with a warning.

    Raises:
        UnknownName: when the entry is not in the zoo.
        ZooError: when its own card cannot be read.
    """

    def card_of(name: str, first: bool) -> Card | None:
        try:
            return zoo.get(name, verify=False).card if first or name in zoo else None
        except ZooError as err:
            if first:
                raise
            warnings.warn(f"nothing is known of an ancestor of {key}: {err}", ZooWarning, stacklevel=2)
            return None

    return follow(key, card_of)


def follow(key: str, card_of: Callable[[str, bool], Card | None]) -> Lineage:
    """Follow an entry's parents to the end, wherever their cards are.

    Args:
        key: the entry.
        card_of: called with a key and whether it is the entry itself; gives its card, None where there is none.

    Raises:
        ZooError: for an entry among its own ancestors.
    """
    cards: dict[str, Card | None] = {}
    edges: list[Edge] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in cards:
            return
        if name in above:
            raise ZooError(f"entry {name} is among its own ancestors: {' -> '.join([*above, name])}")
        card = card_of(name, not above)
        for parent, role in roles(card.run).items() if card else ():
            visit(parent, (*above, name))
            edges.append(Edge(name, parent, role))
        cards[name] = card

    visit(key, ())
    return Lineage(key, cards, tuple(edges))


def roles(run: RunSpec) -> dict[str, str]:
    """Parent -> what it is to the run: what its slot starts from, what it stands on, or both."""
    init, route = spec.canonical_json(run.init), spec.canonical_json(run.route)
    return {
        parent: " and ".join(word for word, text in ((STARTS, init), (STANDS, route)) if f'"{parent}"' in text)
        for parent in run.parents
    }


def licence_of(card: Card) -> licences.Terms:
    """What the licences of an entry's own data and of its backbone ask, its parents aside."""
    row = backbones.BACKBONES.get(card.run.backbone.name)
    said = card.backbone_licence if row is None or row.licence == "unknown" else row.licence
    backbone = licences.read(said) if said else licences.Terms(unknown=(f"backbone {card.run.backbone.name}",))
    return licences.combine([licences.read(card.licence), backbone])


def facts(card: Card) -> list[str]:
    """An entry in a few lines for people: what, how, from which rows, where, how good."""
    run, made = card.run, card.provenance
    recipe = run.recipe
    lines = [f"{run.task} · {_method(run)} · {run.backbone.name} · {_seed(run)}"]
    for place, rows in sorted(card.data.items()):
        used = f"{rows.used:,} of {rows.kept:,}" if rows.used not in (None, rows.kept) else f"{rows.kept:,}"
        dropped = f", {sum(rows.dropped.values()):,} dropped" if rows.dropped else ""
        identity = f" · {rows.identity[:12]}" if rows.identity else ""
        lines.append(f"rows {place}: {used}{dropped} · {rows.source}{identity}")
    if (training := card.training) is not None:
        lines.append(
            f"recipe: learning rate {recipe.learning_rate:g}, batch {recipe.batch_size * recipe.accumulate}, "
            f"{training.steps} steps (best {training.best_step}), {recipe.precision}"
        )
        lines.append(f"dev {training.metric} {training.dev_score:.1f} (chance {training.chance:.1f})")
    if card.known_rows is not None:
        lines.append(f"looked for test rows: {card.known_rows.said()}")
    dirty = " (with changes)" if made.dirty else ""
    verb, licensed = ("imported", "its files") if isinstance(run.init, Imported) else ("made", "its rows")
    lines.append(
        f"{verb} {made.created[:10]} at {(made.commit or 'unknown commit')[:12]}{dirty} on {made.gpu or made.cpu}"
    )
    lines.append(f"licence of {licensed}: {card.licence}")
    lines += [f"note: {line}" for line in card.notes.splitlines() if line.strip()]
    return lines


def box(key: str, card: Card | None) -> list[str]:
    """What stands in an entry's box of a picture."""
    if card is None:
        return [key, "not in this zoo"]
    training = card.training
    rows = sum(one.used if one.used is not None else one.kept for name, one in card.data.items() if "/train/" in name)
    score = f"dev {training.metric} {training.dev_score:.1f}" if training else "not trained"
    made = f"commit {(card.provenance.commit or 'unknown')[:12]}, {card.provenance.gpu or card.provenance.cpu}"
    init = card.run.init
    learnt = f"imported from {init.source}" if isinstance(init, Imported) else f"{rows:,} rows · {score}"
    return [key, f"{card.run.task} · {card.run.method.name} · {_seed(card.run)}", learnt, made]


def _seed(run: RunSpec) -> str:
    """The seed of a run; of what was imported nobody here knows it."""
    return "seed unknown" if isinstance(run.init, Imported) else f"seed {run.seed}"


def _method(run: RunSpec) -> str:
    given = ", ".join(
        f"{name}={value}" for name, value in run.method.settings.items() if value not in (None, False, ())
    )
    return f"{run.method.name} ({given})" if given else run.method.name


def _mermaid(text: str) -> str:
    """Text inside a Mermaid node, whose quotes and markup would end it."""
    return text.translate(str.maketrans('"<>#\n', "'‹›№ "))
