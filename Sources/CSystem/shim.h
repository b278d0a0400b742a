// What Swift's module of the C library leaves out.
#ifndef CSYSTEM_SHIM_H
#define CSYSTEM_SHIM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__linux__)
#include <malloc.h>
#include <sys/syscall.h>
#include <unistd.h>

/// Bytes that the program holds: allocated and not freed.
static inline size_t qtools_bytes_in_use(void) {
  struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

/// Has the device begin to write a part of a file, and does not wait.
static inline void qtools_start_writing(int descriptor, int64_t offset, int64_t count) {
#if defined(SYS_sync_file_range)
  (void)syscall(SYS_sync_file_range, descriptor, offset, count, 2 /* SYNC_FILE_RANGE_WRITE */);
#else
  (void)descriptor, (void)offset, (void)count;
#endif
}
#endif

#endif
