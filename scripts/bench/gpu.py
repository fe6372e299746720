"""Model FLOP utilisation: how much of what a GPU can multiply goes into the model.

    python scripts/bench/gpu.py                                       # all lines, XLM-R Large's shape, bfloat16
    python scripts/bench/gpu.py --work lora --attention padded --profile
    python scripts/bench/gpu.py --device cpu --small                  # what its test runs; no figure

The encoder has XLM-R Large's shape and random weights made on the device; rows are token ids of MultiNLI's lengths, in
the order they come in training and sorted by length in evaluation. What counts are the operations the model needs for
real tokens (flops.py) a second, over those of the fastest matrix product found on the same device in the same
precision: large square ones, and the encoder's own. Before anything is timed, a batch as it is measured gives what it
gives padded in float32. It was not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from common import HYPOTHESIS, PREMISE, Row, _length, alternate, finish, options, row
from flops import flops

WORKS = ("full", "bottleneck", "lora", "evaluation")
BARS = {"training": 0.5, "evaluation": 0.6}
AGREE = {"fp32": 1e-4, "bf16": 0.05}
"""Largest difference of a packed batch's hidden states, relative to their size in float32 and padded."""
TOKENS_PER_WORD, SPECIALS, MAX_LENGTH = 1.3, 4, 128
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "bottleneck": {"reduction_factor": 16},
    "lora": {"r": 8, "alpha": 16, "dropout": 0.0},
}

GROUPS = {
    "optimiser": r"adam|multi_tensor|foreach|optimizer|clip|_norm_cuda|l2norm|vector_norm",
    "attention": r"flash|fmha|attention|attn|softmax",
    "matrix products": r"gemm|nvjet|cutlass|cublas|xmma|matmul|addmm|\bbmm\b|::mm\b|\bmm\b|linear",
    "copies": r"memcpy|memset|copy|index|gather|scatter|cat|fill|zero|embedding|nonzero",
    "normalisation and elementwise": r"norm|elementwise|gelu|relu|dropout|add|mul|sub|div|reduce|tanh|triton|where|sum",
}
"""What a kernel's name says it does; the first that fits."""


def group_of(name: str) -> str:
    """The group of a kernel.

    >>> [group_of(name) for name in ("nvjet_tst_128x256", "flash_fwd_kernel", "vectorized_layer_norm_kernel")]
    ['matrix products', 'attention', 'normalisation and elementwise']
    >>> [group_of(name) for name in ("multi_tensor_apply_kernel<FusedAdamMathFunctor>", "Memcpy HtoD", "odd")]
    ['optimiser', 'copies', 'other']
    """
    return next((group for group, found in GROUPS.items() if re.search(found, name, re.IGNORECASE)), "other")


def shares(kernels: Iterable[tuple[str, float]], seconds: float) -> dict[str, float]:
    """Share of a time in each group of kernels, and in none: `gaps`.

    Args:
        kernels: names and seconds, of kernels that do not overlap.
        seconds: all of the time.

    >>> shares([("gemm", 0.5), ("flash_fwd", 0.25)], 1.0)
    {'matrix products': 0.5, 'attention': 0.25, 'gaps': 0.25}
    """
    found: dict[str, float] = {}
    for name, taken in kernels:
        group = group_of(name)
        found[group] = found.get(group, 0.0) + taken / seconds
    found = dict(sorted(found.items(), key=lambda item: -item[1]))
    return {**found, "gaps": max(0.0, 1.0 - sum(found.values()))}


# --- what is measured ---------------------------------------------------------------------------------------------


def lengths_of(count: int, *, seed: int, longest: int = MAX_LENGTH) -> list[int]:
    """Tokens of made-up sentence pairs."""
    draw = random.Random(seed)
    words = [sum(_length(draw, *size) for size in (PREMISE, HYPOTHESIS)) for _ in range(count)]
    return [min(longest, round(TOKENS_PER_WORD * one) + SPECIALS) for one in words]


def batches_of(lengths: Sequence[int], tokens: int, *, in_order: bool) -> list[list[int]]:
    """Rows of each batch: as many as come to so many real tokens in the order given, or of similar length as an
    evaluation cuts them."""
    from adapters_xling.batching import token_batches

    if not in_order:
        return token_batches(lengths, tokens, repeat=True)
    found: list[list[int]] = [[]]
    held = 0
    for i, length in enumerate(lengths):
        if found[-1] and held + length > tokens:
            found.append([])
            held = 0
        found[-1].append(i)
        held += length
    return found[:-1] or found


class Side:
    """A model with its method, and batches to run through it."""

    def __init__(self, args: argparse.Namespace, work: str) -> None:
        import torch

        from adapters_xling.tasks import kinds
        from adapters_xling.tasks.examples import Features

        self.args, self.work, self.trains = args, work, work != "evaluation"
        self.method = work if self.trains else "bottleneck"
        self.task = _task()
        torch.manual_seed(0)
        self.model, self.shape, self.size = _model(args, self.method, self.task)
        lengths = lengths_of(args.train_rows, seed=1)
        draw = random.Random(2)
        top = self.shape.vocabulary
        rows = [[0, *(draw.randrange(4, top) for _ in range(n - 2)), 2] for n in lengths]
        self.batches, self.flops, self.tokens, self.places = [], [], [], []
        for chosen in batches_of(lengths, args.batch_tokens, in_order=self.trains)[: args.steps]:
            features = [Features(example=i, input_ids=[rows[i]], label=i % 3) for i in chosen]
            self.batches.append(kinds.get("sentence").collate(features, pad_id=self.model.pad_id))
            own = [lengths[i] for i in chosen]
            self.flops.append(flops(self.shape, self.method, own, size=self.size, backward=self.trains))
            self.tokens.append(sum(own))
            self.places.append(len(own) * max(own))
        self.optimiser = self._optimiser() if self.trains else None

    @property
    def padding(self) -> float:
        """Share of the places of all batches that hold no token."""
        return 1 - sum(self.tokens) / sum(self.places)

    def _optimiser(self) -> Any:
        from types import SimpleNamespace

        from adapters_xling.training.preparing import optimiser

        recipe: Any = SimpleNamespace(weight_decay=0.01, learning_rate=1e-5, adam_epsilon=1e-8)
        return optimiser(self.model, recipe)

    def hidden(self, attention: str, precision: str) -> Any:
        """Hidden states (P,D) of real tokens, of the batch with most padding."""
        import torch

        from adapters_xling.inference import passes

        most = max(range(len(self.batches)), key=lambda i: self.places[i] / self.tokens[i])
        batch = self._on_device(self.batches[most])
        self.model.eval()
        self.model.set_attention(attention)
        with torch.no_grad(), passes(self.model, precision):
            found = self.model.encode(batch).float()
        self.model.set_attention(self.args.attention)
        return found[batch["attention_mask"].bool()]

    def difference(self) -> float:
        """How far the batch as it is measured is from the padded one in float32, relative to that one's size."""
        exact = self.hidden("padded", "fp32")
        return float((self.hidden(self.args.attention, self.args.precision) - exact).norm() / exact.norm())

    def _on_device(self, batch: Any) -> Any:
        return {name: tensor.to(self.args.device, non_blocking=True) for name, tensor in batch.items()}

    def step(self, number: int) -> None:
        """A training step as the loop takes it, or a batch of an evaluation."""
        import torch

        from adapters_xling.inference import passes
        from adapters_xling.tasks import kinds

        batch = self._on_device(self.batches[number % len(self.batches)])
        if self.optimiser is None:
            with torch.no_grad(), passes(self.model, self.args.precision):
                self.model(batch, self.task).float().cpu()
            return
        with passes(self.model, self.args.precision):
            loss = kinds.get("sentence").loss(self.model(batch, self.task).float(), batch)
        loss.backward()
        loss.item()
        torch.nn.utils.clip_grad_norm_(list(self.model.trainable_parameters().values()), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def seconds(self) -> float:
        """What all batches take."""
        self.model.train(self.trains)
        synchronise(self.args.device)
        began = time.perf_counter()
        for number in range(len(self.batches)):
            self.step(number)
        synchronise(self.args.device)
        return time.perf_counter() - began

    def rate(self) -> float:
        """TFLOP/s that the model got."""
        return sum(self.flops) / self.seconds() / 1e12

    def profile(self) -> dict[str, float]:
        """Shares of time by kernel group over all batches."""
        from torch.profiler import ProfilerActivity, profile

        gpu = self.args.device != "cpu"
        with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as found:
            seconds = self.seconds()
        averages = found.key_averages()
        if gpu:  # the device's own events; those of the host repeat their time
            kernels = [(e.key, e.self_device_time_total / 1e6) for e in averages if str(e.device_type).endswith("CUDA")]
        else:
            kernels = [(e.key, e.self_cpu_time_total / 1e6) for e in averages if e.key.startswith("aten::")]
        return shares(kernels, seconds)


def _task() -> Any:
    from adapters_xling.spec import TaskSpec

    return TaskSpec(
        name="made-up-nli",
        kind="sentence",
        role="private",
        title="Made-up sentence pairs",
        languages=("en",),
        sources=(),
        metrics=("accuracy",),
        labels=("contradiction", "entailment", "neutral"),
    )


def _model(args: argparse.Namespace, method: str, task: Any) -> tuple[Any, Any, int]:
    """A model with random weights made on the device, the encoder's shape, and the width or rank of its slot."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    from adapters_xling.backbones import BACKBONES, FAMILIES, Shape
    from adapters_xling.methods import resolve
    from adapters_xling.methods.slots import own_route, slot_name
    from adapters_xling.model import Model, load_tokenizer
    from adapters_xling.model.backbone import LoadedBackbone
    from adapters_xling.spec import BackboneId, Slot

    tokenizer = load_tokenizer("xlmr-nano")  # of which only the special tokens' ids are read
    shape = Shape(
        layers=args.layers,
        hidden=args.hidden,
        ffn=4 * args.hidden,
        vocabulary=max(args.vocabulary, len(tokenizer)),
        positions=514,
    )
    config = XLMRobertaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.num_heads,
        intermediate_size=shape.ffn,
        max_position_embeddings=shape.positions,
        type_vocab_size=shape.types,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation=args.kernel,
    )
    with torch.device(args.device):
        encoder = XLMRobertaModel(config, add_pooling_layer=False).requires_grad_(False).eval()
    identity = BackboneId(name="made-up", repo="local", revision=None, digest=None)
    family, backbone = FAMILIES["xlm-roberta"], BACKBONES["xlm-roberta-large"]
    loaded = LoadedBackbone(encoder, tokenizer, identity, family, backbone, "", Path())
    built = resolve(method, METHODS[method])
    model = Model(loaded, built, dropout=args.dropout, seed=0)
    model.trainable = built.attach(encoder, slot_name(0), None, Slot())
    model.route = own_route(Slot(), slot_name(0))
    model.set_dropout()
    model.add_head(task)
    model.to(args.device)
    model.set_attention(args.attention)
    if args.compile:
        for layer in encoder.get_submodule(family.layers):
            for block in (layer.attention.output, layer.intermediate, layer.output):  # all but attention and its inputs
                block.compile(dynamic=True)
    size = {"full": 0, "bottleneck": shape.hidden // 16, "lora": 8}[method]
    return model, shape, size


# --- the ceiling --------------------------------------------------------------------------------------------------


def synchronise(device: str) -> None:
    """Wait for a device to have done what it was told."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize()


def ceiling(args: argparse.Namespace) -> tuple[float, str]:
    """TFLOP/s of the fastest matrix product, and which one that was."""
    import torch

    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    tokens, hidden = args.batch_tokens, args.hidden
    sizes = [(n, n, n) for n in ((256, 512) if args.small else (4096, 8192, 16384))]
    sizes += [(tokens, hidden, hidden), (tokens, hidden, 4 * hidden), (tokens, 4 * hidden, hidden)]
    found = []
    for m, k, n in sizes:
        one, two = (torch.randn(shape, device=args.device, dtype=dtype) for shape in ((m, k), (k, n)))
        rate = product_rate(lambda a=one, b=two: a @ b, 2 * m * k * n, args.device, seconds=0.05 if args.small else 0.5)
        found.append((rate, f"{m} × {k} × {n}"))
    return max(found)


def product_rate(product: Callable[[], Any], operations: int, device: str, *, seconds: float) -> float:
    """TFLOP/s of a product that is repeated for a while; the best of five."""
    product()
    synchronise(device)
    began = time.perf_counter()
    product()
    synchronise(device)
    repeats = max(1, int(seconds / 5 / max(time.perf_counter() - began, 1e-7)))
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(repeats):
            product()
        synchronise(device)
        best = max(best, operations * repeats / (time.perf_counter() - began) / 1e12)
    return best


# --- lines --------------------------------------------------------------------------------------------------------


def main(given: list[str] | None = None) -> None:
    """Check, take the rounds, give the rows."""
    parser = options(__doc__)
    parser.add_argument("--work", action="append", choices=WORKS, help="one or several; all by default")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int, default=250002)
    parser.add_argument("--batch-tokens", type=int, default=16384, help="of a batch: real ones in training")
    parser.add_argument("--steps", type=int, default=20, help="batches of a round")
    parser.add_argument("--train-rows", type=int, default=20000, help="rows that batches are cut from")
    parser.add_argument("--dropout", type=float, default=0.0, help="of full fine-tuning, in attention too")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="bf16 on cuda, fp32 on cpu by default")
    parser.add_argument("--attention", default="packed", choices=("packed", "padded", "auto"))
    parser.add_argument("--kernel", default="sdpa", choices=("sdpa", "eager"), help="of transformers")
    parser.add_argument("--compile", action="store_true", help="torch.compile what follows attention in a layer")
    parser.add_argument("--profile", action="store_true", help="print shares of time by kernel group beside the rows")
    args = parser.parse_args(given)
    if args.small:
        args.rounds, args.steps, args.layers, args.hidden, args.vocabulary = 1, 2, 2, 64, 0
        args.batch_tokens, args.train_rows = 256, 40
    import torch

    if args.device != "cpu" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here; `--device cpu --small` tries the script without one")
    args.precision = args.precision or ("fp32" if args.device == "cpu" else "bf16")
    torch.set_num_threads(args.threads)
    top, which = ceiling(args)
    finish([measured(args, work, top, which) for work in args.work or WORKS], args)


def measured(args: argparse.Namespace, work: str, top: float, which: str) -> Row:
    """The line of one kind of work."""
    import torch

    side = Side(args, work)
    difference = side.difference()
    side.seconds()  # the first pass over the shapes does not count
    figures = alternate({"ours": side.rate, "theirs": lambda: top}, args.rounds)
    if args.profile:
        told = {group: f"{share:.1%}" for group, share in side.profile().items()}
        print(f"{work}: {' · '.join(f'{group} {share}' for group, share in told.items())}")
    place = torch.cuda.get_device_name() if args.device != "cpu" else "cpu"
    aim = "training" if side.trains else "evaluation"
    note = (
        f"{args.layers} × {args.hidden}, vocabulary {side.shape.vocabulary}, batches of {args.batch_tokens} tokens, "
        f"{side.padding:.0%} padding, attention {args.attention}{', compiled' if args.compile else ''}, "
        f"dropout {args.dropout:g}, {args.precision}, {place}"
    )
    variant = "" if args.attention == "packed" and not args.compile else f"-{args.attention}"
    made = row(
        f"gpu/{work}{variant}{'-compiled' if args.compile else ''}",
        figures,
        bar=BARS[aim],
        equal_within=AGREE[args.precision],
        difference=difference,
        baseline=f"the fastest matrix product on the same device ({which}); ours is the operations the model needs",
        unit="TFLOP/s",
        more_is_better=True,
        note=note,
    )
    del side
    if args.device != "cpu":
        torch.cuda.empty_cache()
    return made


if __name__ == "__main__":
    main()
