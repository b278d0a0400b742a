#include <malloc.h>
#include <stddef.h>

/// Bytes that the program holds: allocated and not freed.
static inline size_t qtools_bytes_in_use(void) {
  struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}
