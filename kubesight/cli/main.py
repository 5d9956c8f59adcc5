"""The program `kubesight`: its options for all commands, and what becomes of errors."""

import logging
import os
import sys
from typing import Annotated

import typer

from kubesight import __version__
from kubesight.cli import data, models, pipeline, tune, weights
from kubesight.errors import KubesightError

_EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "timm", "safetensors", "onnx", "onnxruntime", "onnxscript"), "torch"),
    **dict.fromkeys(("tensorflow", "keras", "h5py", "tf2onnx"), "tensorflow"),
    **dict.fromkeys(("kfp", "kfp_kubernetes", "kfp_server_api"), "pipelines"),
    **dict.fromkeys(("cmaes", "kubeflow_katib_api", "kubernetes", "optuna"), "tuning"),
}

app = typer.Typer(
    name="kubesight",
    help="AutoML for computer vision on Kubeflow: from labelled pictures to an evaluated, exported model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (data, models, pipeline, tune, weights):
    group.register(app)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"kubesight {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks, and more of what happens.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options that every command takes; `main` takes --debug out before this is asked."""


def main() -> None:
    """Run the command line. Exits with 0, 2 after a mistake of the user's, 130 after Ctrl-C."""
    arguments, debug = _take_debug(sys.argv[1:])
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("kubesight").setLevel(logging.DEBUG if debug else logging.INFO)
    try:
        app(arguments, prog_name="kubesight")
    except KubesightError as error:
        _fail(error, f"{error}", debug)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        hint = f"Install it with `pip install 'kubesight[{extra}]'`."
        _fail(error, f"this command needs {error.name}, which is not installed. {hint}", debug)
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise
        _fail(error, f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror}", debug)
    except KeyboardInterrupt:
        sys.exit(130)


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Take `--debug` out, wherever it stands before a `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    return options + arguments[end:], len(options) < end


def _fail(error: Exception, text: str, debug: bool) -> None:
    if debug:
        raise error
    print(f"error: {text}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
