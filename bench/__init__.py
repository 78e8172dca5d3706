"""Measurements that anybody can repeat, one file a question: ``python -m bench.NAME``."""
