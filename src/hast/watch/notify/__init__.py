"""hast-notify: tells people and programs of what matters."""
