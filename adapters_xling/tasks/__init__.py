"""Tasks: their YAML files, their rows, and the kinds that give them form."""
