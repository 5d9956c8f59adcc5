"""The service as a process: `python -m kubesight.tune.early_stopping`. Katib gives it no arguments."""

import argparse
import logging
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from kubesight.errors import ClusterError
from kubesight.tune.early_stopping.messages import PACKAGE
from kubesight.tune.early_stopping.service import SERVICE, EarlyStopping
from kubesight.tune.early_stopping.trials import Trials

log = logging.getLogger("kubesight")

PORT = 6788
GRACE_SECONDS = 5

_ENDS = {signal.SIGTERM, signal.SIGINT}


def make_server(service: EarlyStopping, address: str) -> tuple[grpc.Server, int]:
    """A server that is not started yet, with the standard health checks.

    Args:
        service: what answers.
        address: such as `0.0.0.0:6788`; port 0 takes a free one.

    Returns:
        the server and its port.

    Raises:
        ClusterError: the port is taken.
    """
    # Two services on one port would share its calls by chance.
    server = grpc.server(ThreadPoolExecutor(max_workers=4), options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((service.handler(),))
    checks = health.HealthServicer()
    for name in ("", f"{PACKAGE}.{SERVICE}", "manager.v1beta1.EarlyStopping"):
        checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ClusterError(f"cannot listen: {error}", where=address) from error
    return server, port


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m kubesight.tune.early_stopping", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--no-cluster", action="store_true", help="answer without Kubernetes: trials cannot be marked")
    options = parser.parse_args()
    # Before gRPC starts threads, which inherit it: a signal that one of them took would not wake this thread up.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        mark = _refuse if options.no_cluster else Trials.of_this_pod().mark_stopped
        server, port = make_server(EarlyStopping(mark), f"0.0.0.0:{options.port}")
    except ClusterError as error:
        sys.exit(f"error: {error}")
    server.start()
    log.info("early stopping on port %d", port)
    signal.sigwait(_ENDS)
    server.stop(GRACE_SECONDS).wait()


def _refuse(trial: str) -> None:
    raise ClusterError("this service was started with --no-cluster", where=f"trial {trial}")


if __name__ == "__main__":
    main()
