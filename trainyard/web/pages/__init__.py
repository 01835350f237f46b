"""The dashboard's pages: rendered here, kept alive by htmx and SSE; without a script they still show what is."""
