"""The verbs of the command line, for Python: `tasks`, `train`, `evaluate`, `evaluate_all`, `layers`, `predict`, `run`,
`report`, `open_zoo`, `push`, `pull`, `import_adapter`, `export`, `build_submission`, `submission_labels`,
`check_submission`, `score_submission`.

Each takes names and paths as a person would type them and gives back data.
"""

from __future__ import annotations

from .adapting import Adapted, adapt
from .advice import advise, judge_advice
from .commands import Retraining, retraining
from .compositions import choose, merge
from .entries import all_scores, attest_scores, attested, entry_licence, entry_readme, kept_scores, leaks
from .grids import estimate, plan, require_rows, run
from .models import compile_use, default_recipe, layers, prefix_use, train
from .predicting import answering, answering_task, predict, predict_requests
from .reports import (
    Joined,
    compare,
    compare_grids,
    encoder_row,
    finished_folder,
    join_scores,
    keep_layers,
    render_report,
    replaced,
    report_folder,
    report_text,
    summary,
    write_report,
)
from .scoring import evaluate, evaluate_all
from .settings import Settings, cores, has_gpu, open_zoo, task, tasks
from .sharing import export, import_adapter, pull, push
from .submissions import build_submission, check_submission, score_submission, submission_labels

__all__ = [
    "Adapted",
    "Joined",
    "Retraining",
    "Settings",
    "adapt",
    "advise",
    "all_scores",
    "answering",
    "answering_task",
    "attest_scores",
    "attested",
    "build_submission",
    "check_submission",
    "choose",
    "compare",
    "compare_grids",
    "compile_use",
    "cores",
    "default_recipe",
    "encoder_row",
    "entry_licence",
    "entry_readme",
    "estimate",
    "evaluate",
    "evaluate_all",
    "export",
    "finished_folder",
    "has_gpu",
    "import_adapter",
    "join_scores",
    "judge_advice",
    "keep_layers",
    "kept_scores",
    "layers",
    "leaks",
    "merge",
    "open_zoo",
    "plan",
    "predict",
    "predict_requests",
    "prefix_use",
    "pull",
    "push",
    "render_report",
    "replaced",
    "report_folder",
    "report_text",
    "require_rows",
    "retraining",
    "run",
    "score_submission",
    "submission_labels",
    "summary",
    "task",
    "tasks",
    "train",
    "write_report",
]
