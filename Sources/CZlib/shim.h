#include <zlib.h>

/// `inflateInit2` is a macro, which Swift does not import. `bits` is -15 for a raw stream.
static inline int qtools_inflate_init(z_stream *_Nonnull stream, int bits) {
  return inflateInit2(stream, bits);
}
