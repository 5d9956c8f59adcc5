"""KFP faces of the library, one folder a step.

A component's body only reads paths, calls the library and logs what came out. KFP embeds its source text in the
compiled pipeline and runs it in a container that has kubesight installed, so a body sees no name of its module.
"""

from kubesight.images import image

IMAGE = image()
"""The image that most steps run in."""

KERAS_IMAGE = image("tensorflow")
"""The one for models of Keras."""
