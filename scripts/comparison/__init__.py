"""What `bellmark compare` is made of: contestants, runs, readers, statistics over runs, and a report."""
