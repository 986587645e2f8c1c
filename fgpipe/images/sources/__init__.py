"""Where images can come from; each source lists them with their labels."""
