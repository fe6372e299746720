"""Write a folder of files whole or not at all, and replace only what was written so before."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from adapters_xling.errors import DataError, XlingError
from adapters_xling.paths import atomic_write

from . import checking
from .benchmark import Benchmark
from .files import count

SOURCES = ".sources.json"
"""What the file beside a submission adds to its name: which entries it is made of."""
_SHOWN = 40


def refuse(benchmark: Benchmark, wrong: Sequence[str], *, can_leave_out: bool, hint: str = "") -> None:
    """Raise the error that lists everything that stands in the way, and ends with `hint`.

    Raises:
        DataError: always.
    """
    shown = "".join(f"\n  {line}" for line in wrong[:_SHOWN])
    more = f"\n  … and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    way_out = ". --allow-missing writes what is there" if can_leave_out else ""
    raise DataError(
        f"nothing was written: {benchmark.title} wants {benchmark.num_files} files, and "
        f"{count(len(wrong), 'thing')} stand in the way{way_out}:{shown}{more}" + (f"\n{hint}" if hint else "")
    )


def sources_of(out: Path) -> Path:
    """The file beside a submission that says which entries it is made of."""
    return out.with_name(out.name + SOURCES)


def check_target(out: Path, benchmark: Benchmark, *, force: bool) -> None:
    """Refuse to replace anything, and with `force` anything that is no submission.

    Raises:
        XlingError: naming what is in the way.
    """
    if (beside := sources_of(out)).exists() and not force:
        raise XlingError(f"{beside} exists; choose another --out, or --force to replace it")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise XlingError(f"{out} is a file; choose another --out")
    if not force:
        raise XlingError(f"{out} exists; choose another --out, or --force to replace it")
    known = {part.task for part in benchmark.tasks}
    if strange := sorted(path.name for path in out.iterdir() if path.name not in known):
        raise XlingError(
            f"{out} is not replaced: it holds {strange[0]!r}, which is no task of {benchmark.name}. Remove the folder "
            "yourself, or choose another --out"
        )


def write(texts: Mapping[str, str], out: Path, benchmark: Benchmark, *, labels: bool = False) -> None:
    """Write all files into a folder beside, check them, then give the folder its name.

    Args:
        texts: path below the folder -> text.
        out: the folder; what `check_target` let pass is replaced.
        benchmark: what each file is to hold.
        labels: whether the files hold labels.

    Raises:
        DataError: when a file is not what the benchmark wants.
        XlingError: when the disk refuses.
    """
    partial = out.with_name(f".{out.name}.partial-{uuid.uuid4().hex[:12]}")
    old = out.with_name(f".{out.name}.old-{uuid.uuid4().hex[:12]}")
    try:
        for name, text in texts.items():
            atomic_write(partial / name, text)
        expected = {part.file(code): part.contents for part in benchmark.tasks for code in part.languages}
        bad = [
            f"{name}: {flaw.sentence}"
            for name in texts
            for flaw in checking.read(expected[name], partial / name, labels=labels).flaws
        ]
        if bad:
            refuse(benchmark, bad, can_leave_out=False)
        if out.exists() and any(out.iterdir()):
            out.replace(old)
        partial.replace(out)
    except OSError as err:
        if old.exists() and not out.exists():
            old.replace(out)
        raise XlingError(f"{out} cannot be written: {err.strerror or err}; choose another --out") from err
    finally:
        for rest in (partial, old):
            with contextlib.suppress(OSError):
                shutil.rmtree(rest)
    beside = sources_of(out)
    try:
        beside.unlink(missing_ok=True)  # it speaks of what was there
    except OSError as err:
        raise XlingError(
            f"{out} was written, but {beside}, which speaks of what was there before, cannot be removed "
            f"({err.strerror or err}); remove it"
        ) from err
