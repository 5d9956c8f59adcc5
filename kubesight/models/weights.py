"""Getting torch's weights, fitting them to a network, and keeping them. Only safetensors and tensors are ever read."""

import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import safetensors.torch
import timm
import torch
from safetensors import SafetensorError
from torch import nn

from kubesight.errors import ModelError
from kubesight.modelcard import WEIGHTS_FILE, ModelCard
from kubesight.models.files import NO_DOWNLOAD_HINT, fetch, probe
from kubesight.models.head import has_prefix, head_prefixes, start_anew
from kubesight.models.names import ModelSpec
from kubesight.storage.files import atomic_file, sha256_file

State = dict[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_KINDS = {"weight", "bias", "running_mean", "running_var"}
_log = logging.getLogger("kubesight")


def save_weights(module: nn.Module, path: Path | str) -> None:
    """Write a network's state dict as safetensors, atomically."""
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    with atomic_file(path) as stream:
        stream.write(safetensors.torch.save(state, metadata={"format": "pt"}))


def load_weights(module: nn.Module, path: Path | str) -> None:
    """Load what `save_weights` wrote; every name and shape must agree.

    Raises:
        ModelError: the file is missing, broken, or of another network.
    """
    fit(module, read_state_dict(Path(path)), [], name=str(path), by_order=False)


def library_weights(name: str) -> Path:
    """The file of the weights that timm publishes for `name`: from its cache, or downloaded into it.

    The library alone tries for nearly a minute before it gives up without a network, so the host is probed first.

    Raises:
        ModelError: there are none, or they cannot be downloaded.
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        raise ModelError(f"timm publishes no weights for {name}", where="weights", hint=NO_DOWNLOAD_HINT)
    if not config.hf_hub_id:
        return fetch(str(config.url))[0]
    repository, file = config.hf_hub_id, config.hf_hub_filename or "model.safetensors"
    cached = huggingface_hub.try_to_load_from_cache(repository, file)
    if isinstance(cached, str):
        return Path(cached)
    try:
        probe(huggingface_hub.constants.ENDPOINT)
        return Path(huggingface_hub.hf_hub_download(repository, file))
    except Exception as error:  # the hub raises the errors of whichever HTTP client it was built on
        raise ModelError(
            f"the weights of {name} ({repository}/{file}) cannot be downloaded: {error}",
            where="weights",
            hint=NO_DOWNLOAD_HINT,
        ) from error


def published(url: str, what: str) -> Path:
    """The file of weights that torchvision publishes: from torch hub's cache folder, or downloaded into it.

    Args:
        url: the address; its file name ends with the start of the file's SHA-256, which is checked.
        what: what to call them in messages.

    Raises:
        ModelError: they cannot be downloaded.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    if path.is_file():
        return path
    try:
        probe(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), path.stem.rpartition("-")[2], progress=False)
    except (OSError, RuntimeError) as error:  # the latter when the file's hash is another one
        raise ModelError(
            f"the weights of {what} cannot be downloaded: {error}", where=url, hint=NO_DOWNLOAD_HINT
        ) from error
    return path


def model_folder_state(
    spec: ModelSpec, module: nn.Module, folder: Path, classes: Sequence[str] | None
) -> tuple[State, dict[str, Any], ModelCard]:
    """The tensors of a model folder to go on from, the record of it, and its card.

    Args:
        spec: the architecture.
        module: its network, for the classes to come.
        folder: the model folder.
        classes: the class names in index order; when they are the folder's, its classifier's tensors are kept.

    Raises:
        ModelError: the folder holds another architecture, or its weights cannot be read.
    """
    card = ModelCard.load(folder)
    if card.model_name != spec.name:
        raise ModelError(
            f"the model to go on from is a {card.model_name}, not a {spec.name}",
            where=str(folder),
            hint=f"Set model_name to {card.model_name}, or name other weights.",
        )
    state = read_state_dict(folder / WEIGHTS_FILE)
    same = classes is not None and list(classes) == card.classes
    if not same:
        heads = head_prefixes(module)
        state = {key: value for key, value in state.items() if not has_prefix(key, heads)}
    record: dict[str, Any] = {"source": "model", "detail": str(folder), "sha256": sha256_file(folder / WEIGHTS_FILE)}
    _log.info(
        "going on from the model in %s; its classifier is %s", folder,
        "kept" if same else "started anew, since its classes are not those of the data",
    )  # fmt: skip
    return state, record, card


def read_state_dict(path: Path) -> State:
    """The tensors of a file, out of the usual wrappers (`{"state_dict": ...}`, `module.` before every name).

    Raises:
        ModelError: it is missing, holds pickled objects, or holds no state dict.
    """
    try:
        with open(path, "rb") as stream:
            start = stream.read(9)
        if start[8:9] == b"{":  # safetensors: the length of a JSON header, then the header
            return _unwrap(safetensors.torch.load_file(path), path)
        return _unwrap(torch.load(path, map_location="cpu", weights_only=True), path)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    except SafetensorError as error:
        raise ModelError(f"broken safetensors file: {error}", where=str(path)) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            f"not a file of weights, or one with pickled objects, which could run code and are never loaded "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})",
            where=str(path),
            hint="Save the state dict alone, best as safetensors.",
        ) from error


def _unwrap(content: Any, path: Path) -> State:
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    state = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)} if isinstance(content, dict) else {}
    if not state:
        raise ModelError("no state dict in this file", where=str(path), hint="Save `model.state_dict()`.")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def fit(module: nn.Module, state: State, heads: list[str], *, name: str, by_order: bool = True) -> str:
    """Load `state` into `module`: by names, else tensor by tensor when all ordered shapes agree.

    The classifier's tensors may be missing or of another size: then it starts anew, from zero.

    Args:
        module: the network, changed in place.
        state: the tensors.
        heads: prefixes of the classifier's names; empty to insist on every tensor.
        name: what to call the weights in messages.
        by_order: whether other names are allowed.

    Returns:
        What was done, in words.

    Raises:
        ModelError: they do not fit; the first mismatches are given.
    """
    # The counters of batch-norm layers change nothing, and many files leave them out.
    given = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    wanted = {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    body = [key for key in wanted if not has_prefix(key, heads)]
    how = "taken by name"
    if by_order and not any(key in given for key in body):
        given = _rename(given, wanted, body)
        how = "names differ from the network's, ordered shapes all agree: taken in order"
    anew = [key for key in wanted if has_prefix(key, heads)]
    if all(key in given and given[key].shape == wanted[key].shape for key in anew):
        anew = []
    problems = _mismatches(given, wanted, set(anew))
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise ModelError(
            f"the weights do not fit the network: {shown}", where=name,
            hint="Use weights of the same architecture.",
        )  # fmt: skip
    if anew:
        how += f"; the classifier ({', '.join(anew)}) is not there in this size and starts anew"
        start_anew(module)
    module.load_state_dict({key: value for key, value in given.items() if key not in anew}, strict=False)
    return how


def _rename(given: State, wanted: State, body: list[str]) -> State:
    """Give the n-th tensor the n-th name, when count, shapes and kinds agree outside the classifier."""
    targets = body if len(given) == len(body) else list(wanted)
    if len(given) != len(targets):
        return given
    pairs = list(zip(targets, given.items(), strict=True))
    inside = set(body)
    for target, (source, value) in pairs:
        kinds = {target.rpartition(".")[2], source.rpartition(".")[2]}
        if target in inside and (value.shape != wanted[target].shape or (len(kinds) == 2 and kinds <= _KINDS)):
            return given
    return {target: value for target, (_, value) in pairs}


def _mismatches(given: State, wanted: State, anew: set[str]) -> list[str]:
    def shape(value: torch.Tensor) -> str:
        return str(list(value.shape))

    shapes = [
        f"{key} is {shape(given[key])}, not {shape(wanted[key])}"
        for key in wanted
        if key in given and key not in anew and given[key].shape != wanted[key].shape
    ]
    missing = [f"{key} {shape(wanted[key])} is missing" for key in wanted if key not in given and key not in anew]
    extra = [f"{key} {shape(given[key])} is not in the network" for key in given if key not in wanted]
    return shapes + missing + extra
