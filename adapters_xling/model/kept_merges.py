"""A merge kept as an entry of its own: a run without training."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from adapters_xling.errors import ConfigError
from adapters_xling.methods import resolve
from adapters_xling.methods.slots import slot_name
from adapters_xling.spec import Merge, RunSpec, describe, key
from adapters_xling.zoo import Entry, Facts, Probe, Zoo

from .backbone import one_at_a_time
from .building import Resident, load_for
from .core import Model, task_of_head
from .merges import merged_heads, merged_method
from .saving import probe_of, save_weights


def merge_run(merge: Merge, *, zoo: Zoo) -> RunSpec:
    """The run that a merge kept as an entry is.

    Raises:
        ConfigError: for entries that cannot be merged so.
        UnknownName: for an entry that is not in the zoo.
    """
    found = [zoo.get(name) for name in merge.entries]
    first = found[0].card.run
    for entry in found:
        if entry.card.run.backbone != first.backbone:
            raise ConfigError(
                f"{describe(merge)}: {found[0].key} is of backbone {first.backbone.name!r}, {entry.key} of "
                f"{entry.card.run.backbone.name!r}; only entries of one backbone can be merged"
            )
    refs = {ref: None for entry in found for ref in entry.card.run.tasks}
    tasks = sorted(refs, key=lambda ref: (ref.name, ref.digest))
    return RunSpec(
        backbone=first.backbone,
        tasks=tuple(tasks),
        method=merged_method(merge, found).spec(),
        recipe=first.recipe,
        init=merge,
        route=first.route,
        made_by="merging",
    )


@one_at_a_time
def keep_merge(merge: Merge, *, zoo: Zoo, backbone: Path | None = None) -> Entry:
    """Merge entries and keep the result as an entry; one that exists already is returned as it is.

    Args:
        merge: of entries of one method on one backbone.
        zoo: where they are and the result goes.
        backbone: folder of their backbone, when it cannot be found by itself.

    Raises:
        ConfigError: for entries that cannot be merged so.
        ZooError: when one is not what its card says.
    """
    run = merge_run(merge, zoo=zoo)
    if key(run) in zoo:
        return zoo.get(key(run))
    found = [zoo.get(name) for name in merge.entries]
    loaded = load_for(run, zoo=zoo, who=describe(merge), backbone=backbone)
    method = resolve(run.method)
    model = Model(loaded, method, pooling=run.recipe.pooling)
    resident = Resident(loaded, method, zoo)
    with contextlib.ExitStack() as stack:
        folder, _, computed = resident.merge(merge, stack)
        method.attach(model.encoder, slot_name(0), folder, resident.expand(run.route))
    cards, tensors, heads_are = merged_heads(merge, found)
    model.add_heads(cards, tensors)
    model.requires_grad_(False).eval()
    with zoo.writing(run) as draft:
        facts = save_weights(model, run, draft.folder)
        draft.finish(
            Facts(
                **facts,
                training=None,
                probe=_probe(model, found),
                licence="; ".join(dict.fromkeys(entry.card.licence for entry in found)),
                notes=f"{computed}; {heads_are}",
            )
        )
    assert draft.entry is not None
    return draft.entry


def _probe(model: Model, found: Sequence[Entry]) -> Probe | None:
    """What the merge answers to the inputs of the first probe whose head it has."""
    for entry in found:
        expected = entry.card.probe
        for name, card in model.head_cards.items():
            if expected is not None and card.task == expected.task:
                return probe_of(model, task_of_head(name, card), expected.inputs)
    return None
