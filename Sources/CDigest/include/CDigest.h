// SHA-256 by the instructions that processors have for it.
#ifndef CDIGEST_H
#define CDIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Runs the compression function over `count` blocks of 64 bytes. Gives false, and does nothing, on
/// processors without the instructions.
bool digest_sha256(uint32_t *_Nonnull state, const void *_Nonnull blocks, size_t count);

#endif
