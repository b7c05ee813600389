"""What is asked of the page, without any page: plain functions from a session to values to show, one file a tab."""
