"""What people look at: pictures, plots and the page about an evaluation."""
