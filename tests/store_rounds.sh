#!/bin/bash
# Kills a gateway with a store a hundred times under load (the test command does it five times), with the
# embedded broker and with Mosquitto: bash tests/store_rounds.sh [ROUNDS] [SEED]
set -euo pipefail
cd "$(dirname "$0")/.."
export STORE_ROUNDS=${1:-100} STORE_SEED=${2:-$RANDOM}
python=${PYTHON:-${E2E_CACHE:-tests/.cache}/venv/bin/python}
echo "rounds $STORE_ROUNDS, seed $STORE_SEED"
exec "$python" -m pytest -c tests/e2e/pytest.ini -q \
    tests/e2e/test_store.py::test_killed_at_any_moment \
    tests/e2e/test_store_broker.py::test_killed_with_commands_under_way
