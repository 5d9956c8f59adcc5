r"""Katib's configuration with our algorithms in it.

```
kubectl get configmap katib-config -n kubeflow -o yaml | python -m kubesight.tune.early_stopping.config \
    | kubectl apply -f -
```
"""

import argparse
import copy
import sys
from typing import Any

import yaml

from kubesight.errors import ClusterError, KubesightError
from kubesight.images import image as image_of
from kubesight.tune.katib.policies import POLICIES

KEY = "katib-config.yaml"
IMAGE = image_of("early-stopping")
RESOURCES = {
    "requests": {"cpu": "50m", "memory": "128Mi", "ephemeral-storage": "64Mi"},
    # Katib's own default of 100Mi is less than Python with gRPC and Kubernetes' client takes.
    "limits": {"cpu": "500m", "memory": "256Mi", "ephemeral-storage": "1Gi"},
}


def algorithms(image: str = IMAGE) -> list[dict[str, Any]]:
    """The entries of `runtime.earlyStoppings`: one image for all, since each request names its algorithm."""
    return [
        {"algorithmName": name, "image": image, "imagePullPolicy": "IfNotPresent", "resources": RESOURCES}
        for name in POLICIES
    ]


def with_algorithms(config_map: dict[str, Any], image: str = IMAGE) -> dict[str, Any]:
    """A ConfigMap `katib-config` with our algorithms, in place of earlier entries of the same names.

    Args:
        config_map: as `kubectl get configmap katib-config -o yaml` prints it.
        image: of the service.

    Returns:
        one that `kubectl apply` takes: what the API server manages is left out.

    Raises:
        ClusterError: it is no configuration of Katib 0.16 or later.
    """
    text = (config_map.get("data") or {}).get(KEY)
    config = yaml.safe_load(text) if isinstance(text, str) else None
    if not isinstance(config, dict) or not isinstance(config.get("runtime"), dict):
        raise ClusterError(
            f"there is no {KEY} with a runtime section in it",
            where=f"ConfigMap {(config_map.get('metadata') or {}).get('name')}",
            hint="Katib 0.16 and later keep it in the ConfigMap katib-config of its own namespace.",
        )
    runtime = config["runtime"]
    others = [each for each in runtime.get("earlyStoppings") or [] if each.get("algorithmName") not in POLICIES]
    runtime["earlyStoppings"] = copy.deepcopy([*others, *algorithms(image)])
    kept = {name: value for name, value in config_map["metadata"].items() if name in ("name", "namespace", "labels")}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": kept,
        "data": {**config_map["data"], KEY: yaml.safe_dump(config, sort_keys=False)},
    }


def main() -> None:
    """Read a ConfigMap from standard input, print the changed one."""
    parser = argparse.ArgumentParser(
        prog="python -m kubesight.tune.early_stopping.config", description="Add our algorithms to Katib's ConfigMap."
    )
    parser.add_argument("--image", default=IMAGE, help="of the service; default: %(default)s")
    options = parser.parse_args()
    try:
        given = yaml.safe_load(sys.stdin)
        if not isinstance(given, dict):
            raise ClusterError("standard input is no ConfigMap", where="katib-config")
        print(yaml.dump(with_algorithms(given, options.image), Dumper=_Dumper, sort_keys=False), end="")
    except (KubesightError, yaml.YAMLError) as error:
        sys.exit(f"error: {error}")


class _Dumper(yaml.SafeDumper):
    """Writes the configuration inside the ConfigMap as a block that people can read."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        return True


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _block)

if __name__ == "__main__":
    main()
