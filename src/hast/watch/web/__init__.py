"""The web page of hast-monitor(8): what it shows is made here, the browser only draws it (docs/web.md)."""
