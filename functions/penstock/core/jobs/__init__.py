"""Work that outlives its request: accepted once, run under a lease by whoever claims it, ended once."""
