"""Pictures and pages of reports and of advice, for people; programs read the JSON."""
