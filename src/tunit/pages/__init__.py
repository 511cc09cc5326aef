"""HTML pages that need no network: the frame, style, tables, pictures and charts that all pages share."""
