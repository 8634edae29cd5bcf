"""Sampling: rules, matching, reservoirs, the broker between local samplers and AWS, and the
daemon's own decision.

Pure: bytes, values and `now` (float epoch seconds, the wall clock) in; bytes, values and verdicts
out.
"""
