"""A README.md for an entry: the metadata block that the Hugging Face Hub reads, then the card in words.

Fields of the block: https://huggingface.co/docs/hub/model-cards and `huggingface_hub.ModelCardData`. Nothing stands in
it that the card, its ancestors or attested scores do not say; a field with nothing true to say is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from adapters_xling import spec
from adapters_xling.spec import Imported, Score, entries
from adapters_xling.zoo.card import Card
from adapters_xling.zoo.lineage import Lineage, alone, facts

PIPELINES = {
    "sentence": "text-classification",
    "choice": "multiple-choice",
    "tag": "token-classification",
    "span": "question-answering",
    "retrieve": "sentence-similarity",
    "mlm": "fill-mask",
}
"""Form of a task -> the hub's name for it."""


class _Native(NamedTuple):
    """A library that reads an entry's encoder side: the hub's name, the relation to the base model, how to load it."""

    library: str
    relation: str
    snippet: str


_NATIVE = {
    "encoder/adapter_model.safetensors": _Native(
        "peft",
        "adapter",
        "from peft import PeftModel\n"
        "from transformers import AutoModel\n\n"
        'encoder = AutoModel.from_pretrained("{base}", add_pooling_layer=False)\n'
        'encoder = PeftModel.from_pretrained(encoder, "{folder}/encoder")',
    ),
    "encoder/adapter.safetensors": _Native(
        "adapter-transformers",
        "adapter",
        "import adapters\n"
        "from transformers import AutoModel\n\n"
        'encoder = AutoModel.from_pretrained("{base}", add_pooling_layer=False)\n'
        "adapters.init(encoder)\n"
        'name = encoder.load_adapter("{folder}/encoder", use_safetensors=True)\n'
        "encoder.set_active_adapters(name)",
    ),
    "encoder/model.safetensors": _Native(
        "transformers",
        "finetune",
        'from transformers import AutoModel\n\nencoder = AutoModel.from_pretrained("{folder}/encoder")',
    ),
}
"""Native file of an entry -> who reads it; what is unlike these is ours alone."""


def render_readme(
    card: Card,
    *,
    lineage: Lineage | None = None,
    scores: Iterable[Score] = (),
    retrain: str = "",
    start: str = "",
) -> str:
    """Render an entry's README.md.

    Args:
        card: the entry's card.
        lineage: its ancestors; without it parents are named only, and the licences they bring are unknown.
        scores: further scores than the card's (attested ones); a cell given twice takes the later number.
        retrain: command that trains it again, where there is one.
        start: command with which a run starts from it, for an entry without a head; a bare one by default.

    Returns:
        Markdown with a YAML block in front.
    """
    lineage = lineage or alone(card)
    every = list({(s.task, s.split, s.language, s.metric): s for s in (*card.scores, *scores)}.values())
    block = yaml.safe_dump(metadata(card, lineage, every), sort_keys=False, allow_unicode=True, width=1000)
    parts = [
        f"---\n{block}---",
        f"# {card.key}",
        _what(card),
        "## Use\n\n" + _use(card, start),
        "## Scores\n\n" + _scores(card, every),
        "## Training\n\n" + "\n".join(f"- {line}" for line in facts(card)),
        f"## Lineage\n\n```mermaid\n{lineage.mermaid()}\n```",
    ]
    if retrain:
        parts.append(f"Trained again by (the same rows give the same key):\n\n```\n{retrain}\n```")
    parts += ["## Licence\n\n" + "\n".join(f"- {line}" for line in lineage.licence().lines()), _checks(card)]
    return "\n\n".join(parts) + "\n"


def metadata(card: Card, lineage: Lineage, scores: Sequence[Score]) -> dict[str, Any]:
    """The YAML block of a README as data."""
    run, native = card.run, _native(card)
    forms = {head.task: head.kind for head in card.heads.values()}
    kinds = sorted(set(forms.values()))
    codes = {place.rsplit("/", 1)[-1] for place in card.data} | {score.language for score in scores}
    block: dict[str, Any] = {}
    if "/" in run.backbone.repo:
        block["base_model"] = run.backbone.repo
        if native:
            block["base_model_relation"] = native.relation
    if datasets := _datasets([one for one in lineage.cards.values() if one is not None]):
        block["datasets"] = datasets
    if codes:
        block["language"] = sorted(codes)
    block["library_name"] = native.library if native else "adapters_xling"
    block.update(lineage.licence().hub_fields())
    selected_by = [card.training.metric] if card.training and not card.training.tasks else []
    if metrics := list(dict.fromkeys([*(score.metric for score in scores), *selected_by])):
        block["metrics"] = metrics
    if len(kinds) == 1 and kinds[0] in PIPELINES:
        block["pipeline_tag"] = PIPELINES[kinds[0]]
    tags = ["adapters_xling", "cross-lingual", run.method.name, Path(run.backbone.name).name]
    block["tags"] = list(dict.fromkeys([*tags, *(ref.name for ref in run.tasks)]))
    if scores:
        block["model-index"] = [{"name": card.key, "results": _results(scores, forms)}]
    return block


def _results(scores: Sequence[Score], forms: Mapping[str, str]) -> list[dict[str, Any]]:
    """Scores in the form of the hub's model index: one result per task, split and language, with its metrics."""
    only = next(iter(forms.values())) if len(set(forms.values())) == 1 else ""
    cells: dict[tuple[str, str, str], list[Score]] = {}
    for score in sorted(scores, key=lambda one: (one.task, one.split, one.language)):
        cells.setdefault((score.task, score.split, score.language), []).append(score)
    return [
        {
            "task": {"type": PIPELINES.get(forms.get(task, only), "other"), "name": task},
            "dataset": {"name": f"{task} ({language})", "type": task, "config": language, "split": split},
            "metrics": [
                {"type": score.metric, "value": round(score.value, 2), "name": score.metric} for score in found
            ],
        }
        for (task, split, language), found in cells.items()
    ]


def _datasets(cards: Sequence[Card]) -> list[str]:
    """Data sets of the hub that an entry or its ancestors were trained on; rows from files have no name there."""
    sources = [rows.source for card in cards for rows in card.data.values()]
    return sorted({found[1] for source in sources for found in re.finditer(r"\bhub ([\w.-]+/[\w.-]+)@", source)})


def _native(card: Card) -> _Native | None:
    """How its own library loads it: none where it stands on others, which those lines would leave out."""
    if entries(card.run.route):
        return None
    return next((native for name, native in _NATIVE.items() if name in card.files), None)


def _what(card: Card) -> str:
    run = card.run
    tasks, train = ", ".join(f"`{task.name}`" for task in run.tasks), "train"
    if isinstance(run.init, Imported):
        made, train = f"made elsewhere (task: {tasks}) and imported from {run.init.source}", "are its own"
    else:
        made = f"{'trained' if card.training else 'made'} on {tasks}"
    return (
        f"Method `{run.method.name}` on `{run.backbone.name}`, {made} "
        f"by adapters_xling {card.provenance.packages.get('adapters_xling', '')}".rstrip()
        + f". {card.num_trainable:,} of {card.num_parameters:,} parameters {train}; {card.num_bytes:,} bytes."
    )


def _use(card: Card, start: str) -> str:
    run, native = card.run, _native(card)
    base = run.backbone.repo if "/" in run.backbone.repo else f"<folder of {run.backbone.name}>"
    if card.heads:
        ours, command = "With adapters_xling, head included", f"xling predict {card.key} …"
    else:
        ours = "With adapters_xling; it has no head, so a run starts from it, or stands on it (`--stack`)"
        command = f"xling train TASK --method {run.method.name} --backbone {run.backbone.name} --warm {card.key}"
        command = start or command
    checks = "digests, backbone and probe" if card.probe else "digests and backbone (there is no probe)"
    ours += f"; {checks} are checked before anything is computed:\n\n```\n{command}\n```"
    if native is None:
        return ours
    plain = native.snippet.format(base=base, folder="<this folder>")
    return f"{ours}\n\nThe encoder alone, without adapters_xling:\n\n```python\n{plain}\n```"


def _scores(card: Card, scores: Sequence[Score]) -> str:
    lines = []
    if card.training is not None:
        chosen = card.training
        lines.append(
            f"Chosen at step {chosen.best_step} of {chosen.steps} by {chosen.metric} {chosen.dev_score:.1f} on "
            f"development rows (ignoring the input: {chosen.chance:.1f})."
        )
        if not chosen.converged:
            lines.append("**It stayed at chance.**")
    if not scores:
        return "\n\n".join([*lines, f"No {'other ' if lines else ''}scores were recorded."])
    metrics = list(dict.fromkeys(score.metric for score in scores))
    rows = ["| task | split | language | rows | " + " | ".join(metrics) + " | |", "|---" * (5 + len(metrics)) + "|"]
    cells: dict[tuple[str, str, str], dict[str, Score]] = {}
    for score in scores:
        cells.setdefault((score.task, score.split, score.language), {})[score.metric] = score
    for (task, split, language), found in sorted(cells.items()):
        first = next(iter(found.values()))
        values = " | ".join(f"{found[name].value:.1f}" if name in found else "·" for name in metrics)
        shot = "zero-shot" if first.zero_shot else ""
        rows.append(f"| {task} | {split} | {language} | {first.num_examples:,} | {values} | {shot} |")
    return "\n\n".join([*lines, "\n".join(rows)])


def _checks(card: Card) -> str:
    files = "\n".join(f"| {name} | {one.num_bytes:,} | `{one.sha256}` |" for name, one in sorted(card.files.items()))
    return (
        f"## Checks\n\nBackbone tensors `{card.backbone_fingerprint[:16]}…`, backbone files "
        f"`{(card.run.backbone.digest or 'unknown')[:16]}…`, run `{spec.digest(card.run)[:16]}…`.\n\n"
        f"| file | bytes | sha256 |\n|---|---|---|\n{files}"
    )
