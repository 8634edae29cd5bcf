"""The command line: the X-Ray daemon's flags, and one file per subcommand."""
