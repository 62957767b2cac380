"""The detection service: rules, inspections, alerts and containments."""
