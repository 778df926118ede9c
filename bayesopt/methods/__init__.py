"""From histories to proposals, a method a file."""
