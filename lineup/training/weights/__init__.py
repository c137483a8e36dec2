"""What fine-tuning does with a network's weights beside training all of them: LoRA, and a blend with the start."""
