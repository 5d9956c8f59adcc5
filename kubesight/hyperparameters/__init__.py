"""Every hyperparameter, declared once: the table, reading values, and the reference page."""

from kubesight.hyperparameters.flags import parse_flags
from kubesight.hyperparameters.page import reference_markdown, reference_table
from kubesight.hyperparameters.resolve import resolve, rows_for, settle
from kubesight.hyperparameters.spec import Hyperparameter
from kubesight.hyperparameters.table import TABLE

__all__ = [
    "TABLE",
    "Hyperparameter",
    "parse_flags",
    "reference_markdown",
    "reference_table",
    "resolve",
    "rows_for",
    "settle",
]
