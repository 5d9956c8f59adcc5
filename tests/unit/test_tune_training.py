"""What a trial's command says of its training; trainings that write elsewhere than into the sweep's folder."""

import os
from pathlib import Path
from typing import Any

import pytest
from sweeps import experiment

from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.records import read_trials
from kubesight.tune.report.page import write_report
from kubesight.tune.report.sweep import decisions_of, read_sweep
from kubesight.tune.runner import run_sweep
from kubesight.tune.trials.training import framework_of, output_of

FOLDER, CWD = Path("/sweep/trials/t1"), Path("/sweep/here")

# A training of ours in all that a sweep sees of it: it prints its metric and leaves its files.
TRAINING = """kubesight() {
  mkdir -p 'OUT/${x}/model'
  echo '{"features_hits": 2, "features_misses": 1}' > 'OUT/${x}/cache.json'
  echo '{"epoch": 1, "stop": false}' > 'OUT/${x}/decisions.jsonl'
  echo accuracy=${x}
}
kubesight train --training-data=d '--output=OUT/${x}' --epochs 1"""


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["kubesight", "train", "--output", "/out/t1", "--seed=1"], "/out/t1"),
        (["/opt/bin/kubesight", "train", "--output=/out/t1"], "/out/t1"),
        (["sh", "-c", "kubesight train --output='/out/a b' --weights=none"], "/out/a b"),
        (["bash", "-ec", "cd /x && kubesight train --seed=2 --output /out/t1 2>&1 | tee log --output=/no"], "/out/t1"),
        (["torchrun", "--nproc-per-node=2", "-m", "kubesight.cli.main", "train", "--output=/out/t1"], "/out/t1"),
        (["sh", "-c", "kubesight train --output=relative/t1"], "/sweep/here/relative/t1"),
        (["sh", "-c", "kubesight train --output=/a --output=/b"], "/b"),
        (["sh", "-c", 'kubesight train --output="$HOME/x"'], "/sweep/trials/t1"),
        (["sh", "-c", "kubesight train --output='/never ends"], "/sweep/trials/t1"),
        (["sh", "-c", "kubesight train --seed=1; other --output=/no"], "/sweep/trials/t1"),
        (["python", "train.py", "--output", "/no"], "/sweep/trials/t1"),
        (["sh", "-c", "kubesight evaluate --output=/no"], "/sweep/trials/t1"),
        (["sh", "-c", "kubesight train \\\n  --output=/out/t1\nother --output=/no"], "/out/t1"),
        ([], "/sweep/trials/t1"),
    ],
)
def test_the_folder_that_a_command_names(argv: list[str], expected: str) -> None:
    assert output_of(argv, CWD, FOLDER) == Path(expected)


@pytest.mark.parametrize(
    ("arguments", "framework"),
    [
        (["train", "--model-name=keras/VGG16"], "tensorflow"),
        (["train", "--model_id", "tensorflow-ic-imagenet-mobilenet-v2-100-224-classification-4"], "tensorflow"),
        (["train", "--model-name=resnet18", "--optimizer=keras/VGG16"], "torch"),
        (["train", "--alternative=model_name=resnet18 seed=1", "--alternative=model_id=keras/VGG16", "--choose=1"],
         "tensorflow"),
        (["train", "--alternative=model_name=resnet18", "--alternative=model_name=keras/VGG16", "--choose", "0"],
         "torch"),
        (["train", "--model-name=keras/VGG16", "--alternative=seed=1"], "tensorflow"),
        (["train", "--alternative='", "--choose=7"], "torch"),
        (["train", "--model-name=nonsense"], "torch"),
        (["models"], "torch"),
    ],
)  # fmt: skip
def test_the_framework_that_a_command_trains_with(arguments: list[str], framework: str) -> None:
    assert framework_of(arguments) == framework


def run(place: Path, output: str) -> dict[str, Any]:
    document = experiment(TRAINING.replace("OUT", output), values=["0.5", "0.75"], parallel=1)
    result = run_sweep(read_experiment(document), place)
    assert [trial.condition for trial in result.trials] == ["Succeeded"] * 2
    return {trial.assignments["x"]: trial for trial in result.trials}


def test_files_elsewhere_are_found(tmp_path: Path) -> None:
    place, output = tmp_path / "sweep", tmp_path / "mod els"
    trials = run(place, str(output))
    best = trials["0.75"]
    assert best.folder == str(place / "trials" / best.name)
    assert best.output == str(output / "0.75")
    assert [trial.cache_hits for trial in trials.values()] == [2, 2]
    assert (place / "best").resolve() == output / "0.75"
    assert {trial.output for trial in read_trials(place)} == {str(output / "0.5"), str(output / "0.75")}
    sweep = read_sweep(place)
    assert decisions_of(sweep, sweep.trials[0]) == [{"epoch": 1, "stop": False}]
    page = write_report(place).read_text()
    assert 'href="../mod%20els/0.75/model"' in page
    assert f'href="trials/{best.name}/stdout.log"' in page


def test_a_link_inside_the_sweeps_folder_can_be_moved_with_it(tmp_path: Path) -> None:
    best = run(tmp_path, str(tmp_path / "models"))["0.75"]
    assert os.readlink(tmp_path / "best") == "models/0.75"
    assert best.output == str(tmp_path / "models" / "0.75")


def test_a_training_that_leaves_nothing_where_it_said_is_linked_by_its_own_folder(tmp_path: Path) -> None:
    document = experiment(
        "kubesight() { echo accuracy=0.5; }; kubesight train --output=/nowhere/x", values=["1"], parallel=1
    )
    (trial,) = run_sweep(read_experiment(document), tmp_path).trials
    assert os.readlink(tmp_path / "best") == f"trials/{trial.name}"
    assert trial.cache_hits == 0
