"""One module a command, each light to import."""
