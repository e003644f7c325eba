"""Jobs: described work on disks, what is measured of it, and reports.

A worker imports it, so nothing is loaded here.
"""
