"""`imagegen play`: pages on which one draws from runs, edits pictures with them and watches them train."""
