"""What the client scripts of this folder share: named checks, counted and told.

A script makes one `Checks`, runs every check through it, and ends with `finish`. A failed check
does not stop the others. Standard library only.
"""

import sys
import traceback


class Checks:
    """Runs checks and counts how they went."""

    def __init__(self, title):
        self.title = title
        self.passed = 0
        self.failed = 0

    def run(self, name, check, *arguments):
        """Runs one check; says its name, and why it failed if it did."""
        try:
            check(*arguments)
        except Exception as error:  # a check may fail in any way
            self.failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}")
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"       line {where.lineno}: {where.line}")
        else:
            self.passed += 1
            print(f"ok     {name}")

    def finish(self):
        """Prints the counts and ends the program: status 1 when a check failed or none ran."""
        print(f"{self.title}: {self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed or not self.passed else 0)


def equal(found, wanted):
    """Fails unless both are the same."""
    if found != wanted:
        raise AssertionError(f"found {found!r:.500}, wanted {wanted!r:.500}")


def holds(truth, message):
    """Fails with the message unless it is true."""
    if not truth:
        raise AssertionError(message)


def raises(kind, says, work):
    """Fails unless the work raises an error of this kind that says this."""
    try:
        work()
    except kind as error:
        if says not in str(error):
            raise AssertionError(f"the error does not say {says!r}: {str(error)[:500]}") from error
        return error
    raise AssertionError(f"no {kind.__name__} was raised")
