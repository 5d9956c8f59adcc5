"""The job file: Azure's AutoML image job YAML, with additions of ours."""

from kubesight.job.job import Job, load_job, load_sagemaker

__all__ = ["Job", "load_job", "load_sagemaker"]
