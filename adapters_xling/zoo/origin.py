"""Where an entry came from: time, commit, versions, hardware, command; never a private path, host or user name."""

from __future__ import annotations

import datetime as dt
import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from adapters_xling.zoo.card import Provenance

PACKAGES = (
    "adapters_xling",
    "accelerate",
    "adapters",
    "datasets",
    "msgspec",
    "numpy",
    "peft",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)
_PACKAGE = Path(__file__).resolve().parents[1]
_GIT_TIMEOUT_S = 5
COMMAND = "XLING_COMMAND"
"""Environment variable with the command that a worker of a cluster works for, whose own says nothing."""
_SECRET = re.compile(r"\b(?:hf|ghp|gho|github_pat|sk|glpat)[_-][A-Za-z0-9_-]{8,}")
_SECRET_OPTION = re.compile(r"(?i)^--?[a-z-]*(?:token|secret|password|api-?key)[a-z-]*$")
_ABSOLUTE = re.compile(r"(?<![\w.:/\\-])(?:~[\w.-]*[/\\]|/(?=\w)|[A-Za-z]:[/\\]|\\\\)[^\s'\",;=]*")


def provenance() -> Provenance:
    """Collect what can be known here without importing torch; the GPU is named when torch is already loaded."""
    commit, dirty, checkout = state_at_start() or (None, None, None)
    if dirty is False and git_state() != (commit, dirty, checkout):
        dirty = True  # what is read now is not what ran
    torch = sys.modules.get("torch")
    gpu: str | None = None
    if torch is not None and torch.cuda.is_available():
        gpu = f"{torch.cuda.get_device_name(0)} x{torch.cuda.device_count()}"
    return Provenance(
        created=stamp(),
        commit=commit,
        dirty=dirty,
        checkout=checkout,
        packages=versions(),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        cpu=cpu_name(),
        gpu=gpu,
        num_threads=torch.get_num_threads() if torch is not None else (os.cpu_count() or 1),
        command=os.environ.get(COMMAND) or command(sys.argv),
    )


def stamp(seconds: float | None = None) -> str:
    """A time in seconds since 1970 as UTC, ISO 8601; now when None."""
    at = dt.datetime.fromtimestamp(time.time() if seconds is None else seconds, dt.timezone.utc)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@functools.cache
def code() -> tuple[str | None, dict[str, str]]:
    """Commit of the code that runs, None where unknown, and installed versions; looked up once. The commit of a
    checkout with changes ends in ``-dirty``."""
    commit, dirty, _ = state_at_start() or (None, None, None)
    return f"{commit}-dirty" if commit and dirty else commit, versions()


def versions() -> dict[str, str]:
    """Installed versions of the packages a result depends on; absent ones are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def command(argv: Sequence[str]) -> str:
    """The command line as one string, with folders cut from absolute paths and tokens blotted out.

    >>> command(["/home/ada/.venv/bin/xling", "train", "--tasks=/home/ada/tasks", "--token", "hf_abcdefghij"])
    'xling train --tasks=…/tasks --token …'
    """
    words = [re.split(r"[/\\]", argv[0])[-1]] if argv and argv[0] else []
    hide = False
    for word in argv[1:]:
        option, equals, value = word.partition("=")
        secret = bool(_SECRET_OPTION.match(option))
        if hide:
            words.append("…")
        elif secret and equals:
            words.append(f"{option}=…")
        else:
            words.append(f"{option}={_argument(value)}" if equals and option.startswith("-") else _argument(word))
        hide = secret and not equals and not hide
    return " ".join(words)


def clean(text: str) -> str:
    """Cut the folders from every absolute path inside a text and blot out access tokens.

    >>> clean("rows of /home/ada/data/xnli/dev.tsv, https://example.org/a stays")
    'rows of …/dev.tsv, https://example.org/a stays'
    """
    text = _SECRET.sub("…", text)
    home = str(Path.home())
    if len(home) > 1:
        text = text.replace(home + os.sep, "~/")
    return _ABSOLUTE.sub(lambda match: "…/" + re.split(r"[/\\]", match[0].rstrip("/\\"))[-1], text)


def _argument(word: str) -> str:
    """One argument: it may hold blanks, so a path is recognised by how the whole argument starts."""
    if re.match(r"(?:~|/|[A-Za-z]:[/\\]|\\\\)", word) or ".." in re.split(r"[/\\]", word):
        return "…/" + re.split(r"[/\\]", word.rstrip("/\\"))[-1]
    return clean(word)


@functools.cache
def state_at_start() -> tuple[str | None, bool, str] | None:
    """`git_state` when it was first asked for in this process, which is before anything trains or is scored: what is
    committed while a run goes on did not make it."""
    return git_state()


def git_state() -> tuple[str | None, bool, str] | None:
    """Commit, dirtiness and kind of the checkout that holds the package, else of that around the working folder.

    A package installed below somebody else's checkout (a virtual environment) is not taken for part of it. None
    outside any checkout, without git, or when git does not answer in time.
    """
    if _git(_PACKAGE, "ls-files", "--error-unmatch", "__init__.py") is not None:
        folder, of, scope = _PACKAGE, "package", ("--untracked-files=normal", "--", ".")
    else:
        folder, of, scope = Path.cwd(), "folder", ("--untracked-files=no", "--", ".")
        if _git(folder, "rev-parse", "--is-inside-work-tree") != "true":
            return None
    status = _git(folder, "status", "--porcelain", *scope)
    if status is None:
        return None
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    return commit or None, bool(status) or not commit, of


def _git(folder: Path, *arguments: str) -> str | None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def cpu_name() -> str:
    """Model name of the processor, or its architecture where the system does not say."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(errors="replace"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine() or "unknown"
