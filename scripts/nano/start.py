"""Start values of the model from co-occurrence: token vectors and output bias."""

from __future__ import annotations

import numpy as np


def log_frequencies(columns: list[list[np.ndarray]], size: int) -> np.ndarray:
    """Log share of every token [size]: start of the output bias, so rare pieces need not be pushed down one by one."""
    counts = np.full(size, 0.5)
    for column in columns:
        for ids in column:
            np.add.at(counts, ids, 1.0)
    log = np.log(counts / counts.sum())
    return (log - log.max()).astype(np.float32)


def singular_vectors(
    columns: list[list[np.ndarray]], size: int, width: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows [size, width] from the positive PMI of tokens and sentence numbers, and which rows are known."""
    from scipy import sparse

    rows = np.concatenate([ids for column in columns for ids in column])
    lengths = [sum(map(len, column)) for column in columns]
    table = sparse.coo_matrix(
        (np.ones(len(rows), np.float32), (rows, np.repeat(np.arange(len(columns)), lengths))),
        shape=(size, len(columns)),
    ).tocsr()
    total = table.sum()
    per_token = np.asarray(table.sum(1)).ravel()
    per_column = np.asarray(table.sum(0)).ravel()
    coo = table.tocoo()
    pmi = np.log(coo.data * total / (per_token[coo.row] * per_column[coo.col]))
    positive = sparse.csr_matrix((np.maximum(pmi, 0).astype(np.float32), (coo.row, coo.col)), shape=table.shape)
    rng = np.random.default_rng(seed)
    basis = positive @ rng.standard_normal((len(columns), width + 16)).astype(np.float32)
    for _ in range(3):
        basis, _ = np.linalg.qr(basis)
        basis = positive @ (positive.T @ basis)
    basis, _ = np.linalg.qr(basis)
    small = (positive.T @ basis).T
    u, s, _ = np.linalg.svd(small @ small.T)
    vectors = (basis @ u[:, :width]) * np.sqrt(np.sqrt(s[:width]))
    norms = np.linalg.norm(vectors, axis=1)
    known = (per_token >= 2) & (norms > 1e-6)
    return (vectors / np.maximum(norms, 1e-6)[:, None]).astype(np.float32), known
