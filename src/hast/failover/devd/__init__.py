"""hast-devd: events from carpd, the network links and hastd; rules in devd.conf syntax; actions."""
