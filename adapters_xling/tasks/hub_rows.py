"""Rows of data sets on the model hub, through `datasets`, which is imported only here and only when needed.

What `datasets` prepared for a commit is found again by that commit and read without asking the hub. Where it is not
there, the commit's files are fetched and compared with the hub's digests before `datasets` reads them. `datasets` alone
would serve any other revision of its cache when the hub fails, with no more than a log line; that is refused here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_xling import hub_files, languages, paths
from adapters_xling.errors import ConfigError, DataError, MissingData
from adapters_xling.hub_files import NotServed
from adapters_xling.tasks.rows import Raw

CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class Address:
    """One split of one configuration of a hub data set.

    Attributes:
        repo: repository.
        config: configuration; None is the only or default one.
        split: split as the data set calls it, or several joined by ``+``.
        revision: commit; None is whatever the branch is at the moment.
        branch: branch that is looked at where there is no commit; None is the main branch.
    """

    repo: str
    config: str | None
    split: str
    revision: str | None
    branch: str | None = None

    def __str__(self) -> str:
        return f"hub {self.repo}@{self.revision or 'unlocked'} ({self.config or 'default'}, {self.split})"


def prepared(address: Address) -> Path | None:
    """Folder in which `datasets` keeps this data set at this commit, ready to be read; None where there is none.

    Its layout is ``<owner>___<name>/<configuration>/<version>/<commit>``. The commit alone tells the content: a copy of
    the repository under another name has the same rows.
    """
    if address.revision is None:
        return None
    owner = address.repo.split("/")[0] + "___" if "/" in address.repo else ""
    pattern = f"{owner}*/{address.config or '*'}/*/{address.revision}/dataset_info.json"
    found = sorted(file.parent for file in paths.hub_data_cache().glob(pattern))
    one_config = len({folder.parts[-3] for folder in found}) == 1  # of several only the hub knows the default
    return found[0] if one_config else None


def prepared_at_all(address: Address) -> bool:
    """Whether `datasets` keeps this configuration at any commit, which is what it reads without network."""
    owner, _, name = address.repo.rpartition("/")
    folders = paths.hub_data_cache().glob(f"{owner}___*" if owner else "*")
    own = (folder for folder in folders if _plain(folder.name.rpartition("___")[2]) == _plain(name))
    return any(any(folder.glob(f"{address.config or '*'}/*/*/dataset_info.json")) for folder in own)


def _plain(name: str) -> str:
    """A data set's name without what `datasets` changes of it in its folder's: capitals, hyphens, underscores."""
    return name.lower().replace("-", "").replace("_", "")


def prepared_rows(address: Address) -> int | None:
    """Number of rows of a prepared split by its own note, or None."""
    folder = prepared(address)
    if folder is None:
        return None
    try:
        splits = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))["splits"]
        return sum(int(splits[name]["num_examples"]) for name in address.split.split("+"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read(address: Address) -> Iterator[Raw]:
    """Yield the rows of a hub data set as raw rows; class numbers become their names, -1 a blank.

    Raises:
        MissingData: when it cannot be had, with the hub's own reason and the way out.
        DataError: for a class number without a name.
    """
    place = str(address)
    try:
        import datasets  # noqa: F401
    except ImportError as err:
        raise MissingData(f"{place}: package `datasets` cannot be imported ({err}): pip install datasets") from err
    try:
        data = _dataset(address)
    except NotServed as err:
        raise MissingData(f"{place}: {err}. The original files under --data-dir (XLING_DATA) serve as well") from err
    names = {column: _names(feature) for column, feature in data.features.items()}
    for number, row in enumerate(data, start=1):
        yield Raw(place, number, {column: _named(value, names[column], place) for column, value in row.items()})


def _dataset(address: Address) -> Any:
    """The split as a `datasets.Dataset`.

    Raises:
        NotServed: with the reason.
    """
    folder = prepared(address)
    if folder is not None:
        return _opened(folder, address)
    if hub_files.offline():
        return _newest_in_cache(address)
    found = hub_files.listing(address.repo, address.revision or address.branch, kind="dataset")
    at = Address(repo=address.repo, config=address.config, split=address.split, revision=found.commit)
    folder = prepared(at) if address.revision is None else None
    return _opened(folder, at) if folder is not None else _fetched(at, found.files)


def _opened(folder: Path, address: Address) -> Any:
    """Read what `datasets` prepared; asks nobody."""
    from datasets.packaged_modules.cache.cache import Cache

    owned, config, version, commit = folder.parts[-4:]
    try:
        builder = Cache(
            cache_dir=str(folder.parents[3]),
            repo_id=owned.replace("___", "/", 1),
            dataset_name=owned.split("___")[-1],
            config_name=config,
            version=version,
            hash=commit,
        )
        return builder.as_dataset(split=address.split)
    except Exception as err:
        raise NotServed(
            f"what lies in {folder} cannot be read ({type(err).__name__}: {hub_files.first_line(err)}); correct the "
            "split, or remove that folder and read it again"
        ) from err


def _newest_in_cache(address: Address) -> Any:
    """Without network: the configuration as it was read last, unless one commit is wanted."""
    if address.revision is not None:
        raise NotServed(f"not in the cache ({paths.hub_data_cache()}), and HF_HUB_OFFLINE forbids to fetch it")
    import datasets

    try:
        builder = datasets.load_dataset_builder(address.repo, address.config)
        builder.download_and_prepare()
        return builder.as_dataset(split=address.split)
    except Exception as err:
        raise NotServed(f"not in the cache, and HF_HUB_OFFLINE is set ({hub_files.first_line(err)})") from err


def _fetched(address: Address, files: tuple[str, ...]) -> Any:
    """Fetch the files of a configuration, compare them with the hub's digests, then let `datasets` read them."""
    import datasets

    repo, commit = address.repo, str(address.revision)
    if CARD in files:
        hub_files.fetch(repo, CARD, revision=commit, kind="dataset")  # it says which files belong to a configuration
    try:
        builder = datasets.load_dataset_builder(repo, address.config, revision=commit)
    except Exception as err:
        raise NotServed(_unreadable(err, repo, commit)) from err
    if builder.hash != commit:
        raise NotServed(
            f"the hub failed on the way, and `datasets` would read revision {str(builder.hash)[:12]} from its cache "
            f"in place of {commit[:12]}; try again"
        )
    wanted = [url.split(f"@{commit}/", 1)[-1] for urls in (builder.config.data_files or {}).values() for url in urls]
    for file in wanted:
        hub_files.fetch(repo, file, revision=commit, kind="dataset")
    try:
        builder.download_and_prepare()
    except Exception as err:
        raise NotServed(
            f"{hub_files.shown(wanted)} of {repo}@{commit[:12]} came whole but cannot be read as rows: {_deepest(err)}"
        ) from err
    try:
        return builder.as_dataset(split=address.split)
    except Exception as err:
        raise NotServed(f"{hub_files.first_line(err)}; correct `splits` in the task file") from err


def _unreadable(err: Exception, repo: str, commit: str) -> str:
    """Why `datasets` makes nothing of a repository."""
    if "scripts are no longer supported" in str(err):
        return f"{repo} is a loading script, which is never run; name a data set of plain files in the task file"
    if "BuilderConfig" in str(err):
        return f"{hub_files.first_line(err)}; correct `config` in the task file"
    return hub_files.explain(err, repo, commit)


def _deepest(err: BaseException) -> str:
    """What was wrong in the first place: `datasets` wraps it in "an error occurred while generating the dataset"."""
    while err.__cause__ is not None:
        err = err.__cause__
    return f"{type(err).__name__}: {hub_files.first_line(err)}"


def _names(feature: Any) -> list[str] | None:
    """Names behind a column of class numbers, or of lists of them."""
    inner = getattr(feature, "feature", feature)
    if isinstance(feature, list) and feature:
        inner = feature[0]
    return getattr(inner, "names", None)


def _named(value: Any, names: list[str] | None, place: str) -> Any:
    if names is None:
        return value
    if isinstance(value, list):
        return [_named(item, names, place) for item in value]
    if value is None or value == -1:
        return ""
    if not isinstance(value, int):
        return value
    if not 0 <= value < len(names):
        raise DataError(f"{place}: class number {value} is outside the {len(names)} names of the column")
    return names[value]


# --- rows of a table to what a reader of files would give ----------------------------------------------------------


def shaped(raws: Iterator[Raw], reader: str, options: Mapping[str, Any], *, language: str) -> Iterator[Raw]:
    """Apply to rows of a hub table what a reader's options mean for files.

    Args:
        raws: rows by column names.
        reader: ``aligned`` makes two sentences of each row, a query and a sentence to be found, from the columns that
            `columns.query` and `columns.corpus` name; every other reader leaves rows as they are.
        options: ``where`` (column -> value) and ``id_prefix`` pass over rows of something else (another language).
        language: its names fill the placeholders of `languages.fill` in both.

    Raises:
        ConfigError: where `aligned` is not told its two columns.
        DataError: where a column of `where` is not there.
    """
    where = {column: languages.fill(str(value), language) for column, value in options.get("where", {}).items()}
    prefix = languages.fill(str(options.get("id_prefix", "")), language)
    kept = _kept(raws, where, prefix)
    if reader != "aligned":
        return kept
    columns = {side: languages.fill(str(column), language) for side, column in options.get("columns", {}).items()}
    return _both_sides(kept, columns)


def _kept(raws: Iterator[Raw], where: Mapping[str, str], prefix: str) -> Iterator[Raw]:
    for raw in raws:
        for column in where:
            if column not in raw.values:
                found = ", ".join(map(repr, raw.values))
                raise DataError(f"{raw.place}: no column {column!r} (options.where); found {found}")
        if all(str(raw.values[column]) == value for column, value in where.items()) and str(
            raw.values.get("id", "")
        ).startswith(prefix):
            yield raw


def _both_sides(raws: Iterator[Raw], columns: Mapping[str, Any]) -> Iterator[Raw]:
    """Queries, then what they search; row n of one translates row n of the other, as in the reader `aligned`."""
    if not {"query", "corpus"} <= set(columns):
        raise ConfigError("reader 'aligned' of a hub data set wants options.columns.query and options.columns.corpus")
    rows = list(raws)
    for side, mark in (("query", "q"), ("corpus", "c")):
        for number, raw in enumerate(rows, start=1):
            if columns[side] not in raw.values:
                found = ", ".join(map(repr, raw.values))
                raise DataError(f"{raw.place}: no column {columns[side]!r} (options.columns.{side}); found {found}")
            values: dict[str, Any] = {"id": f"{mark}{number}", "text": raw.values[columns[side]], "side": side}
            if side == "query":
                values["matches"] = (f"c{number}",)
            yield Raw(raw.file, raw.row, {**values, "group": str(number)})
