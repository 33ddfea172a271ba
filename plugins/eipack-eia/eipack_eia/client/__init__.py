"""The side that calls: control requests, uploads, and the data path."""
