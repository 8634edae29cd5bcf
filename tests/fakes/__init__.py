"""The world around xrayd, played from outside it.

Each fake is a context manager that serves from a thread of its own on 127.0.0.1, port 0, and is
driven by ordinary calls from the test: script what it answers, then wait for what it received.
Nothing here imports xrayd.
"""
