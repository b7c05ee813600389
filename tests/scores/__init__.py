"""Numbers equal hand-computed values or an independent oracle, named in the test."""
