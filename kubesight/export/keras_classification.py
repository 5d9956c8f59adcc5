"""A classifier of Keras as ONNX."""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from kubesight.dataset.images import read_image
from kubesight.dataset.rows import Task
from kubesight.dataset.stretch import stretch
from kubesight.export.classification import ClassifierExport
from kubesight.export.graph import OPSET


class KerasClassifierExport(ClassifierExport):
    """Of whole pictures, resized as the card says.

    A network with one output, for two classes, gets a second logit, which is always zero: the softmax of (0, z) is
    (1 - sigmoid(z), sigmoid(z)). So all files of single labels are used alike.
    """

    network: keras.Model
    resized = "resized, whole and without keeping the aspect ratio,"

    @property
    def size(self) -> int:
        """See the base class."""
        return self.card.stretch.size

    def read(self, urls: Sequence[str]) -> list[np.ndarray]:
        """Resized as the card says."""
        return [stretch(read_image(url, min_size=self.size), self.card.stretch) for url in urls]

    def weight_bytes(self) -> int:
        """See the base class."""
        return sum(weight.numpy().nbytes for weight in self.network.weights)

    def convert(self, file: Path) -> None:
        """See the base class."""
        try:
            with _quiet():
                deployed = self._traced()
                with _inlined():
                    captures = deployed.get_concrete_function().graph.captures
                graph, _ = tf2onnx.convert.from_function(
                    deployed, input_signature=deployed.input_signature, opset=OPSET,
                    custom_op_handlers={"Erfc": (_erfc, [])},
                )  # fmt: skip
        except (ValueError, RuntimeError, TypeError, AssertionError, LookupError) as error:
            raise self.not_exportable(_exporter(), (str(error) or repr(error)).splitlines()[0]) from error
        # It only logs what it does not know, and leaves it in the graph as it is.
        names = {(node.op_type, node.domain) for node in graph.graph.node}
        if unknown := sorted(name for name, domain in names if not onnx.defs.has(name, domain)):
            raise self.not_exportable(_exporter(), f"ONNX has no {', '.join(unknown)}")
        _embed_constants(graph.graph, captures)
        for value in (*graph.graph.input, *graph.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "n"
        onnx.save(graph, file)

    def answers(self, pictures: np.ndarray) -> list[np.ndarray]:
        """See the base class."""
        deployed = self._deployed(tf.constant(pictures))
        return [deployed[name].numpy() for name in self.outputs]

    @cached_property
    def _deployed(self) -> Any:
        """The network as TensorFlow runs it."""
        return self._traced()

    def _traced(self) -> Any:
        signature = [tf.TensorSpec([None, self.size, self.size, 3], tf.uint8, name="images")]
        return tf.function(self._outputs, input_signature=signature)

    def _outputs(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """From uint8 [n, size, size, 3] to probabilities and logits, both float32 [n, classes]."""
        logits = self.network(tf.cast(images, tf.float32), training=False)
        if self.card.binary:
            logits = tf.concat([tf.zeros_like(logits), logits], axis=1)
        multilabel = self.card.task is Task.MULTILABEL
        return {"probabilities": tf.sigmoid(logits) if multilabel else tf.nn.softmax(logits), "logits": logits}


def _embed_constants(graph: onnx.GraphProto, captures: Iterable[tuple[tf.Tensor, tf.Tensor]]) -> None:
    """Write into the graph what tf2onnx makes inputs: tensors that are no variables, as a Normalization keeps.

    Args:
        graph: is changed.
        captures: what the network's function took from outside, and its name for it.
    """
    constants = {inner.name: outer for outer, inner in captures if outer.dtype != tf.resource}
    for value in [value for value in graph.input if value.name in constants]:
        graph.initializer.append(onnx.numpy_helper.from_array(constants[value.name].numpy(), value.name))
        graph.input.remove(value)


def _erfc(graph: Any, node: Any, name: str, _: Any) -> None:
    """Write erfc, which the exact GELU is made of and ONNX lacks, as 1 - erf; a handler of tf2onnx."""
    node.type = "Erf"
    one = graph.make_const(f"{name}_one", np.array(1, np.float32))
    difference = graph.insert_new_node_on_output("Sub", node.output[0], name=f"{name}_difference")
    graph.replace_inputs(difference, [one.output[0], node.output[0]])


@contextlib.contextmanager
def _inlined() -> Iterator[None]:
    """Trace functions within functions as if they were not: Keras has such for XLA around grouped convolutions."""
    earlier = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(earlier)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what tf2onnx logs."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _exporter() -> str:
    return f"tf2onnx {tf2onnx.__version__}"
