"""The order of pictures in an epoch; it depends on (seed, epoch) alone, so that a resumed run needs no state."""

import numpy as np


def epoch_batches(
    count: int, batch_size: int, *, seed: int, epoch: int, rank: int = 0, world: int = 1
) -> list[list[int]]:
    """One epoch's batches of picture indices for one process.

    Every picture comes once (with several processes, up to `world` - 1 come twice, so that all take as many steps). A
    last batch of a single picture joins the one before it, since batch normalisation cannot train on one.
    """
    order = np.random.default_rng((seed, epoch)).permutation(count)
    order = np.resize(order, -(-count // world) * world)
    own = order[rank::world].tolist()
    batches = [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        single = batches.pop()
        batches[-1] += single
    return batches
