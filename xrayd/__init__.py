"""xrayd: a drop-in replacement for the AWS X-Ray daemon, and X-Ray itself on a laptop."""

__version__ = "0.1.0"
