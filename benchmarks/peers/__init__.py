"""hipedge beside what people run today: the same films to the same crops and scores."""
