"""WHAT A MAP IS WORTH ON ITS FACE: arrays in, numbers out; no model, no torch."""
