"""Ours: the same work as indicators and SQL, each time in a fresh process of the binary.

Here: running `calc` and `sql`, their seconds and peak memory, and the answer read from the tables
that a run leaves. Seconds of a scan and of the whole run are those that `calc` reports itself; a
query is measured from outside and holds the start of the process.
"""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from engines import CLASSES, MEASURES, QUERIES
from lake import sixty_id, sixty_ids

HERE = Path(__file__).parent


class Failed(Exception):
    """A run that gave no answer, with what it said, and what it wrote all the same."""

    def __init__(self, message, output=""):
        super().__init__(message)
        self.output = output


class Ours:
    """One binary over one lake."""

    def __init__(self, binary, lake):
        self.binary = Path(binary).resolve()
        self.lake = lake

    def version(self):
        done = subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def components(self, id_):
        """The components of an indicator, as its definition names them."""
        path = self.lake.warehouse / f"definitions/indicators/{id_}.toml"
        text = tomllib.loads(path.read_text(encoding="utf-8"))
        names = [side for side in ("numerator", "denominator") if "from" in text.get(side, {})]
        names += list(text.get("component", {}))
        if "duration" in text:
            names += ["waits", *(out["name"] for out in text["output"] if out["stat"] == "share_over")]
        return {f"{id_}/{name}" for name in names}

    def ids(self, work):
        if work.name in ("sixty", "fused", "protected"):
            return sixty_ids(work.name == "protected")
        return work.indicators

    def start_seconds(self):
        """What a process costs that has nothing to do."""
        _, used = self.spawn("sql", "SELECT 1")
        return used["seconds"]

    def spawn(self, *arguments, to=None):
        """Output, and seconds, seconds of the processor and peak memory in MiB."""
        measured = self.lake.folder / "launch.json"
        command = [sys.executable, "-I", "-S", HERE / "launch.py", measured]
        command += [self.binary, "-C", self.lake.warehouse, *arguments]
        with open(to or os.devnull, "wb") as file:
            done = subprocess.run(
                [str(part) for part in command],
                stdout=file if to else subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
            )
        output, errors = (done.stdout or b"").decode(), done.stderr.decode()
        if done.returncode != 0:
            message = f"{' '.join(arguments[:3])} gave {done.returncode}: {errors.strip() or output}"
            raise Failed(message[:2000], output)
        return output, json.loads(measured.read_text(encoding="utf-8"))

    def store(self, works):
        """Has `calc` store the relations that it keeps for itself, and gives what each cost when it was stored."""
        kept = self.lake.folder / "facts.json"
        known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        ids = sorted({id_ for work in works for id_ in self.ids(work)})
        if ids:
            try:
                output, _ = self.spawn("calc", "--full", "--json", *ids)
            except Failed as failure:
                # One indicator that fails, such as for want of memory, is told when its turn comes.
                output = failure.output
                if not output.startswith("{"):
                    raise
            for fact in json.loads(output)["facts"]:
                if fact["gave_way"]:
                    raise Failed(f"{fact['relation']} was not stored: {fact['gave_way']}")
                if fact["stored"]:
                    known[fact["relation"]] = {"rows": fact["rows"], "seconds": fact["seconds"]}
            kept.write_text(json.dumps(known, indent=1), encoding="utf-8")
        return known

    def run(self, work, answer):
        """Computes the work; gives seconds and peak memory, and leaves the answer in the file."""
        found = {"scan": None, "seconds": 0.0, "cpu": 0.0, "peak_mib": 0.0}
        ids = self.ids(work)
        if ids:
            output, used = self.spawn("calc", "--full", "--json", *ids)
            report = json.loads(output)
            gave_way = [scan["gave_way"] for scan in report["scans"] if scan["gave_way"]]
            shared = {part for scan in report["scans"] if not scan["gave_way"] for part in scan["components"]}
            wanted = set().union(*(self.components(id_) for id_ in ids))
            found |= {
                "scan": sum(scan["seconds"] for scan in report["scans"]),
                "seconds": report["seconds"],
                "commit": report["commit_seconds"],
                "values": sum(indicator["seconds"] for indicator in report["indicators"]),
                "scans": len(report["scans"]),
                "gave_way": gave_way,
                "alone": sorted(wanted - shared),
                "cpu": used["cpu"],
                "peak_mib": used["peak_mib"],
            }
        if work.sql:
            file = QUERIES / "ours" / f"{work.sql}.sql"
            _, used = self.spawn("sql", "-f", str(file), "-o", "arrow", to=answer)
            found["seconds"] += used["seconds"]
            found["query"] = used["seconds"]
            found["cpu"] += used["cpu"]
            found["peak_mib"] = max(found["peak_mib"], used["peak_mib"])
        return found

    def answer(self, work, file):
        """The answer of the last run, as a table with the columns of the work."""
        if work.sql:
            with pyarrow.ipc.open_stream(str(file)) as stream:
                return stream.read_all()
        rows = self.values(self.ids(work))
        return getattr(self, f"_{work.name}", self._sixty)(rows)

    def values(self, ids):
        table = self.lake.table("result/indicator_value").to_pyarrow_dataset().to_table()
        wanted = pc.is_in(table["indicator"].cast(pa.string()), pa.array(ids))
        return table.filter(wanted).to_pylist()

    def _q2(self, rows):
        return pa.Table.from_pylist(
            [
                {
                    "level": row["area_level"],
                    "area": row["area"],
                    "year": row["period_start"].year,
                    "service_class": row["service_class"],
                    "clients": row["numerator"],
                }
                for row in rows
                if row["service_class"] is not None
            ]
        )

    def _q3(self, rows):
        cells = {}
        for row in rows:
            if row["service_class"] is None:
                continue
            key = (row["area"], row["period_start"], row["service_class"])
            cell = cells.setdefault(key, {})
            match row["output"]:
                case "median_days":
                    cell |= {"median": row["value"], "waits": row["denominator"]}
                case "p90_days":
                    cell["p90"] = row["value"]
                case "share_over":
                    cell |= {"share_over": row["value"], "over14": row["numerator"]}
        return self._table(cells, ("county", "month", "service_class"))

    def _q4(self, rows):
        cells = {}
        for row in rows:
            if row["unit_code"] is None:
                continue
            cell = cells.setdefault((row["area"], row["unit_code"], row["period_start"]), {})
            if row["indicator"] == "bench.q4_person_years":
                cell |= {"person_years": row["value"], "bp_days": row["numerator"]}
            else:
                cell |= {"sickness_per_htv": row["value"], "sickness_days": row["numerator"]}
        return self._table(cells, ("county", "unit_code", "month"))

    def _q5(self, rows):
        cells = {}
        for row in rows:
            if row["service_code"] is not None:
                cells[row["area"], row["service_code"], row["period_start"]] = {"care_days": row["numerator"]}
        return self._table(cells, ("county", "service_code", "month"))

    def _q7(self, rows):
        cells = {}
        for row in rows:
            if row["service_class"] is None or row["production"] is None:
                continue
            key = (row["area"], row["period_start"], row["service_class"], row["production"])
            cells[key] = {"cost_cents": row["numerator"], "units": row["denominator"], "unit_cost": row["value"]}
        return self._table(cells, ("county", "month", "service_class", "production"))

    def _q8(self, rows):
        cells = {}
        for row in rows:
            if row["cost_centre"] is None:
                continue
            cell = cells.setdefault((row["area"], row["cost_centre"], row["period_start"]), {})
            if row["output"] == "execution":
                cell |= {"actual_cents": row["numerator"], "budget_cents": row["denominator"]}
            else:
                cell["forecast_cents"] = row["numerator"]
        return self._table(cells, ("county", "cost_centre", "month"))

    def _sixty(self, rows):
        of = {
            sixty_id(service, measure, protected): (service, measure)
            for service in CLASSES
            for measure in MEASURES
            for protected in (False, True)
        }
        names = {"visits": "visits", "units": "units", "cost": "cost_cents", "clients": "clients", "over14": "over14"}
        cells = {}
        for row in rows:
            service, measure = of[row["indicator"]]
            cell = cells.setdefault((row["area"], row["period_start"], service), {})
            if measure in names:
                cell[names[measure]] = row["numerator"]
            if measure == "over14":
                cell["waits"] = row["denominator"]
        return self._table(cells, ("county", "month", "service_class"))

    def _table(self, cells, keys):
        return pa.Table.from_pylist([dict(zip(keys, key)) | cell for key, cell in cells.items()])
