"""The command line, `xling`. Commands are imported when they are used, so that help answers at once."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from adapters_xling import __version__
from adapters_xling.errors import ConfigError, SaidElsewhere, XlingError, unknown

_PACKAGE = str(Path(__file__).parents[1])

# command -> (module, attribute, help); the help stands here too, so that listing it imports nothing
_COMMANDS = {
    "tasks": ("tasks", "tasks", "List the tasks, check them, or make one from your own file."),
    "data": ("data", "data", "Show what data is at hand, pin hub data sets, check real rows."),
    "train": ("train", "train", "Train one task with one method and keep it in the zoo."),
    "adapt": ("adapt", "adapt", "Train an entry further on a few rows of your own, in the target language."),
    "evaluate": ("evaluate", "evaluate", "Score entries on a task in many languages."),
    "choose": ("choose", "choose", "Choose what an entry stands on in each language, on dev rows."),
    "layers": ("layers", "layers", "Score every layer on a retrieval task's dev rows, to choose one."),
    "predict": ("train", "predict", "Predict with an entry: a sentence, or a whole file."),
    "run": ("grid", "run", "Run an experiment (a grid): train what is missing, score, report."),
    "plan": ("plan", "plan", "Say what a grid has, lacks and needs: rows, time, disk, memory."),
    "report": ("grid", "report", "Render the report of a grid from its scores."),
    "compare": ("compare", "compare", "Compare two systems on a task: difference, interval and p, by language."),
    "submission": ("submission", "submission", "Build, check and score what is handed in to XTREME or XTREME-R."),
    "push": ("share", "push", "Publish entries on the model hub, in a folder or in a bucket."),
    "pull": ("share", "pull", "Fetch somebody's entries into your zoo."),
    "import": ("importing", "import_", "Make an entry of an adapter that was made elsewhere."),
    "export": ("export", "export", "Write an entry for plain transformers or ONNX, without need of this package."),
    "zoo": ("zoo", "zoo", "List, find, show, compare, verify and remove trained entries."),
}


class Lazy(click.Group):
    """A group whose commands live in modules that are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of a piece of work."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Import a command.

        Raises:
            click.UsageError: with the closest command.
        """
        if cmd_name not in _COMMANDS:
            raise click.UsageError(str(unknown("command", cmd_name, _COMMANDS, "xling --help")))
        if num_processes() > 1 and cmd_name != "train":
            raise ConfigError(
                f"xling {cmd_name} was started {num_processes()} times at once (accelerate launch, torchrun); only "
                "`xling train` shares its work among such processes. Start the command by itself; `xling run` starts "
                "processes of its own (--workers, --executor)"
            )
        module, attribute, _ = _COMMANDS[cmd_name]
        return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="xling")
def xling() -> None:
    """Train on an English intermediate task, then on an English target task; score it zero-shot in many languages.

    Full fine-tuning, bottleneck adapters and LoRA run side by side; what is trained is kept in a zoo and reused.
    Start with `xling run quickstart`.
    """


def num_processes() -> int:
    """Processes this one was started among, by `accelerate launch`, `torchrun` or alike."""
    return int(os.environ.get("WORLD_SIZE") or 1) if "LOCAL_RANK" in os.environ else 1


def speaks() -> bool:
    """Whether this process prints what all of them would say: the first one of all it was started among."""
    return num_processes() == 1 or os.environ.get("RANK", "0") == "0"


def _say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Print a warning of ours as a note, without the place in the code; those of libraries as Python does."""
    if issubclass(category, UserWarning) and filename.startswith(_PACKAGE):
        click.secho(f"note: {message}", fg="yellow", err=True)
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
        click.echo(text, file=file or sys.stderr, nl=False)


def main(args: list[str] | None = None) -> Any:
    """Run the command line: a user's error is one message and exit code 2, never a traceback."""
    if args is None:  # a process of its own, whose warnings nobody else shows
        warnings.showwarning = _say_warning
    try:
        return xling.main(args=args, standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted; everything that was finished is kept", err=True)
        sys.exit(130)
    except KeyboardInterrupt:
        click.echo("interrupted; everything that was finished is kept", err=True)
        sys.exit(130)
    except click.ClickException as err:
        err.show()
        sys.exit(err.exit_code)
    except SaidElsewhere:
        sys.exit(2)
    except XlingError as err:
        among = "" if speaks() else f"process {os.environ.get('RANK')}: "
        click.echo(f"{among}error: {err}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
