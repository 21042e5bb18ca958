"""Ways of doing the same, taken in turn, each in a process of its own.

In one process the memory that a way takes and gives back would change the time of the others.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

Prepare = Callable[[str], Callable[[], object]]


def by_turns(prepare: Prepare, ways: Sequence[str], repeats: int, settling: int) -> dict[str, list[float]]:
    """CPU seconds of each way.

    Args:
        prepare: makes one ready, in its process; a function of a module, or a partial of one.
        ways: their names.
        repeats: times that each is timed.
        settling: times before, until memory that is kept has found its place.
    """
    spawn = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    for way in ways:
        pipes[way], theirs = spawn.Pipe()
        processes.append(spawn.Process(target=_time, args=(prepare, way, theirs), daemon=True))
        processes[-1].start()
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(settling + repeats):
        for way, pipe in pipes.items():
            pipe.send(True)
            times[way].append(pipe.recv())
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(False)
        process.join()
    return {way: seconds[settling:] for way, seconds in times.items()}


def _time(prepare: Prepare, way: str, pipe: Connection) -> None:
    """Run the way whenever asked to, and send the CPU seconds."""
    run = prepare(way)
    while pipe.recv():
        start = time.process_time()
        run()
        pipe.send(time.process_time() - start)


def ratios(times: dict[str, list[float]], ours: str) -> dict:
    """Medians, and those of the ratios to one of the ways."""
    return {
        "cpu_seconds": {name: statistics.median(values) for name, values in times.items()},
        f"times_as_long_as_{ours}": {
            name: statistics.median(a / b for a, b in zip(values, times[ours], strict=True))
            for name, values in times.items()
        },
    }
