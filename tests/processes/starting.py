"""Starts a script beside this file in several processes, as torchrun would, and waits for them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SECONDS = 240


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(n: int, script: str, *args: str, **environment: str) -> list[subprocess.Popen[str]]:
    """Start a script in n processes, each with what torchrun would tell it and some further variables."""
    port = free_port()
    told = {
        "WORLD_SIZE": str(n),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    return [
        subprocess.Popen(
            [sys.executable, str(HERE / script), *args],
            env={**os.environ, **told, **environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(n)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Wait for processes; return code, output and errors of each."""
    try:
        found = [(*p.communicate(timeout=SECONDS), p.returncode) for p in processes]
    finally:
        for p in processes:
            p.kill()
    return [(code, out, err) for out, err, code in found]
