"""How long it takes to switch between resident entries, beside the two libraries' own ways, and what residents cost.

    PYTHONPATH=. python scripts/bench/switching.py                      # XLM-R base's shape, 2 to 100 residents
    PYTHONPATH=. python scripts/bench/switching.py --residents 2,10 --rows 8

Weights are random; the encoder has XLM-R base's shape. Each figure is the median of `--rounds` rounds of `--switches`
switches between all residents in turn, after one round that does not count. Before anything is timed, the outputs after
a switch of either way must agree.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from adapters_xling.methods import resolve
from adapters_xling.methods.slots import slot_name
from adapters_xling.spec import Base, Slot, Use

AGREE = 1e-5


def encoder_of(args: argparse.Namespace) -> Any:
    """A random encoder of the shape asked for."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=args.vocabulary,
        hidden_size=args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // 64,
        intermediate_size=4 * args.hidden,
        max_position_embeddings=514,
        type_vocab_size=1,
    )
    return XLMRobertaModel(config, add_pooling_layer=False).eval().requires_grad_(False)


def fill(encoder: Any, slot: str) -> None:
    """Random weights for a resident, different for each: a fresh LoRA would do nothing."""
    generator = torch.Generator().manual_seed(int(slot[1:4]))
    for name, parameter in encoder.named_parameters():
        if slot in name.split("."):
            parameter.data.normal_(0.0, 0.02, generator=generator)


@torch.no_grad()
def output(encoder: Any) -> torch.Tensor:
    """Last hidden state of a few tokens."""
    ids = torch.arange(4, 20).reshape(2, 8)
    return encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state


def milliseconds(switch: Callable[[int], Any], count: int, *, rounds: int, switches: int) -> list[float]:
    """Milliseconds a switch, one figure per round."""
    found = []
    for number in range(rounds + 1):
        started = time.perf_counter()
        for i in range(switches):
            switch(i % count)
        if number:
            found.append((time.perf_counter() - started) / switches * 1000)
    return found


def own_megabytes(encoder: Any) -> float:
    """Megabytes of all slots in an encoder."""
    from adapters_xling.methods.slots import has_slot

    return sum(p.numel() * p.element_size() for name, p in encoder.named_parameters() if has_slot(name)) / 1e6


def bottleneck(args: argparse.Namespace, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Bottleneck entries: ours against `set_active_adapters`, in the same encoder."""
    method, encoder, rows, have = resolve("bottleneck"), encoder_of(args), [], 0
    for count in counts:
        while have < count:
            method.attach(encoder, slot_name(have), None, Slot())
            fill(encoder, slot_name(have))
            have += 1
        encoder.eval().requires_grad_(False)
        worst = 0.0
        for i in (0, count - 1):
            method.activate(encoder, Use(entry=slot_name(i)))
            ours = output(encoder)
            encoder.set_active_adapters(slot_name(i))
            worst = max(worst, (ours - output(encoder)).abs().max().item())
        encoder.set_active_adapters(None)
        row = figures(
            args,
            "bottleneck",
            count,
            worst,
            own_megabytes(encoder),
            lambda i: method.activate(encoder, Use(entry=slot_name(i))),
            lambda i: encoder.set_active_adapters(slot_name(i)),
        )
        contexts = milliseconds(_enter_context, count, rounds=args.rounds, switches=args.switches)
        rows.append({**row, "adapter_setup_ms": round(statistics.median(contexts), 5)})
        print(json.dumps({"residents": count, "adapter_setup_ms": rows[-1]["adapter_setup_ms"]}), flush=True)
    if args.rows:
        rows.append(mixed(args, "bottleneck", method, encoder, have))
    return rows


def lora(args: argparse.Namespace, counts: Sequence[int]) -> list[dict[str, Any]]:
    """LoRA entries: ours against peft's `set_adapter` on a model that peft wrapped itself, with the same weights."""
    from peft import LoraConfig, get_peft_model

    method, encoder, plain = resolve("lora"), encoder_of(args), encoder_of(args)
    config = LoraConfig(task_type="FEATURE_EXTRACTION", r=8, lora_alpha=16, target_modules=["query", "value"])
    wrapped: Any = None
    rows, have = [], 0
    for count in counts:
        while have < count:
            slot = slot_name(have)
            method.attach(encoder, slot, None, Slot())
            fill(encoder, slot)
            if wrapped is None:
                wrapped = get_peft_model(plain, config, adapter_name=slot)
            else:
                wrapped.add_adapter(slot, config)
            theirs = dict(wrapped.get_base_model().named_parameters())
            for name, value in encoder.named_parameters():
                if slot in name.split("."):
                    theirs[name].data.copy_(value.data)
            have += 1
        encoder.eval().requires_grad_(False)
        wrapped.eval()
        worst = 0.0
        for i in (0, count - 1):
            method.activate(encoder, Use(entry=slot_name(i)))
            wrapped.set_adapter(slot_name(i))
            worst = max(worst, (output(encoder) - output(wrapped)).abs().max().item())
        rows.append(
            figures(
                args,
                "lora",
                count,
                worst,
                own_megabytes(encoder),
                lambda i: method.activate(encoder, Use(entry=slot_name(i))),
                functools.partial(_switch_peft, wrapped),
            )
        )
    if args.rows:
        rows.append(mixed(args, "lora", method, encoder, have))
    return rows


def _enter_context(i: int) -> None:
    """The library's other way, for the passes inside a `with` block: quick too, but nothing is checked."""
    from adapters import AdapterSetup

    with AdapterSetup(slot_name(i)):
        pass


def _switch_peft(wrapped: Any, i: int) -> None:
    wrapped.set_adapter(slot_name(i))


def figures(
    args: argparse.Namespace,
    method: str,
    count: int,
    worst: float,
    megabytes: float,
    ours: Callable[[int], Any],
    theirs: Callable[[int], Any],
) -> dict[str, Any]:
    """One row of the table; refused when both ways do not compute the same."""
    if not worst <= AGREE:
        raise SystemExit(f"{method}, {count} residents: outputs differ by {worst:.3g} between both ways of switching")
    own = milliseconds(ours, count, rounds=args.rounds, switches=args.switches)
    other = milliseconds(theirs, count, rounds=args.rounds, switches=max(count, args.switches // 20))
    row = {
        "method": method,
        "residents": count,
        "ours_ms": round(statistics.median(own), 5),
        "library_ms": round(statistics.median(other), 4),
        "ratio": round(statistics.median(other) / statistics.median(own), 1),
        "ours_ms_each": [round(value, 5) for value in own],
        "library_ms_each": [round(value, 4) for value in other],
        "max_difference": worst,
        "slots_mb": round(megabytes, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(row), flush=True)
    return row


@torch.no_grad()
def mixed(args: argparse.Namespace, name: str, method: Any, encoder: Any, have: int) -> dict[str, Any]:
    """One pass over rows of as many entries, against a pass for each."""
    rows, length = min(args.rows, have), args.length
    ids = torch.randint(4, args.vocabulary, (rows, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    routes = [(slice(i, i + 1), Use(entry=slot_name(i))) for i in range(rows)]

    def together() -> torch.Tensor:
        method.activate(encoder, Base(), routes)
        return encoder(input_ids=ids, attention_mask=mask).last_hidden_state

    def apart() -> torch.Tensor:
        found = []
        for part, route in routes:
            method.activate(encoder, route)
            found.append(encoder(input_ids=ids[part], attention_mask=mask[part]).last_hidden_state)
        return torch.cat(found)

    worst = (together() - apart()).abs().max().item()
    if not worst <= 1e-4:
        raise SystemExit(f"{name}: a mixed batch differs by {worst:.3g} from one by one")
    seconds: dict[str, list[float]] = {"together": [], "apart": []}
    for _ in range(args.rounds):
        for label, run in (("together", together), ("apart", apart)):
            started = time.perf_counter()
            run()
            seconds[label].append(time.perf_counter() - started)
    both = {label: statistics.median(values) for label, values in seconds.items()}
    row = {
        "method": name,
        "mixed_rows": rows,
        "tokens_per_row": length,
        "together_s": round(both["together"], 4),
        "one_by_one_s": round(both["apart"], 4),
        "ratio": round(both["apart"] / both["together"], 2),
        "max_difference": worst,
    }
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    """Measure and print a line of JSON per figure, at the end a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--residents", default="2,10,50,100", help="numbers of resident entries, rising")
    parser.add_argument("--methods", default="bottleneck,lora")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--switches", type=int, default=2000, help="switches per round (the libraries': a 20th)")
    parser.add_argument("--rows", type=int, default=8, help="entries in one mixed batch; 0 leaves it out")
    parser.add_argument("--length", type=int, default=64, help="tokens per row of the mixed batch")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--vocabulary", type=int, default=250002)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    counts = sorted(int(one) for one in args.residents.split(","))
    found: list[dict[str, Any]] = []
    for name in args.methods.split(","):
        found += {"bottleneck": bottleneck, "lora": lora}[name](args, counts)
        gc.collect()
    import adapters
    import peft
    import transformers

    versions = {m.__name__: m.__version__ for m in (torch, transformers, adapters, peft)}
    facts = {"machine": platform.processor() or platform.machine(), "threads": args.threads, **versions}
    print(json.dumps(facts))
    print(f"{'method':<12}{'residents':>10}{'ours ms':>10}{'library ms':>12}{'ratio':>8}{'slots MB':>10}")
    for row in found:
        if "residents" in row:
            print(
                f"{row['method']:<12}{row['residents']:>10}{row['ours_ms']:>10.4f}{row['library_ms']:>12.3f}"
                f"{row['ratio']:>8.0f}{row['slots_mb']:>10.1f}"
            )
    if args.out:
        args.out.write_text(json.dumps({"facts": facts, "figures": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
