"""Names of the container images that steps and trials run in."""

import os

from kubesight import __version__

DEFAULT_REGISTRY = "ghcr.io/kubesight"


def image(family: str = "torch") -> str:
    """The container image of a dependency family, with this version's tag.

    The tag is never `latest`: KFP's cache keys hold the image's name, so a moving tag would serve stale results.
    `KUBESIGHT_IMAGE_REGISTRY` names another registry.
    """
    registry = os.environ.get("KUBESIGHT_IMAGE_REGISTRY") or DEFAULT_REGISTRY
    return f"{registry.rstrip('/')}/kubesight-{family}:{__version__}"
