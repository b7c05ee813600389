"""What results say, as plain JSON values and as rows of words: the same on the command line and on the page.

One file a kind of result. Knows how to word what was found; measures nothing, decides nothing about what is good, and
knows neither a terminal nor a page.
"""
