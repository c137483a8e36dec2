"""Fine-tuning: one loop for every objective."""
