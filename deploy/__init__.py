"""From ONNX to engines, measurements and the trade-off report. Imports and runs without torch."""
