"""The memory that a training needs: estimates, measured steps, the largest batch that fits."""
