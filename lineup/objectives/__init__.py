"""What an encoder is fine-tuned with: one objective per file."""
