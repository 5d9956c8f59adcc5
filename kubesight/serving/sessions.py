"""What runs a network: which library, on a device of torch's, or in a session of onnxruntime's."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kubesight.errors import ModelError
from kubesight.modelcard import ONNX_FILE, ModelCard

if TYPE_CHECKING:  # neither is needed to serve with the other
    import onnxruntime
    import torch

Backend = Literal["torch", "tensorflow", "onnx"]


def chosen_backend(card: ModelCard, backend: Backend | None, model_dir: Path) -> Backend:
    """The backend that is asked for; by default the framework that trained the model.

    Raises:
        ModelError: the other framework is asked for.
    """
    if backend in (None, "onnx", card.framework):
        return backend or card.framework
    raise ModelError(
        f"{card.model_name} was trained with {card.framework}, so {backend} cannot run it", where=str(model_dir),
        hint=f"Leave the backend out, or name {card.framework} or onnx.",
    )  # fmt: skip


def torch_device(device: str | None) -> "torch.device":
    """The device of this name; by default the first GPU when there is one."""
    import torch

    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def open_session(model_dir: Path, device: str | None) -> "onnxruntime.InferenceSession":
    """The exported model of a model folder, ready to run.

    Args:
        model_dir: the model folder.
        device: `cpu`, `cuda` or `cuda:N`; by default a GPU when onnxruntime can use one.

    Raises:
        ModelError: the model has not been exported, or onnxruntime cannot use the device.
    """
    import onnxruntime

    file = model_dir / ONNX_FILE
    if not file.is_file():
        raise ModelError("not exported yet", where=str(file), hint=f"Run `kubesight export --model {model_dir}`.")
    wanted = ["CPUExecutionProvider"] if device == "cpu" else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    available = onnxruntime.get_available_providers()
    if device and device.startswith("cuda") and "CUDAExecutionProvider" not in available:
        raise ModelError(
            f"this onnxruntime cannot use {device}; it has {', '.join(available)}", where=str(file),
            hint="Install onnxruntime-gpu, or use the CPU.",
        )  # fmt: skip
    return onnxruntime.InferenceSession(str(file), providers=[name for name in wanted if name in available])
