"""Filter expressions: the language of GetTraceSummaries, groups and selectors."""
