"""Run one contestant in a process of its own and print what it took as one line of JSON."""

import argparse
import asyncio
import json
import time
from pathlib import Path

from bench import consume, publish
from bench.consume import Stopwatch


def main() -> None:
    """Read the case from the command line and run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--count", type=int, required=True)
    arguments = parser.parse_args()
    work = _publish if arguments.case in publish.CASES else _consume
    watch = asyncio.run(work(arguments.case, arguments.bootstrap, arguments.count))
    print(
        json.dumps(
            {
                "events": watch.counted,
                "seconds": watch.seconds,
                "cpu_seconds": watch.cpu_seconds,
                "peak_rss_mb": _peak_rss_mb(),
            }
        )
    )


def _peak_rss_mb() -> int:
    """Return the peak of this program; `ru_maxrss` would count the process it was forked from."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    return 0


async def _publish(case: str, bootstrap: str, count: int) -> Stopwatch:
    """Run the case once to warm up and once by the watch."""
    run = await publish.CASES[case](bootstrap, count)
    await run()
    watch = Stopwatch(count)
    wall, cpu = time.perf_counter(), time.process_time()
    await run()
    watch.seconds = time.perf_counter() - wall
    watch.cpu_seconds = time.process_time() - cpu
    watch.counted = count
    await run.close()
    return watch


async def _consume(case: str, bootstrap: str, count: int) -> Stopwatch:
    """Run the case once; its watch leaves the first batch out."""
    run = await consume.CASES[case](bootstrap, count)
    await run()
    await run.close()
    return run.watch


if __name__ == "__main__":
    main()
