"""What commands share: requests, options, runs, targets, errors."""
