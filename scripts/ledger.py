#!/usr/bin/env python3
"""Makes docs/ledger.md and its figure from JSON: scripts/ledger.py [--check] [--stamp FILE RECIPE ...].

--check writes nothing and fails where the page is not what it would write, or a page shows a file that does not say
what it was measured of. --stamp notes that a file of benchmarks/results/ was just measured of these recipes as they are
(of none: that it depends on no training); then the page is made anew.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from evidence import figures, ledger, summary  # noqa: E402


def problems() -> list[str]:
    """Says what is wrong with the page and with what pages show; [] where nothing is."""
    found = [
        f"{file} is shown, and does not say what it was measured of: scripts/ledger.py --stamp {file} RECIPE ..."
        for file in figures.unstamped()
    ]
    written = ledger.PAGE.read_text() if ledger.PAGE.exists() else ""
    if written != ledger.page():
        found.append(f"{ledger.PAGE.relative_to(ROOT)} is not what its JSON says: make ledger")
    return found


def main() -> None:
    """Checks, or stamps and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--stamp", nargs="+", metavar=("FILE", "RECIPE"))
    options = parser.parse_args()
    if options.check:
        found = problems()
        sys.exit("\n".join(found) if found else 0)
    if options.stamp:
        figures.stamp(options.stamp[0], options.stamp[1:])
    summary.draw()
    ledger.PAGE.write_text(ledger.page())
    print(f"{ledger.PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
