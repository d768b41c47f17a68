"""What ``batch_delay`` gives a script that sends in a loop: ``python -m benchmarks.sends``.

Prints calls of ``MeshSocket.send()`` a second, and deliveries at one neighbour in the same process, with
the delay and without; the median of five rounds, each of both in turn.
"""

from __future__ import annotations

import time
from statistics import median

from twisted_mesh import MeshConfig, MeshSocket

ROUNDS = 5
SENDS = 3_000


def once(delay: float) -> tuple[float, float]:
    """Calls and deliveries a second."""
    config = MeshConfig(batch_delay=delay)
    with (
        MeshSocket("127.0.0.1", 0, config=config) as ear,
        MeshSocket("127.0.0.1", 0, config=config) as mouth,
    ):
        assert ear.out_addr is not None
        mouth.connect(*ear.out_addr)
        ear.recv()  # from now on it keeps everything
        began = time.perf_counter()
        for number in range(SENDS):
            mouth.send(number)
        called = time.perf_counter() - began
        heard = 0
        while heard < SENDS:
            heard += len(ear.recv(SENDS, timeout=10))
        return SENDS / called, SENDS / (time.perf_counter() - began)


def main() -> None:
    """Measure."""
    delays = (MeshConfig().batch_delay, 0.0)
    results: dict[float, list[tuple[float, float]]] = {delay: [] for delay in delays}
    for _ in range(ROUNDS):
        for delay in delays:
            results[delay].append(once(delay))
    for delay, figures in results.items():
        calls, deliveries = (median(figure) for figure in zip(*figures, strict=True))
        print(f"batch_delay {delay * 1000:.0f} ms: {calls:7.0f} calls/s, {deliveries:7.0f} deliveries/s")


if __name__ == "__main__":
    main()
