"""Options and printing that several commands share."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from adapters_xling import api
from adapters_xling.api import Settings
from adapters_xling.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

_HEAD_BYTES = 2**20
"""Of a file that is to be replaced so much is looked at."""

FOLDER = click.Path(file_okay=False, path_type=Path)


def folders(function: F) -> F:
    """Add the options that say where things are, gathered into one `settings` argument."""
    for option in (
        click.option("--device", default=None, help="cpu or cuda; chosen by itself when left out."),
        click.option("--tasks", "tasks_dir", type=FOLDER, help="Folder of your own task files (XLING_TASKS)."),
        click.option("--data-dir", type=FOLDER, help="Folder of original data files (XLING_DATA)."),
        click.option("--runs", type=FOLDER, help="Folder of everything produced (XLING_RUNS; default ./runs)."),
    ):
        function = option(function)
    return function


checkpoints = click.option(
    "--checkpoint-every",
    metavar="TIME|STEPS",
    help="Between two checkpoints of a run: 10m (the default), 90s, 500steps, or never. A killed run goes on exactly.",
)

prefixes = click.option(
    "--prefix-cache",
    metavar="SIZE|disk|off",
    help="Keep frozen layers' hidden states: 2GiB (of memory), disk, 50GiB,disk:FOLDER, or off (docs/speed.md).",
)

packing = click.option(
    "--attention",
    type=click.Choice(["auto", "packed", "padded"]),
    help="packed leaves padding out of every layer; auto does on a GPU in bfloat16 (docs/speed.md).",
)

compiling = click.option(
    "--compile/--no-compile",
    "compile_passes",
    default=False,
    help="Run the encoder through torch.compile: one graph for all entries of a method (docs/speed.md).",
)


def executors(function: F) -> F:
    """Add the options that say where a grid's runs are computed, and how many at a time."""
    for option in (
        click.option("--ray-address", metavar="HOST:PORT", help="Ray cluster; a Ray of this machine if left out."),
        click.option(
            "--gpus-per-run",
            type=click.FloatRange(0, 1, min_open=True),
            metavar="SHARE",
            help="Part of a GPU each run gets, e.g. 1 or 0.5.",
        ),
        click.option("--executor", metavar="NAME", help="local (this machine, the default) or ray (a cluster)."),
        click.option(
            "--workers", type=click.IntRange(min=0), default=0, help="Runs at a time; one per core if left out."
        ),
    ):
        function = option(function)
    return function


def settings_from(options: dict[str, Any]) -> Settings:
    """Take the folder options out of a command's options."""
    return Settings(
        runs=options.pop("runs", None),
        data=options.pop("data_dir", None),
        tasks=options.pop("tasks_dir", None),
        device=options.pop("device", None),
        workers=options.pop("workers", 0) or 0,
        executor=options.pop("executor", None) or Settings.executor,
        gpus_per_run=options.pop("gpus_per_run", None),
        ray_address=options.pop("ray_address", None),
        checkpoint_every=options.pop("checkpoint_every", None) or Settings.checkpoint_every,
        prefix_cache=options.pop("prefix_cache", None),
        attention=options.pop("attention", None) or Settings.attention,
        compile=options.pop("compile_passes", False),
    )


def say_prefix() -> None:
    """Print what the prefix cache was good for, where it was used."""
    if text := api.prefix_use():
        click.echo(f"  {text}")


def say_compiled(settings: Settings) -> None:
    """Print on standard error what was compiled, where that was asked for."""
    if settings.compile and (text := api.compile_use()):
        click.echo(f"  {text}", err=True)


def reading(function: F) -> F:
    """Add the options that say how retrieval makes and keeps sentence vectors."""
    for option in (
        click.option(
            "--vectors",
            type=click.Choice(["float32", "float16"]),
            default="float32",
            show_default=True,
            help="Retrieval: type of sentence vectors on disk.",
        ),
        click.option("--pooling", help="Retrieval: mean, mean-text (no special tokens) or first, over the configured."),
    ):
        function = option(function)
    return function


class Bars:
    """Progress bars with an estimate of the time left on standard error, one per language and stage.

    Drawn only for a person: nothing is written where standard error is no terminal, or when switched off.
    """

    def __init__(self, *, show: bool) -> None:
        self._show = show and sys.stderr.isatty()
        self._bar: Any = None
        self._name = ""

    def __call__(self, language: str, stage: str, done: int, total: int) -> None:
        """Move the bar of a stage to what is done of it; a new stage starts a new bar."""
        if not self._show:
            return
        from tqdm import tqdm

        if self._name != f"{language} {stage}":
            self.close()
            self._name = f"{language} {stage}"
            # what was there before counts as done, not as done in no time
            self._bar = tqdm(total=total, initial=done, desc=self._name, unit="row", unit_scale=True, leave=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._name = None, ""


def plain_assignments(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Read `name=name` options, such as `--label FILE=HEAD`: both sides are taken as they are written.

    Raises:
        click.BadParameter: when there is no `=`, or nothing on one side of it.

    >>> plain_assignments(["hapana=no", "mini-nli=00123"], "--use")
    {'hapana': 'no', 'mini-nli': '00123'}
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name or not text:
            raise click.BadParameter(f"{pair!r} is not of the form name=name", param_hint=option)
        found[name] = text
    return found


def assignments(pairs: Sequence[str], option: str) -> dict[str, Any]:
    """Read `name=value` options of settings; values are YAML, so 0.1, true and [a, b] mean what they look like.

    Names of columns, labels or entries are read by `plain_assignments`: to YAML ``no`` is a truth value and ``00123`` a
    number.

    Raises:
        click.BadParameter: when there is no `=`.
    """
    import yaml

    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise click.BadParameter(f"{pair!r} is not of the form name=value", param_hint=option)
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as err:
            raise click.BadParameter(f"{pair!r}: {text!r} is not a value", param_hint=option) from err
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = float(value)  # YAML 1.1 reads 1e-4 as a string
        found[name] = value
    return found


def listed(name: str, **how: Any) -> Callable[[F], F]:
    """An option that takes several with commas between them, or is given several times, or both; `parts` reads it.

    Args:
        name: such as ``--languages``.
        how: as `click.option` takes it.
    """

    def together(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> str | None:
        return ",".join(values) if values else None

    return click.option(name, multiple=True, callback=together, **how)


def parts(value: str | None, option: str) -> list[str]:
    """What stands between the commas of an option, each once; none where it was left out.

    Raises:
        ConfigError: for an option that is given and empty: an unset variable of a script must not mean everything.

    >>> parts("lora, full, lora", "--methods"), parts(None, "--methods")
    (['lora', 'full'], [])
    """
    if value is None:
        return []
    found = list(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    if not found:
        raise ConfigError(f"{option} is empty: name one or more, with commas between them, or leave it out for all")
    return found


def require_output(output: Path | None, begins: str, *inputs: Path | None) -> None:
    """Refuse a file to write that would take another one's place: what the command reads, or what it did not write.

    To be called before anything is computed.

    Args:
        output: the file; None for standard output.
        begins: pattern of how all that the command writes begins; a file of that form is replaced, an empty one too.
        inputs: files the command reads.

    Raises:
        ConfigError: naming the file and the way out.
    """
    if output is not None and (output.is_dir() or not output.name):
        raise ConfigError(f"--output {str(output)!r}: is a folder; name a file in it, or leave it out")
    if output is None or not output.is_file():
        return
    for source in inputs:
        if source is not None and source.exists() and output.samefile(source):
            raise ConfigError(f"--output {output}: is the very file that is read ({source}); name another file")
    try:
        with output.open("rb") as stream:
            head = stream.read(_HEAD_BYTES).decode("utf-8", errors="replace")
    except OSError as err:
        raise ConfigError(f"--output {output}: cannot be read: {err.strerror or err}; name another file") from err
    if head and not re.match(begins, head):
        raise ConfigError(
            f"--output {output}: is there already, and holds something else than this command writes; name another "
            "file, or remove that one first"
        )


def print_json(data: Any) -> None:
    """Print data as JSON, for programs."""
    click.echo(json.dumps(data, ensure_ascii=False, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print an aligned table; numbers to the right, wide cells cut to the terminal by nobody."""
    cells = [[_text(value) for value in row] for row in rows]
    widths = [max(len(column), *(len(row[i]) for row in cells), 0) for i, column in enumerate(columns)]
    right = [
        bool(rows) and all(isinstance(row[i], (int, float)) or row[i] is None for row in rows)
        for i in range(len(columns))
    ]

    def line(values: Sequence[str]) -> str:
        parts = [v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True)]
        return "  ".join(parts).rstrip()

    click.echo(click.style(line(columns), bold=True))
    for row in cells:
        click.echo(line(row))


def _text(value: Any) -> str:
    if value is None:
        return "·"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def size(num_bytes: int) -> str:
    """A size in the unit a person would use.

    >>> size(512), size(3_600_000)
    ('512 B', '3.6 MB')
    """
    value, unit = float(num_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """A duration in hours, minutes and seconds as far as each matters.

    >>> duration(42.3), duration(400), duration(7300)
    ('42 s', '6 min 40 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
