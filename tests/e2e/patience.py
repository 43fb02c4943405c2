"""How long tests wait for what must come."""

import os


def patient(timeout):
    """How long to wait for what comes within `timeout` seconds on a machine that does nothing else."""
    return timeout * float(os.environ.get("E2E_PATIENCE", "1"))
