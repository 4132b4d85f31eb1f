"""Ours and the peers, side by side: one lake, one machine, the same questions.

    python benches/peers/run.py [--rows 20000000] [--rounds 5] [--only q1,q2]

Here: the order of runs, medians, the comparison of answers, and the tables. Rounds go over the
questions, and within a question over the engines, beginning with another one each time, so that what
disturbs the machine disturbs all. Every answer of the first round is compared; one that differs
fails the run.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

import lake as lakes
from ours import Failed, Ours
from work import WORKS, answer_of, differences

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tietopohja" / "peers"
PEERS = ("duckdb", "polars", "chdb", "datafusion")
NATIVE = "duckdb_native"
TITLES = {"duckdb": "DuckDB", NATIVE: "DuckDB, native", "polars": "Polars", "chdb": "chDB", "datafusion": "DataFusion"}
SCALED = ("q1", "q2", "q5", "fused")


def main():
    asked = arguments()
    if asked.scale_rows:
        return scale(asked)
    lake = lakes.Lake(asked.lake or CACHE / str(asked.rows))
    made = make(asked, lake, asked.rows)
    results = measure(asked, lake, made, chosen(asked.only), asked.rounds)
    print(table(results))
    if wrong(results):
        return failed(results)
    if asked.write:
        path = REPOSITORY / "docs/reference/performance.md"
        path.write_text(page(results), encoding="utf-8")
        print(f"written: {path}")
    return 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000, help="care events; other tables follow")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="questions, such as q1,q2")
    parser.add_argument("--engines", default="", help="such as ours,duckdb; all of them without it")
    help_ = "the tietopohja that makes the lake and is measured"
    parser.add_argument("--binary", type=Path, default=binary(), help=help_)
    parser.add_argument("--lake", type=Path, help="where the lake is, or will be made")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-mib", type=int, default=1024, help="what ours may use for queries")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--make-only", action="store_true", help="make the lake and measure nothing")
    parser.add_argument("--scale-rows", default="", help="growth over several sizes, such as 5000000,20000000")
    parser.add_argument("--write", action="store_true", help="write docs/reference/performance.md")
    asked = parser.parse_args()
    if not asked.binary or not asked.binary.exists():
        parser.error("there is no binary: build it with `cargo build --release`, or name it with --binary")
    return asked


def command(asked, made, works, rounds):
    """The command that measures the same again; where the binary and the lake lie is nobody's matter."""
    words = ["python benches/peers/run.py", f"--rows {made['rows']}", f"--rounds {rounds}", f"--seed {made['seed']}"]
    words += [f"--threads {asked.threads}", f"--memory-mib {asked.memory_mib}"]
    if len(works) < len(WORKS):
        words.append(f"--only {','.join(work.name for work in works)}")
    if asked.engines:
        words.append(f"--engines {asked.engines}")
    return " ".join(words)


def binary():
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    for profile in ("release", "debug"):
        if (target / profile / "tietopohja").exists():
            return target / profile / "tietopohja"
    return None


def chosen(only):
    names = [name.strip().lower() for name in only.split(",") if name.strip()]
    known = [work.name for work in WORKS]
    for name in names:
        if name not in known:
            raise SystemExit(f"there is no question `{name}`; there are {', '.join(known)}")
    # A question that another one's runs stand for brings that one along.
    names += [other for work in WORKS if work.name in names for other in (work.peers, work.ours) if other]
    return [work for work in WORKS if not names or work.name in names]


def engines(asked):
    names = [name.strip() for name in asked.engines.split(",") if name.strip()]
    return tuple(names) or (*PEERS, NATIVE, "ours")


def make(asked, lake, rows):
    print(f"lake of {rows} care events: {lake.folder}", flush=True)
    made = lakes.make(lake, asked.binary, rows, asked.seed, asked.threads, asked.memory_mib)
    # The settings are those of this run, whoever made the lake.
    settings = lakes.SETTINGS.format(threads=asked.threads, memory=asked.memory_mib)
    (lake.warehouse / "tietopohja.toml").write_text(settings, encoding="utf-8")
    if asked.make_only:
        sys.exit(0)
    return made


def measure(asked, lake, made, works, rounds):
    """Runs everything; gives all that a table needs, and keeps it beside the lake."""
    ours = Ours(asked.binary, lake)
    taking_part = engines(asked)
    if NATIVE in taking_part and any(work.native for work in works):
        child(asked, lake, NATIVE, "q1", lake.folder / "none", "--make")
    answers = lake.folder / "answers"
    answers.mkdir(exist_ok=True)
    results = {
        "at": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "command": command(asked, made, works, rounds),
        "machine": machine(),
        "made": made,
        "care_event_bytes": lakes.size_of(lake, "care_event"),
        "threads": asked.threads,
        "memory_mib": asked.memory_mib,
        "versions": {"ours": f"{ours.version()} ({asked.binary.parent.name} build)"},
        "works": [work.name for work in works],
        "alone": {},
        "runs": [],
        "load": [],
        "differences": {},
        "failures": {},
        "facts": ours.store(works) if "ours" in taking_part else {},
    }
    for round_ in range(rounds):
        results["load"].append([round(value, 2) for value in os.getloadavg()])
        for work in works:
            order = [engine for engine in taking_part if takes_part(engine, work, works)]
            turn = round_ % max(len(order), 1)
            compared = {}
            for engine in order[turn:] + order[:turn]:
                file = answers / f"{work.name}.{engine}"
                if results["failures"].get(work.name, {}).get(engine):
                    continue
                try:
                    if engine == "ours":
                        run = ours.run(work, file)
                    else:
                        run = child(asked, lake, engine, work.name, file)
                        results["versions"][engine] = run.pop("version")
                except Failed as failure:
                    results["failures"].setdefault(work.name, {})[engine] = str(failure)
                    print(f"  round {round_ + 1} {work.name:6} {engine:13} FAILED: {failure}", flush=True)
                    file.unlink(missing_ok=True)
                    continue
                if run.get("alone"):
                    results["alone"][work.name] = run["alone"]
                results["runs"].append({"round": round_, "work": work.name, "engine": engine} | run)
                print(f"  round {round_ + 1} {work.name:6} {engine:13} {told(run)}", flush=True)
                if round_ == 0:
                    found = ours.answer(work, file) if engine == "ours" else pq.read_table(file)
                    compared[engine] = answer_of(work, found)
            if round_ == 0:
                compare(asked, lake, work, compared, answers, results)
    results["start"] = ours.start_seconds() if "ours" in taking_part else None
    lake.results.mkdir(exist_ok=True)
    kept = lake.results / f"{datetime.datetime.now():%Y%m%d-%H%M%S}.json"
    kept.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return results


def takes_part(engine, work, works):
    """Whether an engine runs a question itself: another question's runs may stand for it."""
    names = [other.name for other in works]
    if engine == "ours":
        return work.ours not in names
    if engine == NATIVE:
        return work.native
    return work.peers not in names


def compare(asked, lake, work, compared, answers, results):
    """Compares the answers of a question; what the runs of another question give is looked up."""
    for stands, engine_is_ours in ((work.peers, False), (work.ours, True)):
        source = next((other for other in WORKS if other.name == stands), None)
        if source is None:
            continue
        for engine in engines(asked):
            file = answers / f"{source.name}.{engine}"
            if (engine == "ours") != engine_is_ours or engine in compared:
                continue
            if not answered(results, source, engine, file):
                continue
            if engine == "ours":
                found = Ours(asked.binary, lake).answer(source, file)
            else:
                found = pq.read_table(file)
            compared[engine] = answer_of(work, found)
    if len(compared) < 2:
        return
    first, *others = compared
    print(f"  {work.name}: {len(compared[first])} rows", end="")
    for other in others:
        found = differences(work, compared[first], compared[other])
        print(f", {other} {'DIFFERS from ' + first if found else 'agrees'}", end="")
        if found:
            results["differences"].setdefault(work.name, {})[f"{first} and {other}"] = found
    print(flush=True)


def answered(results, work, engine, file):
    """Whether an engine has answered a question in this run."""
    ran = any(run["work"] == work.name and run["engine"] == engine for run in results["runs"])
    return ran and (engine == "ours" or file.exists())


def child(asked, lake, engine, work, file, *more):
    """One peer, one question, one process."""
    words = [sys.executable, HERE / "child.py", engine, work, lake.view, file, "--threads", asked.threads, *more]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{engine} gave {done.returncode}: {done.stderr[-1500:]}")
    return json.loads(done.stdout.splitlines()[-1]) if not more else {}


def told(run):
    scan = f"scan {run['scan']:.2f} " if run.get("scan") else ""
    gave_way = f" GAVE WAY: {run['gave_way'][0][:80]}" if run.get("gave_way") else ""
    return f"{scan}{run['seconds']:.2f} s (processor {run['cpu']:.2f}) {run['peak_mib']:.0f} MiB{gave_way}"


def wrong(results):
    """Whether answers differ, or ours has none. A peer that gives up is told in the table."""
    return bool(results["differences"]) or any("ours" in found for found in results["failures"].values())


def failed(results):
    for work, found in results["failures"].items():
        for engine, message in found.items():
            print(f"{work}: {engine} failed: {message}")
    for work, pairs in results["differences"].items():
        for pair, found in pairs.items():
            print(f"{work}: {pair} differ:")
            for line in found:
                print(f"    {line}")
    return 1


# Tables.


def median(results, work, engine, what):
    values = [
        run[what]
        for run in results["runs"]
        if run["work"] == work and run["engine"] == engine and run.get(what) is not None
    ]
    return statistics.median(values) if values else None


def lines(results):
    """Of each question: seconds of each engine, and what they are to each other."""
    for name in results["works"]:
        work = next(work for work in WORKS if work.name == name)
        peers_of = work.peers if work.peers in results["works"] else name
        ours_of = work.ours if work.ours in results["works"] else name
        peers = {peer: median(results, peers_of, peer, "seconds") for peer in PEERS}
        peaks = [median(results, peers_of, peer, "peak_mib") for peer in PEERS]
        known = [seconds for seconds in peers.values() if seconds is not None]
        scan = median(results, ours_of, "ours", "scan")
        if results["alone"].get(ours_of) or (work.sql and not work.indicators):
            scan = None
        yield {
            "work": work,
            "peers": peers,
            "native": median(results, name, NATIVE, "seconds"),
            "best": min(known) if known else None,
            "scan": scan,
            "whole": median(results, ours_of, "ours", "seconds"),
            "failed": results["failures"].get(peers_of, {}).keys() | (
                {"ours"} & results["failures"].get(ours_of, {}).keys()
            ),
            "peak_peers": min((peak for peak in peaks if peak is not None), default=None),
            "peak_ours": median(results, ours_of, "ours", "peak_mib"),
        }


def number(value):
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(one, other):
    return "–" if one is None or not other else f"{one / other:.2f}"


HEADS = [
    "work",
    *(TITLES[engine] for engine in (*PEERS, NATIVE)),
    "ours, scan",
    "ours, whole",
    "best / scan",
    "best / whole",
    "MiB, least of peers",
    "MiB, ours",
    "ours is",
]


def cells(line):
    return [
        line["work"].title,
        *("failed" if peer in line["failed"] else number(line["peers"][peer]) for peer in PEERS),
        number(line["native"]),
        number(line["scan"]),
        "failed" if "ours" in line["failed"] else number(line["whole"]),
        ratio(line["best"], line["scan"]),
        ratio(line["best"], line["whole"]),
        "–" if line["peak_peers"] is None else f"{line['peak_peers']:.0f}",
        "–" if line["peak_ours"] is None else f"{line['peak_ours']:.0f}",
        line["work"].how,
    ]


def markdown(heads, rows):
    """A table whose columns of numbers stand to the right; those that do not are words."""
    rows = [[str(cell) for cell in row] for row in rows]
    words = {at for at in range(len(heads)) if heads[at] in ("work", "ours is", "table")}
    rule = "|".join("---" if at in words else "---:" for at in range(len(heads)))
    return "\n".join(["| " + " | ".join(heads) + " |", f"|{rule}|", *("| " + " | ".join(row) + " |" for row in rows)])


def table(results):
    parts = [markdown(HEADS, [cells(line) for line in lines(results)]), markdown(SPENT_HEADS, spent(results))]
    return "\n" + "\n\n".join(parts) + "\n"


SPENT_HEADS = ["work", "scan", "values and own queries", "commit", "the rest", "query after", "whole"]


def spent(results):
    """Where ours spends its time, by question."""
    for line in lines(results):
        name = line["work"].ours if line["work"].ours in results["works"] else line["work"].name
        if name != line["work"].name:
            continue
        scan, values, commit, query, whole = (
            median(results, name, "ours", what) for what in ("scan", "values", "commit", "query", "seconds")
        )
        if whole is None:
            continue
        rest = None if values is None else max(whole - scan - values - commit - (query or 0), 0)
        yield [line["work"].title, *(number(part) for part in (scan, values, commit, rest, query, whole))]


def machine():
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    models = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "model": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def spaced(number_):
    return f"{number_:,}".replace(",", " ")


def page(results):
    """`docs/reference/performance.md`."""
    machine_, made = results["machine"], results["made"]
    megabytes = results["care_event_bytes"] / 1e6
    gave_up = "".join(
        f" {TITLES[engine]} gave up on {name}." for name, found in results["failures"].items() for engine in found
    )
    tables = [[f"`{name}`", spaced(found["rows"]), found["files"]] for name, found in made["tables"].items()]
    stored = ", ".join(
        f"`{name}` {spaced(fact['rows'])} rows in {number(fact['seconds'])} s" for name, fact in results["facts"].items()
    )
    stored = f"\nStored once before, for calculation, and not part of the seconds: {stored}.\n" if stored else ""
    versions = ", ".join(results["versions"][engine] for engine in ("ours", *PEERS) if engine in results["versions"])
    alone = "\n".join(
        f"* {name}: {', '.join(components)}"
        for name, components in results["alone"].items()
        if components and name in results["works"]
    )
    alone = f"\nComponents with a query of their own, which no scan holds:\n\n{alone}\n" if alone else ""
    return f"""\
# Performance

Written by `benches/peers/run.py`; do not edit. [What is measured, and how](../../benches/peers/README.md).

* Machine: {machine_['model']}, {machine_['cores']} cores, {machine_['memory_gib']} GiB, {machine_['system']}
* Versions: {versions}
* Threads: {results['threads']}; memory that ours may use for queries: {results['memory_mib']} MiB
* Command: `{results['command']}`, {results['at']}
* Load of the machine when each round began: {', '.join(str(load[0]) for load in results['load'])}
* Care events: {spaced(made['rows'])} rows, {spaced(made['persons'])} persons, {megabytes:.0f} MB of Parquet

{markdown(["table", "rows", "files"], tables)}
{stored}
Median seconds of {len(results['load'])} rounds over the same Parquet files, warm. All answers agreed: whole numbers
exactly, others to 1e-9.{gave_up} *Scan* is what `calc` spends on components in shared scans, *whole* is
all of it: components, values of every area and period, protection and the commit; SQL is a fresh
process, of which {results['start']:.2f} s is its start.

{markdown(HEADS, [cells(line) for line in lines(results)])}

What the seconds of ours are made of:

{markdown(SPENT_HEADS, spent(results))}
{alone}"""


def scale(asked):
    """The same questions over lakes of several sizes: seconds for each million rows should not grow."""
    sizes = sorted(int(size) for size in asked.scale_rows.split(","))
    works = chosen(asked.only or ",".join(SCALED))
    rows, bad = [], 0
    for size in sizes:
        lake = lakes.Lake((asked.lake or CACHE) / str(size))
        results = measure(asked, lake, make(asked, lake, size), works, asked.rounds)
        bad |= failed(results) if wrong(results) else 0
        for line in lines(results):
            rows.append(
                [
                    line["work"].title,
                    f"{size / 1e6:g}",
                    number(line["best"]),
                    number(line["scan"]),
                    number(line["whole"]),
                    *(number(v * 1e6 / size if v else None) for v in (line["best"], line["scan"], line["whole"])),
                    "–" if line["peak_peers"] is None else f"{line['peak_peers']:.0f}",
                    "–" if line["peak_ours"] is None else f"{line['peak_ours']:.0f}",
                    line["work"].how,
                ]
            )
    heads = ["work", "M rows", "best peer", "scan", "whole", "best / M", "scan / M", "whole / M",
             "MiB, least of peers", "MiB, ours", "ours is"]
    order = {work.title: at for at, work in enumerate(works)}
    print("\n" + markdown(heads, sorted(rows, key=lambda row: (order[row[0]], float(row[1])))))
    return bad


if __name__ == "__main__":
    sys.exit(main())
