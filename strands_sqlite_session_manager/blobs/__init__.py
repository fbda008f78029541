"""Bytes under keys, in shared blocks: what Strands calls a storage."""
