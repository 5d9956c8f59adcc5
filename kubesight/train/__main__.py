"""One of several training processes; see `kubesight.train.launch`."""

import json
import logging
import sys
from pathlib import Path

from kubesight.train.launch import run_process

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    sys.exit(run_process(json.loads(sys.argv[1]), Path(sys.argv[2])))
