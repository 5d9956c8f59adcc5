"""What the local runner itself costs: 500 trials of a command that does nothing but print a metric.

Prints milliseconds a trial beyond the bare start of the same command in the same folder layout, measured in the same
run, and the resident memory after 100 and after all trials. Memory must not grow with files, pipes or processes that
are kept; what stays of a trial is its record.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # where pytest finds them too

from sweeps import experiment

from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.records import Trial
from kubesight.tune.runner import SweepResult, run_sweep

TRIALS = 500
SCRIPT = "echo accuracy=${x}"


class Memory:
    """Resident memory in MiB as trials end."""

    def __init__(self) -> None:
        self.after: dict[int, float] = {}
        self._count = 0

    def started(self, trial: Trial) -> None: ...

    def reported(self, trial: Trial) -> None: ...

    def ended(self, trial: Trial) -> None:
        self._count += 1
        if self._count in (100, TRIALS):
            self.after[self._count] = resident()

    def finished(self, result: SweepResult) -> None: ...


def resident() -> float:
    """This process's resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def bare(folder: Path) -> float:
    """Milliseconds a trial for starting the same command and waiting for it, one after another."""
    began = time.perf_counter()
    for number in range(TRIALS):
        place = folder / str(number)
        place.mkdir(parents=True)
        with open(place / "stdout.log", "wb") as stream:
            subprocess.run(["sh", "-c", SCRIPT.replace("${x}", "0.5")], cwd=place, stdout=stream, check=True)
    return (time.perf_counter() - began) * 1000 / TRIALS


def swept(output: Path, parallel: int, algorithm: str) -> tuple[float, Memory]:
    """Milliseconds a trial of a whole sweep, and the memory that it took."""
    document = experiment(SCRIPT, trials=TRIALS, parallel=parallel, algorithm={"algorithmName": algorithm})
    memory, began = Memory(), time.perf_counter()
    result = run_sweep(read_experiment(document), output, observer=memory)
    elapsed = (time.perf_counter() - began) * 1000 / TRIALS
    assert len(result.trials) == TRIALS
    assert {trial.condition for trial in result.trials} == {"Succeeded"}
    return elapsed, memory


def main() -> None:
    """Measure and print."""
    algorithms = sys.argv[1:] or ["random", "tpe"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = bare(folder / "bare")
        print(f"bare start of a process: {start:.1f} ms")
        for algorithm in algorithms:
            for parallel in (1, 4):
                took, memory = swept(folder / f"{algorithm}{parallel}", parallel, algorithm)
                few, many = memory.after[100], memory.after[TRIALS]
                print(
                    f"{algorithm}, {parallel} at a time: {took:.1f} ms a trial, {took - start:.1f} ms beyond the bare"
                    f" start (limit 150); resident {few:.1f} MiB after 100 trials, {many - few:+.1f} after {TRIALS}"
                )


if __name__ == "__main__":
    main()
