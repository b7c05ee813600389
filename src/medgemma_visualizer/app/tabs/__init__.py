"""One file a tab; each has `create(page)`."""
