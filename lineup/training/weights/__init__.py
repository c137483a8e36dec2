"""What fine-tuning does with weights beside training all of them: LoRA, and a blend with the start."""
