"""BUCC's files: the pairs that were mined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adapters_xling import metrics
from adapters_xling.metrics import Scores
from adapters_xling.submission.files import Content, Flaw, read_lines
from adapters_xling.submission.kept import Kept

from .base import Format


class Pairs(Format):
    """BUCC: the two ids of a mined pair, the other language's first, with a tab between them. It may hold nothing."""

    name = "pairs"
    scored_with = ("pair_f1",)
    needs_every_row = False
    row = "pair"

    def read(self, path: Path) -> Content:
        """See `Format.read`."""
        rows, flaws, seen = set(), [], set()
        for number, line in enumerate(read_lines(path), 1):
            ids = tuple(line.split("\t"))
            rows.add(ids)
            if len(ids) != 2 or not all(part.strip() for part in ids):
                flaws.append(Flaw(f"{line!r} is not two ids with a tab between them", number))
            elif ids[0].startswith("en-") and not ids[1].startswith("en-"):
                flaws.append(Flaw(f"{line!r} has the English id first; it belongs second", number))
            elif ids in seen:
                flaws.append(Flaw(f"pair {line!r} is given more than once; it counts once", number))
            seen.add(ids)
        return Content(rows, flaws)

    def read_labels(self, path: Path) -> Content:
        """See `Format.read_labels`."""
        found = self.read(path)
        return found if found.rows else Content(found.rows, [Flaw("is empty: no gold pair", fatal=True)])

    def compare(self, golds: set[Any], rows: set[Any]) -> Iterator[Flaw]:
        """See `Format.compare`; any number of pairs may be mined."""
        return iter(())

    def score(self, golds: set[Any], rows: set[Any], language: str) -> Scores:
        """See `Format.score`."""
        return metrics.pair_f1(golds, rows)

    def fill(self, kept: Kept) -> list[tuple[str, str]]:
        """See `Format.fill`: the pairs that score no less than the threshold that is best on the dev split."""
        dev = kept.of_split("dev")
        queries, _ = dev.sentences()
        hits = dict(dev.values)
        golds = [(query.id, query.matches) for query in queries]
        scores, correct, num_gold = metrics.candidates(golds, [hits[query.id] for query in queries])
        threshold, dev_f1 = metrics.best_threshold(scores, correct, num_gold=num_gold)
        kept.notes.append(f"threshold {threshold:.4f} from {dev.path.name} (dev F1 {dev_f1:.1f})")
        pairs = {(query, hit[0]): hit[1] for query, ranking in kept.values for hit in ranking}
        return [pair for pair, score in pairs.items() if score >= threshold]

    def fill_labels(self, golds: Kept) -> list[tuple[str, str]]:
        """See `Format.fill_labels`."""
        return [(query, match) for query, (_, matches) in golds.values for match in matches]

    def write(self, rows: Sequence[tuple[str, str]]) -> str:
        """See `Format.write`."""
        return "".join(f"{source}\t{target}\n" for source, target in rows)

    @property
    def averaged(self) -> tuple[str, ...]:
        """See `Format.averaged`."""
        return ("f1",)
