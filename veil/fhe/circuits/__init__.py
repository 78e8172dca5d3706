"""The placement circuits, one file a design, each with its clear reference beside it.

The references need nothing but integers; only the files that build circuits import Concrete, and only ceremony and tests
import those.
"""
