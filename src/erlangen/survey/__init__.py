"""The survey: published systems, the claims of their papers, and what runs of them have found."""
