"""Runs one command and writes its seconds, processor time and peak memory to a file, as JSON.

Here: nothing else, and nothing is imported that is large. A process begins with the peak of the one
that started it, so a command must be started by a small one for its peak to be its own.
"""

import os
import sys
import time


def main():
    report, *command = sys.argv[1:]
    begun = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - begun
    with open(report, "w", encoding="utf-8") as file:
        cpu = usage.ru_utime + usage.ru_stime
        file.write(f'{{"seconds": {seconds}, "cpu": {cpu}, "peak_mib": {usage.ru_maxrss / 1024}}}')
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
