"""What a card says of test rows among the training rows."""

from __future__ import annotations

from typing import Annotated

import msgspec

from adapters_xling.spec import Frozen

NUM_NAMED = 4
"""Most sets that are named where people read."""

Number = Annotated[int, msgspec.Meta(ge=0)]


class KnownRows(Frozen, frozen=True):
    """Rows of test and development sets that stood, as a whole, among the training rows when the entry was made.

    Sets are named ``task/split/language``. What `xling zoo leaks` finds beyond whole rows is not counted here, and
    neither is what parents learnt from: their cards say so themselves.

    Attributes:
        num_rows: training rows that were compared.
        checked: set -> its rows.
        known: set -> how many of them are training rows too; only sets that have any.
        unchecked: sets at hand that were not compared, for want of time or because they could not be read.
    """

    num_rows: Number
    checked: dict[str, Number]
    known: dict[str, Number] = {}
    unchecked: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, number in self.known.items():
            if not 0 < number <= self.checked.get(name, 0):
                raise ValueError(f"known: {number} rows of {name!r}, of which {self.checked.get(name, 0)} were checked")

    def said(self) -> str:
        """What was found, on one line for people."""
        rows = sum(self.checked.values())
        looked = f"{rows:,} rows of {_sets(len(self.checked), 'test or development ')}"
        left = f"; {_sets(len(self.unchecked))} at hand unchecked" if self.unchecked else ""
        if not self.known:
            return f"none of {looked} is among the {self.num_rows:,} training rows{left}"
        most = sorted(self.known.items(), key=lambda item: -item[1])
        named = ", ".join(f"{number:,} of {self.checked[name]:,} in {name}" for name, number in most[:NUM_NAMED])
        if len(most) > NUM_NAMED:
            named += f" and some in {_sets(len(most) - NUM_NAMED, 'more ')}"
        return f"{sum(self.known.values()):,} of {looked} are among the {self.num_rows:,} training rows: {named}{left}"


def _sets(number: int, which: str = "") -> str:
    return f"{number} {which}set" + ("" if number == 1 else "s")
