"""The halves of dev rows that a choice is made and checked on."""

from __future__ import annotations

import pytest

from adapters_xling.choosing import _halved
from adapters_xling.errors import DataError
from adapters_xling.tasks.examples import SentenceExample


def rows(**groups: int) -> list[SentenceExample]:
    """So many rows of each group; those of the group `alone` have none."""
    return [
        SentenceExample(id=f"{group}{i}", first="a", second=None, label="x", group="" if group == "alone" else group)
        for group, number in groups.items()
        for i in range(number)
    ]


@pytest.mark.parametrize("small", "abcdefgh")
def test_two_groups_are_two_halves_whichever_comes_first(small: str) -> None:
    halves = _halved(rows(**{"large": 30, small: 10}))
    assert sorted(len(half) for half in halves) == [10, 30]
    assert not {row.group for row in halves[0]} & {row.group for row in halves[1]}


def test_rows_without_a_group_are_halved_evenly_and_one_group_is_refused() -> None:
    assert [len(half) for half in _halved(rows(alone=41))] == [20, 21]
    with pytest.raises(DataError, match="all rows belong to one group"):
        _halved(rows(only=40))
