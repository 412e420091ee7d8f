"""What a drill found, as text and as one HTML page that fetches nothing. No I/O: strings."""
