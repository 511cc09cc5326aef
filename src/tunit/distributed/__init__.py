"""Several processes that train together: how they find each other, what they exchange, how they wait and end."""
