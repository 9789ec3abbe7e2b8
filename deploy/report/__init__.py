"""The trade-off report: a pure function of results files."""
