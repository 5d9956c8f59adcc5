"""The local runner hands arguments over as they were written."""

from pathlib import Path

from kfp import dsl

from kubesight.pipelines.local import run_locally


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def write_text(text: str, copy: dsl.Output[dsl.Artifact]) -> None:
    """Write the text that arrives."""
    with open(copy.path, "w") as stream:
        stream.write(text)


@dsl.pipeline(name="copy-text")
def copy_text(text: str) -> None:
    """One step."""
    write_text(text=text)


def test_a_path_with_the_interpreters_name_stays_as_it_is(tmp_path: Path) -> None:
    text = "/opt/lib/python3/weights.pth, python3"
    folder, _ = run_locally(copy_text, {"text": text}, tmp_path / "python3-runs")
    assert (folder / "write-text" / "copy").read_text() == text
