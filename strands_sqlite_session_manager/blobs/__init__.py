"""Bytes under keys, in blocks that they share: what Strands calls a storage."""
