"""The command line: one file a command. What a command needs is imported inside it, so that `--help` is quick."""
