"""The words every room speaks: plain records, no I/O."""
