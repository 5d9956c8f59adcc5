"""kubesight: AutoML for computer vision on Kubeflow."""

__version__ = "0.1.0"
