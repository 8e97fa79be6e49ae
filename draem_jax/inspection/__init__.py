"""Looking at pictures: predictions, previews."""
