"""The page of a sweep says what its records say, whatever became of the trials."""

import re
from xml.etree import ElementTree

import orjson
import pytest
import yaml
from sweep_folders import EPOCHS, TRACEBACK, experiment, grocery, log_range, mnist, parameter, stamp, write_sweep

from kubesight.errors import JobError
from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.records import Trial, read_trials
from kubesight.tune.report.page import summary, write_report
from kubesight.tune.report.settings import Settings
from kubesight.tune.report.sweep import read_sweep
from kubesight.tune.report.words import duration, short

NASTY = "<script>alert(1)</script>&\"'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return grocery(tmp_path_factory.mktemp("sweep") / "out")


@pytest.fixture(scope="module")
def page(folder):
    return write_report(folder).read_text()


def section(page, heading):
    return re.search(rf"<section><h2>{heading}</h2>.*?</section>", page, re.DOTALL)[0]


def rows(markup):
    table = ElementTree.fromstring(re.search(r'<table class="sort">.*?</table>', markup, re.DOTALL)[0])
    heads = [head.find("button").text for head in table.iter("th")]
    body = [["".join(cell.itertext()) for cell in row.iter("td")] for row in table.iter("tr")][1:]
    return [dict(zip(heads, row, strict=True)) for row in body]


def tiles(page):
    found = re.findall(r'<div class="tile"><b>(.*?)</b><span>(.*?)</span>', page)
    return {name: value for value, name in found}


def trial(number, value=None, *, condition="Succeeded", curve=(), **more):
    done = Trial(f"t-{number:08d}", number, more.pop("assignments", {}), condition, value=value, curve=list(curve))
    done.epochs, done.seconds = len(curve), 1.0
    done.started, done.ended = stamp(number), stamp(number + 1)
    for name, each in more.items():
        setattr(done, name, each)
    return done


def assigned(lr, momentum):
    return {"lr": str(lr), "momentum": str(momentum)}


def test_the_title_and_the_tiles_are_those_of_the_records(folder, page):
    trials = read_trials(folder)
    best = max((t for t in trials if t.value is not None), key=lambda t: t.value)
    stopped = [t for t in trials if t.condition == "EarlyStopped"]
    assert f"<h1>Sweep grocery: accuracy {best.value:.4f}</h1>" in page
    found = tiles(page)
    assert found["best trial"] == f"#{best.number}"
    assert (found["succeeded"], found["stopped early"], found["failed"]) == (
        str(22 - len(stopped)),
        str(len(stopped)),
        "2",
    )
    run = sum(t.epochs for t in trials)
    saved = sum(EPOCHS - t.epochs for t in stopped)
    assert found["epochs run"] == str(run)
    assert found["epochs saved"] == f"{saved / (22 * EPOCHS):.0%}"
    assert f"{saved} of {22 * EPOCHS} planned" in page
    assert f"the {EPOCHS} epochs of each trial&#x27;s number_of_epochs" in page
    assert found["cache hits"] == str(22 * 3)
    assert found["time of all trials"] == duration(sum(t.seconds for t in trials))


def test_the_best_trial_can_be_trained_again_from_what_is_shown(folder, page):
    text = section(page, "Best trial")
    job, command = (part.replace("&#x27;", "'") for part in re.findall(r"<pre>(.*?)</pre>", text, re.DOTALL))
    settings = yaml.safe_load(job)["training_parameters"]
    assert next(iter(settings)) == "model_name"
    assert "value is the greatest of its reports" in text
    best = max((t for t in read_trials(folder) if t.value is not None), key=lambda t: t.value)
    model = "resnet18" if best.assignments["group"] == "0" else "mobilenetv2"
    assert settings["model_name"] == model
    assert settings["learning_rate"] == float(best.assignments[f"{model}_learning_rate"])
    assert settings["number_of_epochs"] == EPOCHS
    assert "resnet18_learning_rate" not in settings
    assert f"--model-name {model} \\\n" in command
    assert f"--learning-rate {best.assignments[f'{model}_learning_rate']}" in command
    assert "--training-data /data/train" in command
    assert "--alternative" not in command
    assert "--metrics-file" not in command
    assert "--early-termination" not in command


def test_settings_of_groups_are_one_column_by_their_own_name(folder, page):
    by_name = {row["trial"]: row for row in rows(section(page, "Trials"))}
    assert len(by_name) == 24
    for each in read_trials(folder):
        row = by_name[each.name]
        model = "resnet18" if each.assignments["group"] == "0" else "mobilenetv2"
        assert row["model_name"] == model
        assert float(row["learning_rate"]) == pytest.approx(
            float(each.assignments[f"{model}_learning_rate"]), rel=0.006
        )
        assert (row["layers_to_freeze"] == "–") == (model == "mobilenetv2")  # noqa: RUF001
        assert row["condition"] == each.condition
        assert ("model" in row["files"]) == (each.condition == "Succeeded")
        assert "log" in row["files"]
    values = [row["accuracy"] for row in rows(section(page, "Trials"))]
    known = [float(value) for value in values if value != "–"]  # noqa: RUF001
    assert known == sorted(known, reverse=True)
    assert len(known) == 22


def test_links_lead_to_the_files_beside_the_page(folder, page):
    links = set(re.findall(r'href="([^"]+)"', page))
    assert len(links) > 30
    assert all((folder / link).exists() for link in links)


def test_decisions_and_failures_are_told(folder, page):
    every = [decision for each in read_trials(folder) for decision in each.decisions]
    stops = [decision for decision in every if decision["stop"]]
    text = section(page, "Early termination")
    assert f"{len(every)} decisions, {len(stops)} of them ended a trial." in text
    assert [row["decision"] for row in rows(text)] == ["stop"] * len(stops) + ["go on"] * (len(every) - len(stops))
    first = rows(text)[0]
    assert float(first["value"]) < float(first["threshold"])
    text = section(page, "Failures")
    assert TRACEBACK.splitlines()[-1] in text
    assert "&lt;b&gt;&amp;" in text
    assert "and 1 trial with the same last line" in text
    assert "exit code 1" in text


def test_decisions_of_trainings_that_judge_themselves_are_read_from_their_folders(tmp_path):
    done = trial(0, 0.5, curve=[0.5], assignments=assigned(0.02, 0.6), condition="EarlyStopped")
    folder = write_sweep(tmp_path, mnist(), [done])
    line = orjson.dumps({"policy": "bandit", "interval": 4, "value": 0.5, "threshold": 0.75, "peers": 3, "stop": True})
    (folder / "trials" / done.name).mkdir(parents=True)
    (folder / "trials" / done.name / "decisions.jsonl").write_bytes(line + b'\n{"torn')
    found = rows(section(write_report(folder).read_text(), "Early termination"))
    assert [(row["policy"], row["interval"], row["threshold"], row["decision"]) for row in found] == [
        ("bandit", "4", "0.7500", "stop")
    ]


def test_doubts_are_told(page):
    text = section(page, "Result")
    for words in ("Chosen on the validation part", "Few trials", "Stopped trials"):
        assert f"<b>{words}</b>" in text
    assert "Not finished" not in text


def test_one_trial(tmp_path):
    text = write_report(grocery(tmp_path, 1)).read_text()
    assert "<b>Very few trials</b>" in text
    assert "too few to tell how important" in text
    assert "<h2>Progress</h2>" in text
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL))


def test_no_trial_at_all_and_none_that_succeeded(tmp_path):
    text = write_report(write_sweep(tmp_path / "none", mnist(), [], ending=False)).read_text()
    assert "<h1>Sweep random: no result</h1>" in text
    failed = [trial(n, condition="Failed", exit_code=-9, assignments=assigned(0.01, 0.5)) for n in range(3)]
    text = write_report(write_sweep(tmp_path / "failed", mnist(), failed)).read_text()
    assert tiles(text)["failed"] == "3"
    assert "<h2>Best trial</h2>" not in text
    assert "<h2>Importance" not in text
    assert "exit code -9" in text
    assert "Its log is empty." in text
    assert summary(tmp_path / "failed").splitlines()[1] == "no trial has a value"


def test_a_foreign_experiment_with_a_metric_to_minimize(tmp_path):
    trials = [
        trial(0, 0.9, curve=[1.2, 0.9], assignments=assigned(0.02, 0.6)),
        trial(1, 0.4, curve=[1.0, 0.5, 0.45, 0.4], assignments=assigned(0.03, 0.8)),
        trial(2, 1.1, curve=[1.1], condition="EarlyStopped", assignments=assigned(0.049, 0.55)),
    ]
    page = write_report(write_sweep(tmp_path, mnist(), trials)).read_text()
    assert "<h1>Sweep random: loss 0.4000</h1>" in page
    assert "<pre>lr: 0.03\nmomentum: 0.8</pre>" in page
    assert "training_parameters" not in page
    # The longest curve has 4 reports; the one that was stopped gave 1, another ended by itself after 2.
    assert "Epochs saved: 3 of 12 planned (25.0%)" in page
    assert "the longest curve, 4, is taken" in page
    assert "left out 2 more" in page
    assert [row["loss"] for row in rows(section(page, "Trials"))] == ["0.4000", "0.9000", "1.1000"]


def test_every_text_is_escaped(tmp_path):
    document = mnist()
    document["spec"]["parameters"][0] = parameter("lr", "categorical", list=[NASTY, "x"])
    trials = [
        trial(n, n / 10, curve=[n / 10], assignments=assigned(NASTY, 0.5), reason=NASTY, folder=str(tmp_path / NASTY))
        for n in range(12)
    ]
    trials[3].condition, trials[3].value = "Failed", None
    trials[4].decisions = [{"policy": NASTY, "interval": 1, "value": 0.1, "threshold": 0.2, "peers": 1, "stop": True}]
    page = write_report(write_sweep(tmp_path / "out", document, trials)).read_text()
    assert page.count("<script>") == 1  # the page's own
    assert NASTY not in page
    assert "alert(1)" in page


def test_a_running_sweep_shows_what_is_known(tmp_path):
    running = trial(1, condition="Running")
    running.ended = None
    folder = write_sweep(tmp_path, mnist(), [trial(0, 0.5, curve=[0.5], assignments=assigned(0.02, 0.6)), running])
    status = orjson.loads((folder / "status.json").read_bytes())
    assert status["runningTrialList"] == [running.name]
    page = write_report(folder).read_text()
    assert "<b>Not finished</b>" in page
    assert tiles(page)["running"] == "1"
    assert running.name in section(page, "Trials")


def test_500_trials_stay_small(tmp_path):
    path = write_report(grocery(tmp_path, 500))
    assert path.stat().st_size < 2_000_000
    assert len(rows(section(path.read_text(), "Trials"))) == 500


def test_the_summary_says_the_same_in_a_few_lines(folder, page):
    text = summary(folder)
    best = max((t for t in read_trials(folder) if t.value is not None), key=lambda t: t.value)
    assert text.splitlines()[0].startswith("grocery: 24 trials (")
    assert f"best: accuracy {best.value:.4f} in {best.name}" in text
    assert "model_name=" in text
    assert "saved by stopping early" in text
    assert f"report: {folder / 'report.html'}" in text
    assert len(text.splitlines()) <= 6


def test_a_folder_without_a_sweep(tmp_path):
    with pytest.raises(JobError, match=r"not a sweep's folder"):
        write_report(tmp_path)


def edge_sweep(tmp_path, lr):
    trials = [trial(n, 0.5 - n / 100, curve=[0.5], assignments=assigned(0.02 + n / 1000, 0.7)) for n in range(12)]
    trials.append(trial(12, 0.1, curve=[0.5, 0.3, 0.1], assignments=assigned(lr, 0.7)))
    return section(write_report(write_sweep(tmp_path, mnist(trials=13), trials)).read_text(), "Result")


def test_a_best_value_at_the_end_of_its_range_is_pointed_out(tmp_path):
    text = edge_sweep(tmp_path / "edge", 0.0499)
    assert "lr = 0.0499 (upper end)" in text
    assert "<b>Still improving</b>" in text
    assert "At the edge" not in edge_sweep(tmp_path / "middle", 0.03)


def one_group(tmp_path, command, parameters, assignments):
    document = experiment("one", parameters, command, trials=1)
    done = trial(0, 0.5, curve=[0.5], assignments=assignments)
    return read_sweep(write_sweep(tmp_path, document, [done]))


def test_plain_flags_and_one_minus_a_parameter(tmp_path):
    command = (
        "kubesight train --training-data /t --validation-data /v --output /o/${trialParameters.trial}"
        " --model-name resnet18 --momentum 1-${trialParameters.one_minus_momentum}"
        " --learning-rate ${trialParameters.learning_rate}"
    )
    parameters = [log_range("one_minus_momentum", 0.01, 0.2), log_range("learning_rate", 0.001, 0.1)]
    values = {"one_minus_momentum": "0.05", "learning_rate": "0.01"}
    sweep = one_group(tmp_path, command, parameters, values)
    assert [(s.name, s.log) for s in sweep.swept] == [("momentum", True), ("learning_rate", True)]
    assert sweep.columns[0] == {"model_name": "resnet18", "momentum": "0.95", "learning_rate": "0.01"}
    # Nothing says how many epochs: the model's own default.
    assert sweep.epochs.planned == 15


def test_a_grid_over_groups_is_read_from_its_combinations(tmp_path):
    command = (
        "kubesight train --training-data /t --validation-data /v --output /o/${trialParameters.trial}"
        ' --number-of-epochs 4 --evaluation-frequency 2 --alternative "${trialParameters.combination}"'
    )
    listed = ["model_name=resnet18 learning_rate=0.1", "model_name=vits16r224"]
    sweep = one_group(
        tmp_path, command, [parameter("combination", "categorical", list=listed)], {"combination": listed[0]}
    )
    assert [setting.name for setting in sweep.swept] == ["model_name", "learning_rate"]
    assert sweep.columns[0]["learning_rate"] == "0.1"
    assert (sweep.epochs.planned, sweep.epochs.run) == (4, 2)  # one report, after two epochs


def test_conditions_hide_parameters_that_do_not_count_in_foreign_trials():
    document = mnist()
    document["spec"]["parameters"].append(parameter("group", "categorical", list=["0", "1"]))
    template = document["spec"]["trialTemplate"]
    template["trialParameters"].append({"name": "group", "reference": "group"})
    template["trialSpec"]["spec"]["template"]["spec"]["containers"][0]["command"][2] += " ${trialParameters.group}"
    document["metadata"]["annotations"] = {"kubesight/conditions": '{"lr": ["1"]}'}
    settings = Settings(read_experiment(document))
    assert not settings.ours
    assert settings.of("x", {"lr": "1", "momentum": "2", "group": "0"}) == {"momentum": "2", "group": "0"}
    assert settings.of("x", {"lr": "1", "momentum": "2", "group": "1"})["lr"] == "1"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.0 s"), (4.51, "4.5 s"), (9.97, "10 s"), (59.7, "1m 0s"), (725, "12m 5s"), (12000, "3h 20m")],
)
def test_duration(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"), [("0.0030543829", "0.003054"), ("16", "16"), ("resnet18", "resnet18"), ("infinity", "infinity")]
)
def test_short(value, said):
    assert short(value) == said
