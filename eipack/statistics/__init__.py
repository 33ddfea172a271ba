"""What latencies allow to be said: intervals, verdicts on limits, steadiness, differences."""
