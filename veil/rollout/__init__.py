"""Pure functions: what to create and remove, given desired and observed Instances, and how a Workload's status reads.

Used by the controllers (which act) and by the node (which shows), so that both mean the same by the same words.
"""
