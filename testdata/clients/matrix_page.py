"""Makes the conformance matrix of clients and features from what the clients saw.

    python matrix_page.py check|write PAGE.md < lines.jsonl

`check` compares and says how to write the page anew; both refuse a matrix with a failure or a gap.
Standard library only.
"""

import difflib
import json
import pathlib
import sys

FEATURES = [
    "connect",
    "sign in",
    "query",
    "zero rows",
    "types",
    "unicode",
    "large result",
    "parameters ?",
    "parameters $1",
    "typed on bind",
    "many rows of parameters",
    "result schema",
    "partitions",
    "cancel",
    "catalogs",
    "schemas",
    "tables",
    "columns",
    "keys",
    "table schema",
    "table types",
    "sql info",
    "type info",
    "session options",
    "error",
    "update",
    "ingest",
    "close",
]

INTRODUCTION = """\
# Flight SQL clients

What each client can do with the service. Written by `cargo xtask test --only clients`, which runs
every client against a real server and fails when this page tells otherwise.

* `pass`: the client did it and the answer was right;
* `refused`: the service refuses it today and the client reports it, with the status where the client
  tells one, in the words of the client;
* `by name only`: the client finds a table that is named, but lists none: it compares the type of a
  table with a word in lower case;
* `–`: the tests make no such call with this client; it may have none, or nobody wrote the check yet.
"""


def page(lines):
    """The page as Markdown, and what is wrong with the lines."""
    clients = {}
    for line in lines:
        entry = clients.setdefault(line["client"], {"version": line["version"], "found": {}})
        entry["found"][line["feature"]] = line["outcome"]
    wrong = []
    for client, entry in clients.items():
        for feature in FEATURES:
            outcome = entry["found"].get(feature)
            if outcome in (None, "fail"):
                wrong.append(f"{client}, {feature}: {outcome or 'not told'}")
    text = INTRODUCTION + "\n| Client | Version |\n|---|---|\n"
    text += "".join(f"| {name} | {entry['version']} |\n" for name, entry in clients.items())
    text += "\n| Feature | " + " | ".join(clients) + " |\n|---" + "|---" * len(clients) + "|\n"
    for feature in FEATURES:
        cells = [entry["found"].get(feature, "fail") for entry in clients.values()]
        cells = ["–" if cell == "not tried" else cell for cell in cells]
        text += f"| {feature} | " + " | ".join(cells) + " |\n"
    return text, wrong


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("check", "write"):
        sys.exit("usage: matrix_page.py check|write PAGE.md < lines.jsonl")
    text, wrong = page([json.loads(line) for line in sys.stdin if line.strip()])
    if wrong:
        sys.exit("the matrix has failures:\n" + "\n".join(wrong))
    path = pathlib.Path(sys.argv[2])
    if sys.argv[1] == "write":
        path.write_text(text, encoding="utf-8")
        return
    current = path.read_text(encoding="utf-8") if path.exists() else ""
    if current != text:
        diff = difflib.unified_diff(
            current.splitlines(), text.splitlines(), "page", "seen", lineterm=""
        )
        print("\n".join(diff), file=sys.stderr)
        sys.exit(
            f"{path.name} differs from what the clients saw; read the lines above, then write it "
            "with `BLESS=1 cargo xtask test --only clients`"
        )


if __name__ == "__main__":
    main()
