"""What all pages that are served share: a server on this machine alone, its guard, its visitors and its jobs."""
