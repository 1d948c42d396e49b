"""Looking at trainings."""
