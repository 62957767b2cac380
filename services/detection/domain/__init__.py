"""What detection knows, free of IO: text, rules, engines, verdicts, alerts and containments, one concept a module.

The path of an interaction: `normalisation` and `decoding` make views of its text, `matching` finds which rules touch
them, `inspection` gathers findings from every kind of rule, `verdict` weighs them, `evidence` shows them without
repeating a secret. `sessions` holds what a single interaction cannot show.
"""
