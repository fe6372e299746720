"""The zoo of trained entries: cards, verified files, atomic writing. Imports no torch."""

from adapters_xling.zoo.attestations import Attestation, Measured
from adapters_xling.zoo.card import (
    CARD,
    CARD_SCHEMA,
    Card,
    DataCard,
    Facts,
    FileDigest,
    HeadCard,
    Probe,
    Provenance,
    TaskTraining,
    Training,
)
from adapters_xling.zoo.files import file_digest, safetensors_problem
from adapters_xling.zoo.known_rows import KnownRows
from adapters_xling.zoo.lineage import Lineage, trace
from adapters_xling.zoo.origin import cpu_name, provenance
from adapters_xling.zoo.readme import render_readme
from adapters_xling.zoo.staging import Garbage
from adapters_xling.zoo.store import Draft, Entry, Zoo, ZooWarning

__all__ = [
    "CARD",
    "CARD_SCHEMA",
    "Attestation",
    "Card",
    "DataCard",
    "Draft",
    "Entry",
    "Facts",
    "FileDigest",
    "Garbage",
    "HeadCard",
    "KnownRows",
    "Lineage",
    "Measured",
    "Probe",
    "Provenance",
    "TaskTraining",
    "Training",
    "Zoo",
    "ZooWarning",
    "cpu_name",
    "file_digest",
    "provenance",
    "render_readme",
    "safetensors_problem",
    "trace",
]
