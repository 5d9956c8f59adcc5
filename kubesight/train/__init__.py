"""One training loop; engines of torch and of TensorFlow, and tasks, plug in."""

import os

# Read when torch loads GNU OpenMP. Threads that wait by spinning for long starve the one they wait for as soon as
# anything else wants a core: on two cores beside a test run, 20 images a second against 116.
# Short spins cost nothing there and keep the speed of an idle machine.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
