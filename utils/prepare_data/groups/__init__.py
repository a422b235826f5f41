"""Which images show the same part, and which parts are held out."""
