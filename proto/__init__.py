"""What the worker side and the coordinator share: message schemas, framing of the link, the root of the errors.

Nothing here knows what a message is for. `engine` and `coordinator` both import this package and never each other.
"""
