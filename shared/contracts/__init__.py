"""The published language: what services say to each other, as data.

No behaviour and no IO. A new optional field keeps a contract's version; any other change is a v2 beside the v1.
"""
