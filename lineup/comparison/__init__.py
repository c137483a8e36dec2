"""All rows beside each other, as records and as tables of figures: which is best, and by more than chance."""
