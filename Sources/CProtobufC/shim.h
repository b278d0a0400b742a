#ifndef QTOOLS_CPROTOBUFC_SHIM_H
#define QTOOLS_CPROTOBUFC_SHIM_H

#include <protobuf-c/protobuf-c.h>

#endif
