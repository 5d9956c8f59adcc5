"""Any annotation format to a data set (a step of a run)."""

from kubesight.convert import coco, csv_file, folder, jsonl, voc
from kubesight.convert.conversion import convert
from kubesight.convert.registry import FORMATS

__all__ = ["FORMATS", "coco", "convert", "csv_file", "folder", "jsonl", "voc"]
