"""What the book's chapters need beside the library: data, networks, figures."""
