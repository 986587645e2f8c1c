"""Image files, what a table of them says, splits and transforms."""
