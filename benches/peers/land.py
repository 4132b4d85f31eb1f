"""How quickly one delivery of CSV lands, beside peers that turn the same file into Parquet and do nothing else.

    python benches/peers/land.py [--rows 2000000] [--rounds 3]

Ours reads the file, checks every row against the contract (types, code lists, periods, a key that
may not come twice), makes pseudonyms of identity codes, and commits data and ledger to the lake. A peer finds out the types and writes a Parquet file. Each run is a process of its own; its
time is that of the whole process for ours, and for a peer from the call to the written file.
Every run of ours begins with a warehouse in which nothing has landed.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

import data
import lake as lakes
from run import binary

PEERS = {
    "DuckDB": """
import duckdb, sys, time
con = duckdb.connect(config={"threads": int(sys.argv[3])})
begun = time.perf_counter()
con.execute(f"COPY (SELECT * FROM read_csv('{sys.argv[1]}', delim = ';')) TO '{sys.argv[2]}' (FORMAT parquet)")
print(time.perf_counter() - begun)
""",
    "Polars": """
import os, sys, time
os.environ["POLARS_MAX_THREADS"] = sys.argv[3]
import polars as pl
begun = time.perf_counter()
pl.scan_csv(sys.argv[1], separator=";", try_parse_dates=True).sink_parquet(sys.argv[2])
print(time.perf_counter() - begun)
""",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--binary", type=Path, default=binary())
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-mib", type=int, default=1024)
    asked = parser.parse_args()
    if not asked.binary or not asked.binary.exists():
        parser.error("there is no binary: build it with `cargo build --release`, or name it with --binary")
    with tempfile.TemporaryDirectory() as folder:
        measure(asked, Path(folder))
    return 0


def measure(asked, folder):
    path, rows = extract(folder, asked.rows)
    size = path.stat().st_size / 1e6
    print(f"{path.name}: {rows} rows, {size:.0f} MB, {asked.threads} threads", flush=True)
    empty = lakes.Lake(folder / "empty")
    lakes.warehouse(empty, asked.binary, asked.threads, asked.memory_mib)
    taken = {name: [] for name in ("ours", *PEERS)}
    for turn in range(asked.rounds):
        taken["ours"].append(ours(asked, folder, empty, path, rows))
        for name, text in PEERS.items():
            out = folder / "peer.parquet"
            words = [sys.executable, "-c", text, path, out, asked.threads]
            taken[name].append(float(lakes.run(words)))
            out.unlink()
        print("  round", turn + 1, {name: round(of[-1], 2) for name, of in taken.items()}, flush=True)
    print("| | seconds | MB/s |\n|---|---:|---:|")
    for name, of in taken.items():
        seconds = statistics.median(of)
        print(f"| {name} | {seconds:.2f} | {size / seconds:.0f} |")


def extract(folder, rows):
    """The largest organiser's last year of care events as CSV, cut off after so many rows."""
    country = data.Country(lakes.REPOSITORY)
    rng = np.random.default_rng([1, 7])
    people = data.People(country, rows, rng)
    largest = country.counties[int(np.argmax(country.share))]
    # With some to spare: a year has a third of the events, and shares are drawn.
    whole = int(rows / country.share.max() / 0.3)
    found = data.care_events(country, people, whole, rng)
    county, period, parts = [of for of in found if of[0] == largest][-1]
    path = folder / f"bench_care_event_{county}_{period}.csv"
    written, writer = 0, None
    for part in parts:
        batch = pa.RecordBatch.from_pydict(part)
        batch = batch.slice(0, rows - written)
        writer = writer or pc.CSVWriter(path, batch.schema, write_options=pc.WriteOptions(delimiter=";"))
        writer.write_batch(batch)
        written += batch.num_rows
        if written == rows:
            break
    writer.close()
    return path, written


def ours(asked, folder, empty, path, rows):
    warehouse = folder / "warehouse"
    shutil.copytree(empty.warehouse, warehouse)
    words = [asked.binary, "-C", warehouse, "land", "--json", "bench_care_event", path]
    begun = time.perf_counter()
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise SystemExit(f"landing failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    landed = lakes.Lake(warehouse.parent).table("raw/bench_care_event")
    accepted = sum(row["num_records"] for row in lakes.files_of(landed))
    if accepted != rows:
        raise SystemExit(f"{rows} rows were written and {accepted} landed")
    shutil.rmtree(warehouse)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
