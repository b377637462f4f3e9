"""Looking at a study in the browser; reads only the record."""
