"""How AI assets are scored: pure functions over data, exact decimals, time as an argument.

`model` is the scoring model as versioned data, `formula` the specification's assessment with it, `adjustments` what
happens to an asset on top, and `assessment` the two joined into the record that risk keeps.
"""
