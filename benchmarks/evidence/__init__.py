"""What is measured of the recipes, run by run, and the pages that are made of it: docs/ledger.md."""
