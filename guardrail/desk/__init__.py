"""People in front, rooms behind: the command line, the demo and its report."""
