"""The gateway: who you are, how much you may ask, and which service answers. No business rule."""
