"""One file a recipe; each opens with the command that runs it."""
