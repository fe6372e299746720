"""Training: the one loop, for every method, kind and mixture, and what it stands on.

`run` goes from a description to an entry, `loop` steps, `data` reads the rows, `sampling` says what comes next,
`division` deals it out to the processes, `sharding` divides weights, `progress` keeps score and selects, `checkpoint`
lets a killed run go on where it was.
"""

from adapters_xling.training.progress import stayed_at_chance
from adapters_xling.training.run import train
from adapters_xling.training.sampling import Batches, pick

__all__ = ["Batches", "pick", "stayed_at_chance", "train"]
