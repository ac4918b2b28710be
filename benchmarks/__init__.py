"""What is measured, beside peers and limits in the same run; see README.md."""
