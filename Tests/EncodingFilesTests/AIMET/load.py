"""Loads encodings files into AIMET and prints what it made of them.
Usage: check.py MODEL.onnx FILE... (needs aimet-onnx 2.42.0)"""
import json, logging, sys
logging.disable(logging.INFO)
import onnx
from aimet_onnx import QuantizationSimModel
from aimet_onnx.quantsim import load_encodings_to_sim

result = {}
for path in sys.argv[2:]:
    name = path.rsplit('/', 1)[-1]
    try:
        sim = QuantizationSimModel(onnx.load(sys.argv[1]))
        found = load_encodings_to_sim(sim, path, strict=False)
        tensors = {}
        for key, q in sorted(sim.qc_quantize_op_dict.items()):
            if not q.enabled:
                tensors[key] = 'off'
                continue
            enc = q.get_encodings()
            if enc is None:
                tensors[key] = 'none'
                continue
            tensors[key] = dict(bitwidth=q.bitwidth, symmetric=bool(q.use_symmetric_encodings),
                                delta=[e.delta for e in enc], offset=[e.offset for e in enc])
        result[name] = dict(loaded=True, mismatched=[str(m) for m in (found or [])], tensors=tensors)
    except Exception as e:
        result[name] = dict(loaded=False, error='%s: %s' % (type(e).__name__, e))
print(json.dumps(result, indent=1, sort_keys=True))
