"""One peer answers one question, in a process of its own, so that its memory is its own.

Prints a line of JSON: the version, the seconds of the answer by the clock and of the processor, and
the peak of memory. Opening files and handing the answer over are not in the seconds.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine")
    parser.add_argument("work")
    parser.add_argument("view", type=Path)
    parser.add_argument("answer", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--make", action="store_true", help="make what the engine needs of its own, once")
    asked = parser.parse_args()
    # Polars and Arrow read these when they are first imported.
    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "ARROW_IO_THREADS"):
        os.environ[name] = str(asked.threads)

    import pyarrow.parquet as pq

    from engines import ENGINES, stitch
    from work import WORKS, answer_of, to_table

    engine = ENGINES[asked.engine]()
    if asked.make:
        engine.make(asked.view, asked.threads)
        return
    work = next(work for work in WORKS if work.name == asked.work)
    engine.open(asked.view, asked.threads)
    begun, used = time.perf_counter(), time.process_time()
    found = engine.ask(asked.work)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    peak = peak_mib()
    table = stitch(found) if work.one_by_one else found
    pq.write_table(to_table(work, answer_of(work, table)), asked.answer)
    print(json.dumps({"version": engine.version(), "seconds": seconds, "cpu": cpu, "peak_mib": peak}))


def peak_mib():
    """The most memory that the process has held, in MiB; not that of the one that started it."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return None


if __name__ == "__main__":
    sys.exit(main())
