"""The page: what people open, click and believe. `desk` shares the model, `session` is one visitor's own, `actions*` do
what is asked without knowing of a page, `viewer` is the film that can be clicked, `tabs` lay it out, `words` holds the
wording, `build` makes the page and `serve` opens it."""
