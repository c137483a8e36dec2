"""What a row costs: time, disk and dollars, as they were measured and as a run is expected to take them."""
