"""What a person runs that is not a stage of the pipeline: `lineup <command>`."""
