"""The verbs of the command line, for Python: `tasks`, `train`, `evaluate`, `layers`, `predict`, `run`, `report`,
`open_zoo`, `push`, `pull`, `import_adapter`, `export`, `build_submission`, `submission_labels`, `check_submission`,
`score_submission`.

Each takes names and paths as a person would type them and gives back data.
"""

from __future__ import annotations

from .compositions import choose, merge
from .grids import estimate, plan, require_rows, run
from .models import answering, default_recipe, evaluate, layers, predict, predict_requests, train
from .reports import (
    compare,
    compare_grids,
    join_scores,
    keep_layers,
    render_report,
    report_folder,
    report_text,
    summary,
    write_report,
)
from .settings import Settings, cores, has_gpu, open_zoo, task, tasks
from .sharing import export, import_adapter, pull, push
from .submissions import build_submission, check_submission, score_submission, submission_labels

__all__ = [
    "Settings",
    "answering",
    "build_submission",
    "check_submission",
    "choose",
    "compare",
    "compare_grids",
    "cores",
    "default_recipe",
    "estimate",
    "evaluate",
    "export",
    "has_gpu",
    "import_adapter",
    "join_scores",
    "keep_layers",
    "layers",
    "merge",
    "open_zoo",
    "plan",
    "predict",
    "predict_requests",
    "pull",
    "push",
    "render_report",
    "report_folder",
    "report_text",
    "require_rows",
    "run",
    "score_submission",
    "submission_labels",
    "summary",
    "task",
    "tasks",
    "train",
    "write_report",
]
