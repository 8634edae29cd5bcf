"""The spool: append-only files on disk that keep what was received until it is delivered."""
