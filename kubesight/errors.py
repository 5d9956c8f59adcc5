"""What can go wrong, in words that the user can act on."""


class KubesightError(Exception):
    """A mistake that the user can mend. The command line prints it without a traceback and exits with 2.

    Args:
        message: what was wrong, quoting the value that was met.
        where: the file and line, field or URL that it was met at.
        hint: what to do about it.
    """

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        """Keep the three parts, so that callers can add a place to an error from deeper down."""
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        """`WHERE: MESSAGE. HINT`, with the parts that are known."""
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text.rstrip('.')}. {self.hint}" if self.hint else text


class DatasetError(KubesightError):
    """Pictures or labels that cannot be used as they are."""


class HyperparameterError(KubesightError):
    """An unknown hyperparameter, a value out of range, or one that the chosen model would ignore."""


class JobError(KubesightError):
    """A job file that cannot be read or contradicts itself."""


class StorageError(KubesightError):
    """A file or object that cannot be read or written."""


class ModelError(KubesightError):
    """A model, its weights or its folder that cannot be built, read or written."""


class ClusterError(KubesightError):
    """A Kubeflow or Kubernetes API that refuses or cannot be reached."""
