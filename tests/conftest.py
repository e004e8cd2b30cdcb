"""What every test shares: nothing yet but the rule that tests find their fixtures in the folder that they belong to."""
