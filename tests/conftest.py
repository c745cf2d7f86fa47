"""Threads for the tests: with a test worker a core, one each; more would spend their time waiting."""

import os

os.environ.setdefault("GEOVQ_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
