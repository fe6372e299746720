"""Mining at the size of BUCC, on synthetic vectors: time, peak memory, and whether memory grows with the queries.

Every size runs in a process of its own, so that its peak is its own. Half of the queries have a planted partner.
What is mined from a subset is compared with a plain dense computation that shares no code with the search.

    python scripts/bench/retrieval.py --out runs/bench/retrieval.json

FAISS's exact search is timed beside it where faiss-cpu is installed; the package does not need it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BUCC_RU = (460_853, 558_401)
"""Sentences of the Russian and the English pool of BUCC 2018's test set."""
NEIGHBOURS = 4
BLOCK = 4096
NOISE = 0.9


def peak_bytes() -> int:
    """Most memory this process ever had resident."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss would count what the parent had when it forked
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make(folder: Path, rows: int, width: int) -> None:
    """Write queries and corpus; the even queries are noisy copies of a corpus vector at a shuffled place."""
    from adapters_xling.tasks.kinds.vectors import unit

    places = np.random.default_rng(1).permutation(rows)
    corpus, queries = open_file(folder, "corpus", rows, width), open_file(folder, "queries", rows, width)
    for top in range(0, rows, BLOCK):
        stop = min(top + BLOCK, rows)
        if corpus.num_done <= top:
            corpus.append(np.random.default_rng([2, top]).standard_normal((stop - top, width), dtype=np.float32))
    for top in range(0, rows, BLOCK):
        stop = min(top + BLOCK, rows)
        if queries.num_done <= top:
            own = unit(np.random.default_rng([3, top]).standard_normal((stop - top, width), dtype=np.float32))
            even = np.arange(top, stop) % 2 == 0
            own[even] = NOISE * own[even] + corpus.take(places[top:stop][even])
            queries.append(own)
    corpus.close()
    queries.close()


def open_file(folder: Path, name: str, rows: int, width: int) -> Any:
    """Vectors on disk, whole or to be filled."""
    from adapters_xling.tasks.kinds.vectors import VectorFile

    return VectorFile.open(folder / f"{name}-{width}", rows=rows, width=width, identity=f"bench {rows} {width}")


def one(folder: Path, rows: int, width: int, num_queries: int, device: str) -> dict[str, Any]:
    """Mine the first queries against the whole corpus, in this process."""
    from adapters_xling.tasks.kinds.search import mine
    from adapters_xling.tasks.kinds.vectors import Subset

    corpus, queries = open_file(folder, "corpus", rows, width), open_file(folder, "queries", rows, width)
    before, began, used = peak_bytes(), time.perf_counter(), time.process_time()
    done = 0

    def on_block(count: int) -> None:
        nonlocal done
        done += count
        spent = time.perf_counter() - began
        print(f"  {done:,}/{num_queries:,} queries, {spent / done * (num_queries - done):.0f} s left", file=sys.stderr)

    pairs = mine(Subset(queries, np.arange(num_queries)), corpus, k=NEIGHBOURS, device=device, on_block=on_block)
    seconds = time.perf_counter() - began
    np.save(folder / "pairs-one.npy", np.stack([pairs.queries, pairs.corpus]))
    places = np.random.default_rng(1).permutation(rows)
    planted = np.arange(num_queries) % 2 == 0
    found = planted[pairs.queries] & (places[pairs.queries] == pairs.corpus)
    return {
        "num_queries": num_queries,
        "num_corpus": rows,
        "width": width,
        "seconds": seconds,
        "cpu_seconds": time.process_time() - used,
        "pairs_per_second": num_queries * rows / seconds,
        "peak_bytes": peak_bytes(),
        "peak_bytes_before": before,
        "num_pairs": len(pairs.scores),
        "planted_found_percent": 100.0 * float(found.sum()) / float(planted.sum()),
    }


def faiss_both_ways(folder: Path, rows: int, width: int, threads: int) -> dict[str, Any]:
    """FAISS's exact neighbours in both directions, everything in memory."""
    import faiss

    faiss.omp_set_num_threads(threads)
    corpus, queries = open_file(folder, "corpus", rows, width), open_file(folder, "queries", rows, width)
    corpus_MD, queries_QD = corpus.read(0, rows), queries.read(0, rows)
    began, used = time.perf_counter(), time.process_time()
    faiss.knn(queries_QD, corpus_MD, NEIGHBOURS, metric=faiss.METRIC_INNER_PRODUCT)
    faiss.knn(corpus_MD, queries_QD, NEIGHBOURS, metric=faiss.METRIC_INNER_PRODUCT)
    return {
        "version": faiss.__version__,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - used,
        "peak_bytes": peak_bytes(),
    }


def in_memory(folder: Path, rows: int, width: int, threads: int) -> dict[str, Any]:
    """Ratio-margin mining the usual way: vectors and neighbours in memory, margins candidate by candidate."""
    corpus, queries = open_file(folder, "corpus", rows, width), open_file(folder, "queries", rows, width)
    began = time.perf_counter()
    corpus_MD, queries_QD = corpus.read(0, rows), queries.read(0, rows)
    ways = (neighbours(queries_QD, corpus_MD, threads), neighbours(corpus_MD, queries_QD, threads))
    means = [sims.mean(axis=1) for sims, _ in ways]
    candidates = []
    for own, (sims, near) in enumerate(ways):
        for i, (values, found) in enumerate(zip(sims, near, strict=True)):
            margins = [
                v / max((means[own][i] + means[1 - own][j]) / 2, 1e-6) for v, j in zip(values, found, strict=True)
            ]
            best = int(np.argmax(margins))
            pair = (i, int(found[best])) if own == 0 else (int(found[best]), i)
            candidates.append((-float(margins[best]), *pair))
    pairs, left, right = [], set(), set()
    for _, i, j in sorted(candidates):
        if i not in left and j not in right:
            left.add(i)
            right.add(j)
            pairs.append((i, j))
    seconds = time.perf_counter() - began
    np.save(folder / "pairs-in_memory.npy", np.array(pairs).T)
    return {"seconds": seconds, "peak_bytes": peak_bytes(), "num_pairs": len(pairs)}


def neighbours(queries_QD: np.ndarray, corpus_MD: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and places of each query's nearest corpus rows, (Q,k) both, the nearest first."""
    if importlib.util.find_spec("faiss") is not None:
        import faiss

        faiss.omp_set_num_threads(threads)
        index = faiss.IndexFlatIP(corpus_MD.shape[1])
        index.add(corpus_MD)
        return index.search(queries_QD, NEIGHBOURS)
    sims, places = [], []
    for top in range(0, len(queries_QD), 256):
        block = queries_QD[top : top + 256] @ corpus_MD.T
        near = np.argpartition(-block, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        values = np.take_along_axis(block, near, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        sims.append(np.take_along_axis(values, order, axis=1))
        places.append(np.take_along_axis(near, order, axis=1))
    return np.concatenate(sims), np.concatenate(places)


def dense(queries_QD: np.ndarray, corpus_MD: np.ndarray, k: int) -> list[tuple[int, int, float]]:
    """Ratio-margin mining the plain way: all cosines at once in float64, sorted whole, accepted one by one."""
    sims_QM = (queries_QD.astype(np.float64) @ corpus_MD.astype(np.float64).T).astype(np.float32).astype(np.float64)
    mean_Q = np.sort(sims_QM, axis=1)[:, ::-1][:, :k].mean(1)
    mean_M = np.sort(sims_QM, axis=0)[::-1][:k].mean(0)
    margin_QM = sims_QM / np.maximum((mean_Q[:, None] + mean_M) / 2, 1e-6)
    proposals = set()
    for margin, sims, flip in ((margin_QM, sims_QM, False), (margin_QM.T, sims_QM.T, True)):
        for i, (row, cosines) in enumerate(zip(margin, sims, strict=True)):
            near = np.argsort(-cosines, kind="stable")[:k]
            j = int(near[np.argmax(row[near])])
            proposals.add((-float(row[j]), j, i) if flip else (-float(row[j]), i, j))
    pairs, left, right = [], set(), set()
    for score, i, j in sorted(proposals):
        if i not in left and j not in right:
            left.add(i)
            right.add(j)
            pairs.append((i, j, -score))
    return pairs


def check(folder: Path, rows: int, width: int, num: int) -> dict[str, Any]:
    """Mine a subset in small odd blocks and densely, and compare."""
    from adapters_xling.tasks.kinds.search import mine

    corpus, queries = open_file(folder, "corpus", rows, width), open_file(folder, "queries", rows, width)
    places = np.random.default_rng(1).permutation(rows)[:num]
    ours, theirs = queries.read(0, num), corpus.take(np.sort(places))
    found = mine(ours, theirs, k=NEIGHBOURS, block_rows=1000, block_columns=700)
    wanted = dense(ours, theirs, NEIGHBOURS)
    same = list(zip(found.queries.tolist(), found.corpus.tolist(), strict=True)) == [pair[:2] for pair in wanted]
    error = max(abs(a - b[2]) for a, b in zip(found.scores.tolist(), wanted, strict=False))
    if not same or error > 1e-6:
        raise SystemExit(f"mined pairs differ from a dense computation over {num} rows (largest difference {error})")
    return {"rows": num, "num_pairs": len(wanted), "pairs_equal": same, "largest_score_difference": error}


def child(args: argparse.Namespace, folder: Path, *call: Any) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, __file__, "--call", json.dumps([str(folder), *call]), "--threads", str(args.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def called(args: argparse.Namespace) -> dict[str, Any]:
    """What a child process was asked for."""
    import torch

    torch.set_num_threads(args.threads)
    folder, what, *rest = json.loads(args.call)
    return {"one": one, "faiss": faiss_both_ways, "in_memory": in_memory, "check": check}[what](Path(folder), *rest)


def processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def line(width: int, sizes: list[dict[str, Any]], extrapolated: dict[str, Any], other: dict[str, Any] | None) -> str:
    """One row of a Markdown table."""
    last = sizes[-1]
    peaks = " / ".join(f"{size['peak_bytes'] / 1e6:.0f}" for size in sizes)
    counts = " / ".join(f"{size['num_queries']:,}" for size in sizes)
    beside = f"{other['seconds']:.3g} s" if other else "·"
    return (
        f"| {last['num_queries']:,} × {last['num_corpus']:,} | {width} | {last['seconds']:.3g} s | "
        f"{last['pairs_per_second'] / 1e6:.1f} M/s | {peaks} MB at {counts} queries | {beside} | "
        f"{extrapolated['seconds'] / 60:.0f} min |"
    )


HEAD = (
    "| size | width | time, both ways | compared | peak memory | FAISS exact, both ways | BUCC ru extrapolated |\n"
    "|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="sentences on either side")
    parser.add_argument("--widths", default="1024,128", help="vector sizes")
    parser.add_argument("--counts", help="query counts (default: a quarter, a half and all of the rows)")
    parser.add_argument("--check", type=int, default=4000, help="rows compared with the dense computation")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/retrieval.json"))
    parser.add_argument("--call", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.call:
        print(json.dumps(called(args)))
        return
    counts = [int(n) for n in args.counts.split(",")] if args.counts else [args.rows // 4, args.rows // 2, args.rows]
    results, lines = [], [HEAD]
    for width in map(int, args.widths.split(",")):
        with tempfile.TemporaryDirectory(prefix="xling-bench-") as place:
            folder = Path(place)
            make(folder, args.rows, width)
            same = child(args, folder, "check", args.rows, width, min(args.check, args.rows))
            sizes = [child(args, folder, "one", args.rows, width, count, args.device) for count in counts]
            has_faiss = importlib.util.find_spec("faiss") is not None
            other = child(args, folder, "faiss", args.rows, width, args.threads) if has_faiss else None
        extrapolated = {"size": BUCC_RU, "seconds": BUCC_RU[0] * BUCC_RU[1] / sizes[-1]["pairs_per_second"]}
        # what grows: results, and per corpus row the best queries so far
        growth = (sizes[-1]["peak_bytes"] - sizes[0]["peak_bytes"]) / max(1, counts[-1] - counts[0])
        results.append(
            {
                "width": width,
                "sizes": sizes,
                "bytes_per_further_query": growth,
                "vector_bytes": 4 * width,
                "dense_check": same,
                "faiss": other,
                "bucc_ru": extrapolated,
            }
        )
        lines.append(line(width, sizes, extrapolated, other))
        print(lines[-1], file=sys.stderr)
    import torch

    from adapters_xling.paths import atomic_write

    machine = {"processor": processor(), "threads": args.threads, "device": args.device, "torch": torch.__version__}
    report = {"made": time.strftime("%Y-%m-%d"), "machine": machine, "neighbours": NEIGHBOURS, "results": results}
    atomic_write(args.out, json.dumps(report, indent=1) + "\n")
    faiss = next((result["faiss"]["version"] for result in results if result["faiss"]), None)
    made_by = f"torch {torch.__version__}, {f'faiss-cpu {faiss}' if faiss else 'faiss-cpu not installed'}"
    text = "\n".join([*lines, "", f"{machine['processor']}, {args.threads} threads, {made_by}."]) + "\n"
    atomic_write(args.out.with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
