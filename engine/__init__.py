"""The worker side: the ring, the disks, the requests, and the event loop that a program runs on.

A worker is one process with one thread. It talks to the coordinator through messages alone and never imports its code.
"""
