"""Tables: tab-separated, comma-separated, JSON lines, JSON arrays.

Tab-separated files are split at tabs and nothing else: the authors of these data sets write quotes as plain characters,
and a csv reader's default quoting merges hundreds of rows (49,401 PAWS-X rows become 49,175). XTREME's own script
writes such rows again with a csv writer, which puts a text with quotes between quotes and doubles those inside;
`unquote` reads them as they were.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xling.errors import ConfigError, DataError
from adapters_xling.languages import fill
from adapters_xling.strict import unique_keys
from adapters_xling.tasks.rows import Raw, in_turn

from . import lines, reader, text

_FORMATS = {".tsv": "tsv", ".txt": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
_SEPARATORS = {
    "\t": ("tabs", "name the file .tsv"),
    ",": ("commas", "name the file .csv"),
    ";": ("semicolons", "write it with commas, or with tabs as a .tsv file"),
    "|": ("bars", "write it with commas (.csv) or tabs (.tsv)"),
}
_QUOTED = re.compile(r'"(?=.*"".)(?:[^"]|"")*"', re.DOTALL)
_MAX_CELL = 2**31 - 1
"""Characters of a CSV cell: the most that a C long holds everywhere; without it the csv module stops at 131,072."""


@reader("table", options=("format", "header", "at", "where", "withheld", "interleave", "unquote", "unnest"))
def read(files: Sequence[Path], *, options: Mapping[str, Any], language: str) -> Iterator[Raw]:
    """Read tables whose rows are columns by name.

    Options:
        format: tsv, csv, jsonl or json; by default from the file's suffix (``.txt`` is tab-separated).
        header: names of the columns of a tsv or csv file that has no header line.
        at: keys under which a JSON file keeps its lists of rows, read one after the other.
        where: column -> value; other rows belong to something else (another language) and are passed over.
        withheld: last column of a tsv file's header that files without answers do not have (XTREME's test files).
        interleave: take the rows of several files (of a hub data set: of joined splits) in turn, so that the first so
            many rows hold some of each.
        unquote: take cells of a tsv file that a csv writer put between quotes, doubling those inside, out of them.
        unnest: columns of a JSON row that may hold an object, whose fields then stand as columns in its place.
    """
    if options.get("interleave"):
        alone = {name: value for name, value in options.items() if name != "interleave"}
        yield from in_turn([read([file], options=alone, language=language) for file in files])
        return
    where = {column: fill(str(value), language) for column, value in options.get("where", {}).items()}
    for file in files:
        name = options.get("format") or _FORMATS.get(file.suffix.lower())
        if name not in _READ:
            raise ConfigError(
                f"{file}: options.format is {name!r}; valid: {', '.join(_READ)}; by default it is told from the suffix "
                f"({', '.join(_FORMATS)}). A file of one word per line (CoNLL) is for reader 'conll', kind tag"
            )
        for raw in _READ[name](file, options):
            if raw.reject is None:
                absent = [column for column in where if column not in raw.values]
                if absent:
                    found = ", ".join(map(repr, raw.values))
                    raise DataError(f"{raw.place}: no column {absent[0]!r} (options.where); found {found}")
                if any(str(raw.values[column]) != value for column, value in where.items()):
                    continue
            yield raw


def other_separator(file: Path, name: str | None = None) -> str:
    """What to do about a tsv or csv file whose first line seems to be parted by something else; empty where it is not.

    Args:
        file: the file.
        name: its format; by default from the suffix.
    """
    own = {"tsv": "\t", "csv": ","}.get(name or _FORMATS.get(file.suffix.lower(), ""))
    first = next((line for _, line in lines(file)), "")
    found = max(_SEPARATORS, key=first.count)
    if own is None or own in first or found not in first:
        return ""
    what, remedy = _SEPARATORS[found]
    return f" Its first line holds {what} and no {_SEPARATORS[own][0]}: if they separate its columns, {remedy}"


def _names(file: Path, cells: list[str]) -> list[str]:
    """Names of columns in a header line; only blank ones may be there twice, which nobody can ask for.

    Raises:
        DataError: for any other: one alone of these columns would be read.
    """
    for name, count in Counter(cells).items():
        if count > 1 and name.strip():
            raise DataError(
                f"{file}: column {name!r} stands there {'twice' if count == 2 else f'{count} times'}, and only one of "
                "them would be read. Rename the others in the header line, its first; if the file has none, name its "
                "columns under options.header of the task's source"
            )
    return cells


def _row(file: Path, number: int, header: Sequence[str], cells: Sequence[str]) -> Raw:
    """One row by column names. Cells beyond the header, or too few of them, show that the row was torn."""
    if len(cells) != len(header):
        return Raw(str(file), number, {}, f"{len(cells)} columns instead of {len(header)}")
    return Raw(str(file), number, dict(zip(header, cells, strict=True)))


def _tsv(file: Path, options: Mapping[str, Any]) -> Iterator[Raw]:
    header: list[str] = list(options.get("header", ()))
    for number, line in lines(file):
        cells = line.split("\t")
        if not header:
            header = _names(file, cells)
        elif line:
            if len(cells) == len(header) - 1 and header[-1] == options.get("withheld"):
                cells.append("")
            if options.get("unquote"):
                cells = [_unquoted(cell) for cell in cells]
            yield _row(file, number, header, cells)


def _unquoted(cell: str) -> str:
    """A cell as it was before a csv writer quoted it, which it does at tabs, which are gone here, and at quotes.

    >>> _unquoted('"say ""yes"" to me"'), _unquoted('"plain quotes"'), _unquoted('a ""b"" c')
    ('say "yes" to me', '"plain quotes"', 'a ""b"" c')
    """
    return cell[1:-1].replace('""', '"') if _QUOTED.fullmatch(cell) else cell


def _csv(file: Path, options: Mapping[str, Any]) -> Iterator[Raw]:
    header: list[str] = list(options.get("header", ()))
    csv.field_size_limit(_MAX_CELL)
    rows = csv.reader((line + "\n" for _, line in lines(file)), strict=True)
    try:
        for cells in rows:
            if not header:
                header = _names(file, cells)
            elif cells:
                yield _row(file, rows.line_num, header, cells)
    except csv.Error as err:
        hint = other_separator(file, "csv")
        raise DataError(f"{file}: row ending at line {rows.line_num} is not valid CSV: {err}.{hint}") from err


def _no_number(name: str) -> None:
    """What pandas writes for a cell without a value (``NaN``) is none, as ``null`` is, and not the text "nan"."""


def _jsonl(file: Path, options: Mapping[str, Any]) -> Iterator[Raw]:
    for number, line in lines(file):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=unique_keys, parse_constant=_no_number)
        except json.JSONDecodeError as err:
            raise DataError(f"{file}: line {number} is not valid JSON: {err.msg} at column {err.colno}") from err
        except (ValueError, RecursionError) as err:  # a key twice, thousands of digits or brackets
            raise DataError(f"{file}: line {number} is not JSON that can be read: {err}") from err
        if not isinstance(row, dict):
            raise DataError(f"{file}: line {number} is not a JSON object with named columns")
        yield Raw(str(file), number, _unnested(row, options))


def parse(file: Path) -> Any:
    """Parse a whole JSON file.

    Raises:
        DataError: with line and column where it is not valid JSON; for a key that an object has twice.
    """
    try:
        return json.loads(text(file), object_pairs_hook=unique_keys, parse_constant=_no_number)
    except json.JSONDecodeError as err:
        raise DataError(f"{file}: line {err.lineno} is not valid JSON: {err.msg} at column {err.colno}") from err
    except (ValueError, RecursionError) as err:
        raise DataError(f"{file}: is not JSON that can be read: {err}") from err


def _json(file: Path, options: Mapping[str, Any]) -> Iterator[Raw]:
    data = parse(file)
    keys = options.get("at", ())
    if keys and not isinstance(data, dict):
        raise DataError(f"{file}: options.at names {', '.join(map(repr, keys))}, but the file is not a JSON object")
    absent = [key for key in keys if key not in data]
    if absent:
        raise DataError(f"{file}: no key {absent[0]!r} (options.at); found {', '.join(map(repr, data))}")
    number = 0
    for rows in [data[key] for key in keys] or [data]:
        if not isinstance(rows, list):
            raise DataError(f"{file}: holds no list of rows; name the key that does under options.at")
        for row in rows:
            number += 1
            if not isinstance(row, dict):
                raise DataError(f"{file}: row {number} is not a JSON object with named columns")
            yield Raw(str(file), number, _unnested(row, options))


def _unnested(row: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    for column in options.get("unnest", ()):
        if isinstance(row.get(column), dict):
            row = {**{name: value for name, value in row.items() if name != column}, **row[column]}
    return row


_READ = {"tsv": _tsv, "csv": _csv, "jsonl": _jsonl, "json": _json}
