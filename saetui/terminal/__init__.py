"""What the terminal can do, and pictures made of its cells."""
