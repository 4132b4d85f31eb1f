"""Prints the conformance matrix as a page: what the client scripts have seen, and nothing else.

    python page.py RESULTS

RESULTS is the file of JSON lines that the scripts write with MATRIX_RESULTS set.
"""

import json
import sys

from matrix import FEATURES, REFUSED

INTRODUCTION = """\
# Flight SQL clients

What each client can do with the service, written by `cargo xtask test --only clients`: it serves a
demo warehouse, lets every client try every feature, and fails when this page tells otherwise. With
`BLESS=1` it writes the page anew. How to connect: [connect a client](../how-to/connect-a-client.md).

| | means |
|---|---|
| yes | the client did it, and the answer was right |
| refused | the client asked and the service refuses it, with the status told [below](#refused) |
| client | the client has a call for it and fails in it; the number tells [how](#faults-of-clients) |
| – | the client has no call for it |

No cell is a mistake of the service: a client that gets a wrong answer fails the tests. JDBC and ODBC
drivers, and the tools that bring them, are not in the list, because they cannot be installed where
the tests run; their calls are replayed from records by the tests of the server.
"""
CELLS = {"pass": "yes", "refused": "refused", "not offered": "–", "fail": "**fails**"}


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: page.py RESULTS")
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    clients = list(dict.fromkeys(line["client"] for line in lines))
    versions = {line["client"]: line["versions"] for line in lines}
    results = {(line["client"], line["feature"]): line for line in lines}

    print(INTRODUCTION)
    print("## Clients\n\n| | packages |\n|---|---|")
    for client in clients:
        print(f"| {client} | {', '.join(versions[client])} |")

    notes = []

    def cell(client, feature):
        line = results[client, feature]
        if line["result"] != "client fault":
            return CELLS[line["result"]]
        note = f"{client}, {titles[feature]}: {line['note']}."
        if note not in notes:
            notes.append(note)
        return f"client ({notes.index(note) + 1})"

    titles = {name: title for group in FEATURES.values() for name, title in group.items()}
    for group, features in FEATURES.items():
        print(f"\n## {group}\n\n| | {' | '.join(clients)} |\n|---{'|---' * len(clients)}|")
        for feature, title in features.items():
            print(f"| {title} | {' | '.join(cell(client, feature) for client in clients)} |")

    if REFUSED:
        print("\n## Refused\n")
        for name, status in REFUSED.items():
            print(f"* {titles[name]}: `{status}`")
    if notes:
        print("\n## Faults of clients\n")
        for number, note in enumerate(notes, 1):
            print(f"{number}. {note}")


if __name__ == "__main__":
    main()
