"""The order of pictures in an epoch; it depends on (seed, epoch) alone, so that a resumed run needs no state."""

import numpy as np


def epoch_batches(
    count: int, batch_size: int, *, seed: int, epoch: int, rank: int = 0, world: int = 1, least: int = 2
) -> list[list[int]]:
    """One epoch's batches of picture indices for one process.

    Every picture comes once (with several processes, up to `world` - 1 come twice, so that all take as many steps).

    Args:
        count: pictures in the training part.
        batch_size: pictures a batch of this process.
        seed: `random_seed`.
        epoch: from 0.
        rank: this process's place among `world`.
        world: how many processes train together.
        least: a last batch of fewer pictures joins the one before it. Batch normalisation cannot train on one picture;
            a batch that is divided among devices must leave each of them enough.
    """
    order = np.random.default_rng((seed, epoch)).permutation(count)
    order = np.resize(order, -(-count // world) * world)
    own = order[rank::world].tolist()
    batches = [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
    if len(batches) > 1 and len(batches[-1]) < least:
        rest = batches.pop()
        batches[-1] += rest
    return batches
