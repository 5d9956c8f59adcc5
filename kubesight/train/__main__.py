"""One of several training processes; see `kubesight.train.launch`."""

import json
import logging
import sys
from pathlib import Path

from kubesight.errors import KubesightError
from kubesight.train.launch import leave_error
from kubesight.train.trainer import train

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        train(**json.loads(sys.argv[1]))
    except KubesightError as error:
        leave_error(error, Path(sys.argv[2]))
        sys.exit(2)
