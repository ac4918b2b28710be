"""What runs in this kernel."""
