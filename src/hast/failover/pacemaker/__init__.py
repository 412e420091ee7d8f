"""Where Pacemaker decides who is master: a resource agent and a fence program of hast.conf (docs/pacemaker.md)."""
