"""What turns pictures and E's answers into domains: cues, neighbours, the choice of K."""
