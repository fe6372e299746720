"""How many graphs `torch.compile` makes of several entries, and whether compiled passes pay.

    python scripts/bench/graphs.py                                 # graphs of 12 entries, ours and the libraries'
    python scripts/bench/graphs.py --passes 2x64,6x384 --clock cpu # seconds of a batch, and what compiling takes once

Graphs are counted without generating code, which takes no other number of them. The libraries' encoders are compiled as
their users would, `torch.compile(model)`, and switched with `set_active_adapters` and `set_adapter`; our own passes are
those of `--compile`. Weights are random; both must compute the same.

Passes are timed in rounds in turn, on batches of several widths, after one of each that does not count. `--clock cpu`
counts computing time, of the C++ compiler's processes too, for a machine that has other work.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import switching
import torch
from common import alternate

from adapters_xling.methods import resolve
from adapters_xling.methods.slots import family_of, slot_name
from adapters_xling.model import compiled
from adapters_xling.spec import Slot, Use

LAYERS, HIDDEN = 2, 64
METHODS = ("bottleneck", "lora")


def shape(layers: int, hidden: int) -> argparse.Namespace:
    """Of an encoder, as switching.py has it."""
    return argparse.Namespace(layers=layers, hidden=hidden, vocabulary=100)


def ours(name: str, count: int, *, layers: int = LAYERS, hidden: int = HIDDEN) -> tuple[Any, Any]:
    """A method, and an encoder with so many entries in it."""
    method, encoder = resolve(name), switching.encoder_of(shape(layers, hidden))
    for number in range(count):
        method.attach(encoder, slot_name(number), None, Slot())
        switching.fill(encoder, slot_name(number))
    return method, encoder.eval().requires_grad_(False)


def theirs(name: str, encoder: Any, count: int) -> tuple[Any, Callable[[str], Any]]:
    """The library's own model with the same weights, and its way of switching."""
    plain: Any = switching.encoder_of(shape(LAYERS, HIDDEN))
    if name == "bottleneck":
        import adapters

        adapters.init(plain)
        for number in range(count):
            plain.add_adapter(slot_name(number), config=encoder.adapters_config.get(slot_name(number)))
        model, switch = plain, plain.set_active_adapters
    else:
        from peft import get_peft_model

        model = get_peft_model(plain, encoder.peft_config[slot_name(0)], adapter_name=slot_name(0))
        for number in range(1, count):
            model.add_adapter(slot_name(number), encoder.peft_config[slot_name(number)])
        switch = model.set_adapter
    own = dict(encoder.named_parameters())
    for parameter_name, parameter in plain.named_parameters():
        if parameter_name in own:
            parameter.data.copy_(own[parameter_name].data)
    return model.eval(), switch


@torch.no_grad()
def count(name: str, entries: int) -> dict[str, Any]:
    """Graphs that entries switched in turn take, ours and the library's."""
    from torch._dynamo.testing import CompileCounterWithBackend

    method, encoder = ours(name, entries)
    model, switch = theirs(name, encoder, entries)
    ids = torch.arange(4, 20).reshape(2, 8)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    backend, compiled.BACKEND = compiled.BACKEND, "eager"
    try:
        before = compiled.num_graphs()
        passes = compiled.Compiled(encoder, family_of(encoder), method)
        mine = [passes(inputs, Use(entry=slot_name(i)), start=0, hidden=None, stop=LAYERS) for i in range(entries)]
        own = compiled.num_graphs() - before
    finally:
        compiled.BACKEND = backend
    worst, library, stopped = 0.0, 0, 0
    for raised in (False, True):
        torch._dynamo.reset()
        counter = CompileCounterWithBackend("eager")
        function = torch.compile(model, backend=counter)
        limits = {"recompile_limit": 1000, "accumulated_recompile_limit": 10000} if raised else {}
        with torch._dynamo.config.patch(limits):
            for number, wanted in enumerate(mine):
                seen = counter.frame_count
                switch(slot_name(number))
                worst = max(worst, (function(**inputs).last_hidden_state - wanted).abs().max().item())
                stopped += not raised and counter.frame_count > seen
        library = counter.frame_count
    torch._dynamo.reset()
    return {
        "method": name,
        "entries": entries,
        "ours": own,
        "theirs": library,
        "library_compiled_at_the_usual_limit": stopped,
        "max_difference": worst,
    }


def clock(name: str) -> float:
    """Seconds on the wall, or computed by this process and those it waited for."""
    if name == "wall":
        return time.perf_counter()
    return time.process_time() + sum(os.times()[2:4])


@torch.no_grad()
def passes(name: str, args: argparse.Namespace, *, layers: int, hidden: int) -> dict[str, Any]:
    """Seconds of a batch, compiled and not, and of compiling."""
    method, encoder = ours(name, 2, layers=layers, hidden=hidden)
    quick = compiled.Compiled(encoder, family_of(encoder), method)
    turns = itertools.cycle(range(2))
    batches = []
    for width in (24, 32, 48, 64):
        draw, rows = torch.Generator().manual_seed(width), args.tokens // width
        ids = torch.randint(4, 100, (rows, width), generator=draw)
        lengths = torch.randint(width * 3 // 4, width + 1, (rows, 1), generator=draw)
        mask = torch.arange(width)[None] < lengths
        batches.append({"input_ids": ids.masked_fill(~mask, 1), "attention_mask": mask.long()})

    def plain(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        method.activate(encoder, Use(entry=slot_name(next(turns))))
        return encoder(**batch).last_hidden_state

    def graph(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return quick(batch, Use(entry=slot_name(next(turns))), start=0, hidden=None, stop=layers)

    def seconds(run: Callable[[dict[str, torch.Tensor]], torch.Tensor]) -> float:
        began = clock(args.clock)
        for batch in batches:
            run(batch)
        return (clock(args.clock) - began) / len(batches)

    began = clock(args.clock)
    first = graph(batches[0])
    once = clock(args.clock) - began
    next(turns)  # the same entry again
    differences = (first - plain(batches[0]))[batches[0]["attention_mask"].bool()]
    worst = differences.abs().max().item()
    if not worst <= switching.AGREE:
        raise SystemExit(f"{name}: compiled and uncompiled passes differ by {worst:.3g}")
    found = alternate({"compiled": lambda: seconds(graph), "plain": lambda: seconds(plain)}, args.rounds + 1)
    rounds = {side: [round(value, 5) for value in each[1:]] for side, each in found.items()}
    medians = {side: statistics.median(each) for side, each in rounds.items()}
    return {
        "method": name,
        "encoder": f"{layers} × {hidden}",
        "tokens": args.tokens,
        "compiled_s": medians["compiled"],
        "plain_s": medians["plain"],
        "ratio": round(medians["plain"] / medians["compiled"], 3),
        "compiling_s": round(once, 1),
        "rounds": rounds,
        "max_difference": worst,
        "clock": args.clock,
    }


def main() -> None:
    """Print a line of JSON per figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--entries", type=int, default=12)
    parser.add_argument("--passes", help="encoders to time passes of instead, as LAYERSxHIDDEN,…")
    parser.add_argument("--tokens", type=int, default=2048, help="of a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.methods.split(","):
        if args.passes is None:
            print(json.dumps(count(name, args.entries)), flush=True)
            continue
        for one in args.passes.split(","):
            layers, hidden = map(int, one.split("x"))
            print(json.dumps(passes(name, args, layers=layers, hidden=hidden)), flush=True)


if __name__ == "__main__":
    main()
