"""From margins to regions: where a region begins and ends, and what it measures."""
