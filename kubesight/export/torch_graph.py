"""Networks of torch as ONNX."""

import warnings
from abc import abstractmethod
from pathlib import Path

import torch
from torch import nn

from kubesight.export.graph import OPSET, Export


class TorchExport(Export):
    """A torch network on its way to `model.onnx`."""

    network: nn.Module

    @abstractmethod
    def deployed(self) -> nn.Module:
        """The network as it is exported, from uint8 pictures to the outputs."""

    @abstractmethod
    def example(self) -> torch.Tensor:
        """An input to trace the network with."""

    def weight_bytes(self) -> int:
        """See the base class."""
        return sum(value.nbytes for value in self.deployed().state_dict().values())

    def convert(self, file: Path) -> None:
        """See the base class."""
        try:
            # The tracing exporter: 0.3 s for a ResNet-18 and right for every named model, where the one built on
            # torch.export takes 4 s and fails on some of timm's (BEiT). It is deprecated, hence the warning unshown.
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    self.deployed().eval(), (self.example(),), str(file), dynamo=False, opset_version=OPSET,
                    input_names=[next(iter(self.axes))], output_names=self.outputs,
                    dynamic_axes={name: dict(axes) for name, axes in self.axes.items()},
                )  # fmt: skip
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise self.not_exportable(f"torch {torch.__version__}", str(error).splitlines()[0]) from error
