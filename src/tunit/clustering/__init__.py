"""From pictures and E's answers to domains: cues, neighbours, the choice of K."""
