"""Runs the Python and Node snippets of a page against a running server.

    python snippets.py grpc://127.0.0.1:50051 PAGE.md NODE_FOLDER

The address in the page is replaced by that of the server. A page without both kinds of snippet fails.
"""

import pathlib
import re
import subprocess
import sys

from checks import Checks, holds

ADDRESS = "127.0.0.1:31337"
BLOCK = re.compile(r"^```(python|js)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(language, code, folder):
    if language == "python":
        command, given = [sys.executable, "-"], code
    else:
        command, given = ["node", "--input-type=module", "-"], code
    done = subprocess.run(
        command, input=given, cwd=folder, text=True, capture_output=True, timeout=120
    )
    holds(done.returncode == 0, done.stderr.strip()[-800:])


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: snippets.py URI PAGE.md NODE_FOLDER")
    address = sys.argv[1].removeprefix("grpc://")
    found = BLOCK.findall(pathlib.Path(sys.argv[2]).read_text(encoding="utf-8"))
    checks = Checks("snippets")
    for language in ("python", "js"):
        codes = [code for kind, code in found if kind == language]
        checks.run(f"{language} snippets exist", holds, bool(codes), "none found")
        for number, code in enumerate(codes, 1):
            checks.run(
                f"{language} snippet {number}",
                lambda language=language, code=code: (
                    holds(ADDRESS in code, f"it does not name {ADDRESS}"),
                    run(language, code.replace(ADDRESS, address), sys.argv[3]),
                ),
            )
    checks.finish()


if __name__ == "__main__":
    main()
