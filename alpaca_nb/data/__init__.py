"""What has been received, without any input or output."""
