"""Commands that serve pages to the browser of this machine."""
