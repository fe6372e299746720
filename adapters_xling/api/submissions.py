"""The folders a benchmark's server wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .settings import Settings

if TYPE_CHECKING:
    from adapters_xling.submission import Built, Problem, Result


def build_submission(
    sources: Sequence[str],
    out: Path,
    *,
    benchmark: str = "xtreme",
    use: Mapping[str, str] | None = None,
    allow_missing: bool = False,
    force: bool = False,
    settings: Settings | None = None,
) -> Built:
    """Write the folder a benchmark wants from kept predictions; see `submission.build`."""
    from adapters_xling import submission

    settings = settings or Settings()
    return submission.build(
        sources,
        out,
        submission.benchmark.get(benchmark),
        runs_dir=settings.runs_dir,
        use=use,
        data_dir=settings.data_dir,
        extra_tasks=settings.tasks,
        allow_missing=allow_missing,
        force=force,
    )


def submission_labels(
    out: Path,
    *,
    benchmark: str = "xtreme",
    allow_missing: bool = False,
    force: bool = False,
    settings: Settings | None = None,
) -> Built:
    """Write the answers of rows that are at hand as a benchmark's labels folder; see `submission.labels`."""
    from adapters_xling import submission

    settings = settings or Settings()
    return submission.labels(
        out,
        submission.benchmark.get(benchmark),
        data_dir=settings.data_dir,
        extra_tasks=settings.tasks,
        allow_missing=allow_missing,
        force=force,
    )


def check_submission(folder: Path, *, benchmark: str = "xtreme", labels: Path | None = None) -> list[Problem]:
    """Name everything that is missing, unexpected or malformed in a submission folder; see `submission.check`."""
    from adapters_xling import submission

    return submission.check(folder, submission.benchmark.get(benchmark), labels=labels)


def score_submission(
    predictions: Path, labels: Path, *, benchmark: str = "xtreme", allow_missing: bool = False
) -> Result:
    """Score a folder of predictions against a folder of labels as the benchmark does; see `submission.score`."""
    from adapters_xling import submission

    return submission.score(predictions, labels, submission.benchmark.get(benchmark), allow_missing=allow_missing)
