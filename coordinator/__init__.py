"""The coordinator: ids, checkpoints, release tokens, record and replay, the tape.

It knows workers by their messages alone and never imports the engine.
"""
