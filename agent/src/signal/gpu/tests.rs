//! Cards in, lines of the page and pages of the API out.
