"""Hyperband's brackets against the paper's formula, and how they deal with waiting and failures."""

from dataclasses import replace
from pathlib import Path

import pytest

from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.sampling.hyperband import brackets
from kubesight.tune.sampling.sampler import Sampler

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def sampler(maximize: bool = True, **settings: str) -> Sampler:
    wanted = read_experiment(EXPERIMENTS / "hyperband.yaml")
    return Sampler(replace(wanted, maximize=maximize, settings={**wanted.settings, **settings}))


def test_brackets_by_the_papers_formula() -> None:
    """R = 81 and eta = 3, so 5 brackets: n = ceil(5 * 3**s / (s + 1)) trials of 81 / 3**s, then a third, rounded up.

    The first bracket is that of the paper's table 1.
    """
    planned = [[(rung.size, rung.resources) for rung in rungs] for rungs in brackets(81, 3)]
    assert planned == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (12, 9), (4, 27), (2, 81)],  # ceil(135 / 4) = 34, ceil(34 / 3) = 12
        [(15, 9), (5, 27), (2, 81)],  # 45 / 3 = 15
        [(8, 27), (3, 81)],  # ceil(15 / 2) = 8
        [(5, 81)],
    ]


@pytest.mark.parametrize(("most", "eta", "deepest"), [(243, 3, 5), (1000, 10, 3), (2, 2, 1), (1, 3, 0), (26, 3, 2)])
def test_the_number_of_brackets_is_exact_where_logarithms_of_floats_are_not(
    most: float, eta: float, deepest: int
) -> None:
    """`log(243) / log(3)` is 4.999999999999999."""
    planned = brackets(most, eta)
    assert len(planned) == deepest + 1
    assert [len(rungs) for rungs in planned] == list(range(deepest + 1, 0, -1))
    assert all(rungs[-1].resources == int(most) for rungs in planned)


def test_a_whole_run() -> None:
    """r_l = 9, eta = 3: 9 trials of 1 epoch, the best 3 with 3, the best with 9; 5 with 3, 2 with 9; 3 with 9."""
    asked, epochs = sampler(), []
    lrs: dict[int, float] = {}
    for number in range(23):
        values = asked.ask(number)
        epochs.append(int(values["num-epochs"]))
        lrs[number] = float(values["lr"])
        asked.tell(number, lrs[number])
    assert epochs == [1] * 9 + [3] * 3 + [9] + [3] * 5 + [9] * 2 + [9] * 3
    best = sorted((lrs[number] for number in range(9)), reverse=True)[:3]
    assert [lrs[number] for number in (9, 10, 11)] == best
    assert lrs[12] == best[0]
    assert asked.ask(23) is None


def test_smaller_is_better_when_minimizing() -> None:
    asked, lrs = sampler(maximize=False), []
    for number in range(10):
        lrs.append(float(asked.ask(number)["lr"]))
        asked.tell(number, lrs[-1])
    assert lrs[9] == min(lrs[:9])


def test_slots_that_wait_start_the_next_bracket_and_then_there_is_nothing() -> None:
    asked = sampler()
    epochs = [asked.ask(number)["num-epochs"] for number in range(17)]
    assert epochs == ["1"] * 9 + ["3"] * 5 + ["9"] * 3
    assert asked.ask(17) is None
    for number in range(9):
        asked.tell(number, float(number))
    assert asked.ask(17)["num-epochs"] == "3"


def test_failed_trials_do_not_block_their_bracket() -> None:
    asked, lrs = sampler(), []
    for number in range(9):
        lrs.append(asked.ask(number)["lr"])
        asked.tell(number, 0.5 if number in (2, 4) else None)
    # Two are left for the three places of the next rung, and the first of equal ones goes first.
    promoted = [asked.ask(9), asked.ask(10)]
    assert [(each["num-epochs"], each["lr"]) for each in promoted] == [("3", lrs[2]), ("3", lrs[4])]
    asked.tell(9, None)
    asked.tell(10, None)
    # None is left of this bracket: the next one begins.
    assert [asked.ask(number)["num-epochs"] for number in range(11, 16)] == ["3"] * 5
