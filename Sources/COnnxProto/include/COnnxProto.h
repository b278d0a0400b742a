// Umbrella header of the target: the messages of Schemas/onnx.proto.
//
// onnx.pb-c.h and onnx.pb-c.c are generated (scripts/generate.sh); this file is
// not. A message is read with onnx__model_proto__unpack(NULL, length, bytes) and
// given back with onnx__model_proto__free_unpacked(message, NULL).

#ifndef QTOOLS_CONNXPROTO_H
#define QTOOLS_CONNXPROTO_H

#include "onnx.pb-c.h"

#endif
