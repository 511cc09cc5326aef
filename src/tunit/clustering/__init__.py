"""Find domains from pictures and E's output: cues, neighbours, the choice of K."""
